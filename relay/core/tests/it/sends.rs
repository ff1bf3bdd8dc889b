//! Send numbers.

use bytes::Bytes;
use quip_core::{
    Action, Authority, By, Command, Folded, JoinAs, Key, Kind as _, Loaded, Record, SendsRecord, record::SendsKey,
};
use quip_protocol::{
    Blob, Code, UserId,
    conversation::{self, Add, Delete, Edit, JOIN_CHECK, Leave, Open, Post, React, Remove, SetRole, SetTitle},
    frame::{self, Message, to_bytes},
    limit,
};

use crate::world::{GRANTED, ROOM, World, changed, device, room, text, user};

fn numbered(name: &str, of: u8, n: u64, action: Action) -> Command {
    let by = By::Device { user: user(name), device: device(of), n };
    Command { conversation: room(), by, authority: GRANTED, action }
}

fn post(n: u64, body: &str) -> Command {
    numbered("a", 1, n, text(body))
}

/// A room with `a`, whose device 1 has posted `2..=last` after its join.
fn world(last: u64) -> World {
    let mut world = World::default();
    world.room_of(&["a"]);
    for n in 2..=last {
        world.apply(&post(n, &n.to_string()), 1000 + n);
    }
    world
}

/// Nothing but an answer.
fn answered(folded: &Folded) -> (Code, u64) {
    assert!(folded.writes.is_empty());
    assert!(folded.event.is_none() && folded.effects.is_empty());
    let outcome = folded.outcome.unwrap();
    (outcome.code, outcome.seq)
}

#[test]
fn a_repeat_gets_the_first_outcome() {
    let mut world = world(1);
    let first = world.apply(&post(2, "once"), 500).outcome.unwrap();
    world.apply(&post(3, "then"), 600);
    let before = world.clone();
    let again = world.apply(&post(2, "once"), 9000);
    assert_eq!(answered(&again), (Code::DONE, 2));
    assert_eq!(again.outcome.unwrap(), first, "time and number included");
    assert_eq!(world, before);
}

#[test]
fn a_refusal_is_repeated_although_it_would_pass_now() {
    let mut world = world(2);
    let mut muted = post(3, "x");
    muted.authority.post = false;
    let refused = world.apply(&muted, 500);
    assert!(changed::<SendsRecord>(&refused), "a final refusal uses the number up");
    assert_eq!(answered(&world.apply(&post(3, "x"), 600)), (Code::FORBIDDEN, 0));
    assert_eq!(world.apply(&post(4, "x"), 600).outcome.unwrap().code, Code::DONE);
}

#[test]
fn other_content_under_the_same_number_is_reused() {
    let mut world = world(2);
    let edit = |target, body| Action::Edit { target, body: Bytes::from_static(body) };
    world.apply(&numbered("a", 1, 3, edit(2, b"x")), 1);
    let before = world.clone();
    for other in [text("x"), edit(2, b"y"), edit(1, b"x"), Action::Delete { target: 2 }, Action::Leave] {
        assert_eq!(answered(&world.apply(&numbered("a", 1, 3, other), 2)), (Code::REUSED, 0));
    }
    let Action::Post { body, .. } = text("2") else { unreachable!() };
    let data = Action::Post { kind: quip_protocol::event::kind::DATA, body };
    assert_eq!(answered(&world.apply(&numbered("a", 1, 2, data), 2)), (Code::REUSED, 0), "the kind counts");
    assert_eq!(world, before);
}

#[test]
fn a_join_repeated_by_another_name_is_the_same_join() {
    let mut world = world(1);
    let by_id = numbered("a", 1, 1, Action::Join(JoinAs::Existing));
    assert_eq!(answered(&world.apply(&by_id, 2)), (Code::DONE, 1));
    assert_eq!(answered(&world.apply(&numbered("a", 1, 1, Action::Leave), 2)), (Code::REUSED, 0));
}

#[test]
fn a_gap_is_missing_and_says_the_last() {
    let mut world = world(5);
    let before = world.clone();
    for n in [7, 8, u64::MAX] {
        assert_eq!(answered(&world.apply(&post(n, "x"), 1)), (Code::MISSING, 5));
    }
    assert_eq!(answered(&world.apply(&numbered("a", 2, 2, text("x")), 1)), (Code::MISSING, 0), "another device");
    assert_eq!(answered(&world.apply(&numbered("b", 1, u64::MAX, text("x")), 1)), (Code::MISSING, 0));
    assert_eq!(world, before);
    assert_eq!(world.apply(&post(6, "x"), 1).outcome.unwrap().code, Code::DONE);
}

#[test]
fn the_window_holds_the_latest_and_no_more() {
    let last = 3 * limit::UNANSWERED;
    let mut world = world(last);
    let row = world.sends(room(), "a", 1).unwrap();
    assert!(row.last == last && (limit::UNANSWERED..limit::UNANSWERED + 9).contains(&(row.latest.len() as u64)));
    let oldest = last - limit::UNANSWERED + 1;
    for n in 1..=last {
        let answer = answered(&world.apply(&post(n, &n.to_string()), 1));
        assert_eq!(answer, if n < oldest { (Code::KNOWN, 0) } else { (Code::DONE, n) }, "{n}");
    }
    assert_eq!(answered(&world.apply(&post(oldest, "other"), 1)), (Code::REUSED, 0));
    assert_eq!(answered(&world.apply(&post(oldest - 1, "other"), 1)), (Code::KNOWN, 0), "nothing is known of it");
}

#[test]
fn devices_count_apart() {
    let mut world = world(3);
    let first = numbered("a", 2, 1, text("from the other device"));
    assert_eq!(world.apply(&first, 1).outcome.unwrap().code, Code::DONE);
    assert_eq!(world.sends(room(), "a", 1).unwrap().last, 3);
    assert_eq!(world.sends(room(), "a", 2).unwrap().last, 1);
}

#[test]
fn a_refusal_where_there_is_no_conversation_uses_no_number_up_and_leaves_nothing() {
    let mut world = World::default();
    let poor = Authority { create: false, ..GRANTED };
    let join = |n| Command { authority: poor, ..numbered("a", 1, n, Action::Join(JoinAs::Room(ROOM.into()))) };
    for (command, code) in [(join(1), Code::NOT_FOUND), (post(1, "x"), Code::NOT_FOUND), (join(2), Code::MISSING)] {
        assert_eq!(answered(&world.apply(&command, 7)), (code, 0));
    }
    assert!(world.stored.is_empty());
    world.apply(&numbered("b", 1, 1, Action::Join(JoinAs::Room(ROOM.into()))), 8);
    assert_eq!(answered(&world.apply(&join(2), 9)), (Code::MISSING, 0));
    assert_eq!(world.apply(&join(1), 9).outcome.unwrap().code, Code::DONE);
    assert!(changed::<SendsRecord>(&world.apply(&numbered("c", 1, 1, Action::Leave), 9)), "now it is recorded");
}

#[test]
fn a_device_that_was_silent_for_long_is_forgotten() {
    let mut world = world(80);
    let forget = |before| Command::forget(SendsKey(room(), device(1), user("a")), before);
    let parts = |world: &World| world.stored.keys().filter(|key| key[0] == SendsRecord::NUMBER).count();
    assert_eq!(parts(&world), 9);
    let before = world.clone();
    let kept = world.apply(&forget(1080), 9000);
    assert!(kept.writes.is_empty() && kept.outcome.is_none() && kept.effects.is_empty(), "it was used then");
    assert_eq!(world, before);
    let forgotten = world.apply(&forget(1081), 9000);
    assert_eq!((forgotten.writes.len(), parts(&world)), (1, 0), "no part is left");
    assert!(world.apply(&forget(1081), 9000).writes.is_empty(), "nothing is there any more");
    assert_eq!(answered(&world.apply(&post(81, "x"), 9001)), (Code::MISSING, 0));
    assert_eq!(world.apply(&post(1, "first again"), 9001).outcome.unwrap().seq, 81);
    assert_eq!(parts(&world), 1);
}

#[test]
fn a_command_without_a_number_does_nothing() {
    let world = world(2);
    let command = post(0, "x");
    let keys = quip_core::keys(&command);
    assert!(!keys.iter().any(|key| matches!(key, Key::Sends(_))));
    let loaded = Loaded::new(vec![
        (keys[0].clone(), world.conversation(room()).map(Record::from)),
        (keys[1].clone(), world.member(room(), "a").map(Record::from)),
    ]);
    assert_eq!(answered(&quip_core::fold(&command, 1, loaded)), (Code::KNOWN, 0));
}

/// What is hashed for a number is stored, so it must stay what it is.
#[test]
fn the_hash_is_of_the_message_without_its_number() {
    let mut world = world(1);
    world.apply(&post(2, "hi"), 1);
    world.apply(&numbered("a", 1, 3, Action::React { target: 2, add: true, reaction: "+1".into() }), 1);
    let hash = |bytes: &[u8]| u64::from_le_bytes(blake3::hash(bytes).as_bytes()[..8].try_into().unwrap());
    let row = world.sends(room(), "a", 1).unwrap();
    assert_eq!(row.latest[0].hash, hash(&[0x20]), "a join, whatever it names");
    assert_eq!(row.latest[1].hash, hash(b"\x22\x01\x02hi"), "a post: kind, length, body");
    assert_eq!(row.latest[2].hash, hash(b"\x28\x02\x01\x02+1"), "a reaction: target, add, length, text");
}

/// The check of a message that a client sent.
fn check_of<M: Message>(message: &M) -> [u8; 4] {
    let frame = to_bytes(message);
    let (frame, _) = frame::split(&frame, 1000).unwrap().unwrap();
    // Behind two bytes of n.
    conversation::check(frame.kind, &frame.body[2..])
}

#[test]
fn the_check_of_a_command_is_that_of_its_message() {
    let (n, target, user, title, body) = (300, 301, "bob", "Tee", Bytes::from_static(b"hi"));
    let to = UserId::parse(user).unwrap();
    let table = [
        (Action::Post { kind: 2, body: body.clone() }, check_of(&Post { n, kind: 2, body: Blob(&body) })),
        (Action::Edit { target, body: body.clone() }, check_of(&Edit { n, target, body: Blob(&body) })),
        (Action::Delete { target }, check_of(&Delete { n, target })),
        (
            Action::React { target, add: true, reaction: "+1".into() },
            check_of(&React { n, target, add: true, reaction: "+1" }),
        ),
        (Action::Leave, check_of(&Leave { n })),
        (Action::Add { user: to.clone() }, check_of(&Add { n, user })),
        (Action::Remove { user: to.clone(), ban: true }, check_of(&Remove { n, user, ban: true })),
        (Action::SetRole { user: to, role: 2 }, check_of(&SetRole { n, user, role: 2 })),
        (Action::SetTitle { title: title.into() }, check_of(&SetTitle { n, title })),
        (Action::Join(JoinAs::Existing), JOIN_CHECK),
        (Action::Join(JoinAs::NewGroup), JOIN_CHECK),
    ];
    for (action, check) in table {
        assert_eq!(quip_core::check(&action), check, "{action:?}");
    }
    assert_eq!(conversation::check(Open::TYPE, &[]), JOIN_CHECK);
}

#[test]
fn a_relay_has_no_numbers() {
    let mut world = world(2);
    let command = Command { conversation: room(), by: By::Relay, authority: Authority::default(), action: text("x") };
    let folded = world.apply(&command, 1);
    assert_eq!((folded.writes, folded.event, folded.outcome), (Vec::new(), None, None));
}
