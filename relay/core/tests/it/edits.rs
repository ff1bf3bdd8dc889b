//! Edits, and that a deletion leaves no copy of what was deleted.

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use quip_core::{Action, Effect, JoinAs};
use quip_protocol::{Blob, Code, ConversationId, event, event::kind, limit};

use crate::world::{GRANTED, World, room, text};

fn edit(target: u64, body: &str) -> Action {
    Action::Edit { target, body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn delete(target: u64) -> Action {
    Action::Delete { target }
}

/// Whether anything that is stored holds these bytes.
fn is_stored(world: &World, content: &str) -> bool {
    world.stored.values().any(|row| row.windows(content.len()).any(|part| part == content.as_bytes()))
}

/// The kind of an event, and the event that deleted it.
fn kind_and_by(world: &World, id: ConversationId, seq: u64) -> (u64, Option<u64>) {
    let event = world.event(id, seq).unwrap();
    let by = (event.kind == kind::TOMBSTONE).then(|| postcard::from_bytes::<event::Tombstone>(&event.body).unwrap().by);
    (event.kind, by)
}

#[test]
fn a_deletion_takes_every_edit_with_it() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "b", text("first secret"));
    world.ok(id, "b", edit(3, "second secret"));
    world.ok(id, "a", text("between"));
    world.ok(id, "b", edit(3, "third secret"));
    world.ok(id, "b", text("of another"));
    world.ok(id, "b", edit(7, "of another, edited"));
    let before: Vec<_> =
        [3, 4, 6].map(|seq| (world.event(id, seq).unwrap(), world.event_record(id, seq).unwrap())).into();
    assert!(is_stored(&world, "secret"));
    world.ok(id, "a", Action::SetRole { user: crate::world::user("b"), role: event::role::ADMIN });
    assert_eq!(world.ok(id, "b", delete(3)).seq, 10);

    assert!(!is_stored(&world, "secret"));
    for (event, row) in before {
        let seq = event.seq;
        let body = postcard::to_stdvec(&event::Tombstone { by: 10 }).unwrap();
        assert_eq!(world.event(id, seq), Some(crate::world::Seen { kind: kind::TOMBSTONE, body, ..event }));
        let after = world.event_record(id, seq).unwrap();
        assert_eq!((after.user, after.device, after.n), (row.user, row.device, row.n), "{seq}");
    }
    assert!(world.edits(id, 3).is_none(), "nothing is noted of what is gone");
    assert_eq!(world.edits(id, 7).unwrap().edits.len(), 1, "another message's are its own");
    assert!(is_stored(&world, "of another, edited"));
}

#[test]
fn edits_of_a_message_are_limited() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("first secret"));
    for i in 0..limit::EDITS {
        world.ok(id, "a", edit(2, &format!("secret {i}")));
    }
    assert_eq!(world.refused(id, "a", edit(2, "one more")), Code::TOO_MANY_EDITS);
    assert_eq!(world.ok(id, "a", edit(2, &format!("secret {}", limit::EDITS - 1))).seq, 0, "what it says already");
    world.ok(id, "a", text("another"));
    world.ok(id, "a", edit(world.conversation(id).unwrap().head, "may be edited"));
    // The world counts the rows that a command writes.
    world.ok(id, "a", delete(2));
    assert!(!is_stored(&world, "secret"));
}

/// The world compares what a command writes with its weight.
#[test]
fn no_edit_or_deletion_writes_more_than_its_weight_allows() {
    let name = "n".repeat(limit::USER);
    let mut world = World { now: 1 << 41, ..World::default() };
    let id = world.room_of(&[&name]);
    let mut act = |of, action| {
        world.now += 1 << 32;
        let outcome = world.act_with(id, &name, of, GRANTED, action);
        assert_eq!(outcome.code, Code::DONE);
    };
    act(2, Action::Join(JoinAs::Existing));
    act(1, text("x"));
    (0..limit::EDITS).for_each(|i| act(1 + i as u8 % 2, edit(2, ["y", "x"][i % 2])));
    act(1, delete(2));
}

#[test]
fn new_content_of_a_text_is_text() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "a", text("text"));
    world.ok(id, "a", Action::Post { kind: kind::DATA, body: Bytes::from_static(b"\xff") });
    let edit = |target| Action::Edit { target, body: Bytes::from_static(b"\xff\xfe") };
    assert_eq!(world.refused(id, "a", edit(3)), Code::NOT_TEXT);
    assert_eq!(world.refused(id, "b", edit(3)), Code::FORBIDDEN, "whose it is comes first");
    world.ok(id, "a", edit(4));
}

#[test]
fn an_edit_may_be_deleted_alone() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "b", text("as posted"));
    world.ok(id, "b", edit(3, "slip of the hand"));
    world.ok(id, "b", edit(3, "as meant"));
    assert_eq!(world.act(id, "b", GRANTED, delete(5)).seq, 6);
    assert_eq!(kind_and_by(&world, id, 5), (kind::TOMBSTONE, Some(6)));
    assert!(!is_stored(&world, "as meant") && is_stored(&world, "slip of the hand") && is_stored(&world, "as posted"));
    assert_eq!(world.refused(id, "b", delete(5)), Code::NO_TARGET);
    world.ok(id, "a", delete(4));
    world.ok(id, "b", delete(3));
    assert_eq!([3, 4, 5].map(|seq| kind_and_by(&world, id, seq)), [(kind::TOMBSTONE, Some(8)); 3]);
}

#[test]
fn an_edit_that_outlives_its_message_can_be_deleted() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("trimmed"));
    world.ok(id, "a", edit(2, "kept"));
    world.relay(id, Action::Trim { first_kept: 3 });
    assert_eq!(world.refused(id, "a", delete(2)), Code::NO_TARGET);
    world.ok(id, "a", delete(3));
    assert!(!is_stored(&world, "kept"));
}

#[test]
fn only_the_author_and_those_who_lead_delete_an_edit() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b", "c"]);
    world.ok(id, "b", text("posted"));
    world.ok(id, "b", edit(4, "edited"));
    assert_eq!(world.refused(id, "c", delete(5)), Code::FORBIDDEN);
    assert_eq!(world.refused(id, "a", edit(5, "x")), Code::NO_TARGET, "edits are of messages");
    world.ok(id, "a", delete(5));
}

/// What is done to one of the messages so far.
#[derive(Debug, Clone)]
enum Deed {
    Post,
    Edit(Index),
    Delete(Index),
    /// Deletes one edit of the message.
    Revert(Index, Index),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Post),
        6 => any::<Index>().prop_map(Deed::Edit),
        1 => any::<Index>().prop_map(Deed::Delete),
        1 => any::<(Index, Index)>().prop_map(|(message, edit)| Deed::Revert(message, edit)),
    ]
}

/// A message and its edits: where each copy of the content is, and which it is.
type Copies = Vec<(u64, String)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every content is one of a kind, so that it can be looked for in the bytes of all rows.
    #[test]
    fn what_was_deleted_is_nowhere_and_the_rest_is_there(deeds in prop::collection::vec((deed(), 1..4u8), 1..80)) {
        let mut world = World::default();
        world.room_of(&["a"]);
        for n in 2..4 {
            let join = Action::Join(JoinAs::Existing);
            prop_assert_eq!(world.act_with(room(), "a", n, GRANTED, join).code, Code::DONE);
        }
        let (mut messages, mut gone): (Vec<Copies>, Vec<String>) = Default::default();
        for (i, (deed, device)) in deeds.iter().enumerate() {
            let body = format!("<content {i}>");
            let mut act = |action| world.act_with(room(), "a", *device, GRANTED, action);
            match deed {
                Deed::Post => messages.push(vec![(act(text(&body)).seq, body)]),
                _ if messages.is_empty() => {}
                Deed::Edit(which) => {
                    let copies = which.get_mut(&mut messages);
                    copies.push((act(edit(copies[0].0, &body)).seq, body));
                }
                Deed::Delete(which) => {
                    let copies = messages.remove(which.index(messages.len()));
                    prop_assert_eq!(act(delete(copies[0].0)).code, Code::DONE);
                    gone.extend(copies.into_iter().map(|(_, body)| body));
                }
                Deed::Revert(which, edit) => {
                    let copies = which.get_mut(&mut messages);
                    if copies.len() > 1 {
                        let (seq, body) = copies.remove(1 + edit.index(copies.len() - 1));
                        prop_assert_eq!(act(delete(seq)).code, Code::DONE);
                        gone.push(body);
                    }
                }
            }
        }
        for body in &gone {
            prop_assert!(!is_stored(&world, body), "{}", body);
        }
        for (seq, body) in messages.iter().flatten() {
            let event = world.event(room(), *seq).unwrap();
            prop_assert!(event.body.ends_with(body.as_bytes()), "{}", body);
        }
    }
}

#[test]
fn an_edit_to_what_the_message_says_is_no_event() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("as posted"));
    assert_eq!(world.ok(id, "a", edit(2, "as posted")).seq, 0);
    assert!(world.edits(id, 2).is_none());
    assert_eq!(world.ok(id, "a", edit(2, "edited")).seq, 3);
    assert_eq!(world.ok(id, "a", edit(2, "edited")).seq, 0);
    assert_eq!(world.ok(id, "a", edit(2, "as posted")).seq, 4, "it says something else now");
    assert_eq!(world.ok(id, "a", edit(2, "as posted")).seq, 0);
    assert_eq!(world.edits(id, 2).unwrap().edits.len(), 2);
    assert_eq!(world.conversation(id).unwrap().head, 4);
}

#[test]
fn after_the_newest_edit_was_deleted_any_edit_is_an_event() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("as posted"));
    world.ok(id, "a", edit(2, "gone"));
    world.ok(id, "a", delete(3));
    assert_eq!(world.ok(id, "a", edit(2, "gone")).seq, 5, "it does not say that any more");
    assert_eq!(world.ok(id, "a", edit(2, "gone")).seq, 0);
    world.ok(id, "a", edit(2, "newest"));
    world.ok(id, "a", delete(5));
    assert_eq!(world.ok(id, "a", edit(2, "newest")).seq, 0, "an older edit is gone");
    world.ok(id, "a", delete(6));
    assert_eq!(world.ok(id, "a", edit(2, "as posted")).seq, 9, "what shows now is not known here");
}

#[test]
fn an_edit_leaves_the_original_as_it_is() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("teh"));
    let before = world.event_record(id, 2);
    let outcome = world.ok(id, "a", edit(2, "the"));
    assert_eq!(world.event_record(id, 2), before);
    let event = world.event(id, outcome.seq).unwrap();
    assert_eq!((event.kind, event.number), (kind::EDITED, 1), "an edit is not unread");
    assert_eq!(event.body, postcard::to_stdvec(&event::Edited { target: 2, body: Blob(b"the") }).unwrap());
}

#[test]
fn every_event_that_is_replaced_is_an_effect() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("one"));
    world.ok(id, "a", edit(2, "two"));
    let n = world.sends(id, "a", 1).unwrap().last + 1;
    let by = quip_core::By::Device { user: crate::world::user("a"), device: crate::world::device(1), n };
    let command = quip_core::Command { conversation: id, by, authority: GRANTED, action: delete(2) };
    let effects = world.apply(&command, 9).effects;
    let expected = [2, 3].map(|seq| Effect::Rewritten { seq, record: world.event_record(id, seq).unwrap() });
    assert_eq!(effects, expected);
}
