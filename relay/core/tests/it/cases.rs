//! What single actions do: rows, events, effects.

use bytes::Bytes;
use quip_core::{
    Action, Authority, By, Command, ConversationRecord, Effect, EventRecord, Interval, JoinAs, Kind as _, MarkRecord,
    MemberState, Naming, Parting, Policy, SendsRecord, UserRecord, record::EventKey,
};
use quip_protocol::{Code, ConversationId, event, event::kind, event::role, limit};

use crate::world::{GRANTED, ROOM, World, changed, device, group, room, text, user};

const QUIET: Policy = Policy { history_open: false, joins_shown: false };
const OPEN: Policy = Policy { history_open: true, joins_shown: false };

fn join() -> Action {
    Action::Join(JoinAs::Existing)
}

fn add(name: &str) -> Action {
    Action::Add { user: user(name) }
}

fn remove(name: &str, ban: bool) -> Action {
    Action::Remove { user: user(name), ban }
}

/// The effects of the next command of `name`.
fn effects(world: &mut World, id: ConversationId, name: &str, action: Action) -> Vec<Effect> {
    let n = world.sends(id, name, 1).map_or(0, |row| row.last) + 1;
    let by = By::Device { user: user(name), device: device(1), n };
    world.apply(&Command { conversation: id, by, authority: GRANTED, action }, 1).effects
}

fn visible(name: &str, from: u64, to: u64, role: u8, shown: &str) -> Effect {
    Effect::Visible { user: user(name), from, to, role, name: shown.to_owned() }
}

fn marked(name: &str, seq: u64, number: u64) -> Effect {
    Effect::Marked { user: user(name), seq, number }
}

fn body<T: serde::Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap()
}

fn room_with(policy: Policy, users: &[&str]) -> World {
    let mut world = World::default();
    for user in users {
        let authority = Authority { policy, ..GRANTED };
        let outcome = world.act(room(), user, authority, Action::Join(JoinAs::Room(ROOM.into())));
        assert_eq!(outcome.code, Code::DONE);
    }
    world
}

#[test]
fn a_direct_conversation_has_both_from_the_start() {
    let mut world = World::default();
    let id = ConversationId::direct(&user("b"), &user("a"));
    let seen = effects(&mut world, id, "b", Action::Join(JoinAs::Direct(user("a"))));
    assert_eq!(seen, [visible("b", 1, u64::MAX, role::MEMBER, "a"), visible("a", 1, u64::MAX, role::MEMBER, "b")]);
    let row = world.conversation(id).unwrap();
    assert_eq!((row.head, row.members, row.owners), (0, 2, 0));
    assert_eq!(row.naming, Naming::Direct(user("a"), user("b")), "in byte order");
    assert_eq!(world.act(id, "a", GRANTED, Action::Join(JoinAs::Direct(user("b")))).seq, 0, "a is in it already");
    let touched = |name, other| Effect::Touched { user: user(name), other: user(other) };
    assert_eq!(effects(&mut world, id, "a", text("hi")), [marked("a", 1, 1), touched("b", "a"), touched("a", "b")]);
    assert_eq!(world.event(id, 1).unwrap().number, 1);
}

#[test]
fn a_direct_conversation_with_oneself() {
    let mut world = World::default();
    let id = world.direct_of("a", "a");
    assert_eq!(world.conversation(id).unwrap().members, 1);
    let touched = Effect::Touched { user: user("a"), other: user("a") };
    assert_eq!(effects(&mut world, id, "a", text("note")), [marked("a", 1, 1), touched]);
    assert_eq!(world.stored.len(), 6, "conversation, member, membership, sends, event, mark");
}

#[test]
fn a_join_whose_id_does_not_match_its_name_is_not_found() {
    let mut world = World::default();
    let direct = ConversationId::direct(&user("a"), &user("b"));
    for (id, how) in [
        (direct, JoinAs::Direct(user("c"))),
        (direct, JoinAs::NewGroup),
        (direct, JoinAs::Existing),
        (room(), JoinAs::Room("lobby:other".into())),
        (room(), JoinAs::Room("no room name".into())),
        (room(), JoinAs::NewGroup),
        (group(), JoinAs::Room(ROOM.into())),
        (group(), JoinAs::Direct(user("b"))),
        (group(), JoinAs::Existing),
        (ConversationId([0; 16]), JoinAs::NewGroup),
        (ConversationId([9; 16]), JoinAs::Existing),
    ] {
        assert_eq!(world.refused(id, "a", Action::Join(how.clone())), Code::NOT_FOUND, "{id} {how:?}");
        assert!(world.conversation(id).is_none());
    }
    assert_eq!(world.refused(direct, "c", Action::Join(JoinAs::Direct(user("b")))), Code::NOT_FOUND, "of others");
}

#[test]
fn a_group_is_owned_by_its_creator_and_joined_by_being_added() {
    let mut world = World::default();
    let seen = effects(&mut world, group(), "a", Action::Join(JoinAs::NewGroup));
    assert_eq!(seen, [visible("a", 1, u64::MAX, role::OWNER, "")]);
    assert_eq!(world.event(group(), 1).unwrap().kind, kind::JOINED);
    world.ok(group(), "a", text("before b"));
    assert_eq!(world.refused(group(), "b", Action::Join(JoinAs::NewGroup)), Code::NOT_FOUND);
    assert_eq!(effects(&mut world, group(), "a", add("b")), [visible("b", 3, u64::MAX, role::MEMBER, "")]);
    let event = world.event(group(), 3).unwrap();
    assert_eq!((event.kind, event.number, event.body), (kind::ADDED, 1, body(&event::Added { user: "b" })));
    let member = world.member(group(), "b").unwrap();
    assert_eq!((member.from, member.number), (3, 1), "unread counts from the joining");
}

#[test]
fn a_former_member_returns_to_a_group_only_by_being_added() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    assert_eq!(effects(&mut world, id, "b", Action::Leave), [visible("b", 2, 3, 0, "")]);
    for how in [JoinAs::Existing, JoinAs::NewGroup] {
        assert_eq!(world.refused(id, "b", Action::Join(how)), Code::NOT_FOUND);
    }
    assert_eq!(effects(&mut world, id, "a", add("b")), [visible("b", 4, u64::MAX, role::MEMBER, "")]);
    assert_eq!(world.conversation(id).unwrap().members, 2);
}

#[test]
fn one_who_is_added_again_sees_both_memberships_and_not_what_was_between() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    let own = world.ok(id, "b", text("mine")).seq;
    world.ok(id, "a", remove("b", false));
    let between = world.ok(id, "a", text("between")).seq;
    world.ok(id, "a", add("b"));
    let member = world.member(id, "b").unwrap();
    let visible: Vec<_> = member.visible().collect();
    assert_eq!(visible, [Interval { from: 2, to: 4 }, Interval { from: 6, to: u64::MAX }]);
    assert_eq!(member.number, 2, "unread counts from the latest joining");
    let react = |target| Action::React { target, add: true, reaction: "+1".into() };
    world.ok(id, "b", react(own));
    assert_eq!(world.refused(id, "b", react(between)), Code::NO_TARGET);
    world.ok(id, "b", Action::Edit { target: own, body: "new".into() });
    world.ok(id, "b", Action::Delete { target: own });
    assert_eq!(world.refused(id, "b", Action::Delete { target: between }), Code::NO_TARGET);
}

#[test]
fn too_many_memberships_cost_the_one_with_the_fewest_events_and_nobody_their_own_messages() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    let own = world.ok(id, "b", text("mine")).seq;
    world.ok(id, "b", Action::Leave);
    for _ in 0..limit::EARLIER {
        world.ok(id, "a", text("between"));
        world.ok(id, "a", add("b"));
        world.ok(id, "a", text("1"));
        world.ok(id, "a", text("2"));
        world.ok(id, "b", Action::Leave);
    }
    world.ok(id, "a", add("b"));
    let member = world.member(id, "b").unwrap();
    assert_eq!(member.earlier.len(), limit::EARLIER);
    assert!(!member.sees(own) && member.sees(own + 3), "the first one was the shortest");
    let body = Bytes::from_static(b"x");
    for refused in [Action::Edit { target: own, body }, Action::React { target: own, add: true, reaction: "x".into() }]
    {
        assert_eq!(world.refused(id, "b", refused), Code::NO_TARGET);
    }
    world.ok(id, "b", Action::Delete { target: own });
    assert_eq!(world.event(id, own).unwrap().kind, kind::TOMBSTONE);
}

#[test]
fn a_former_member_deletes_nothing() {
    let mut world = World::default();
    let id = world.group_of("a", &["b", "c"]);
    let own = ["b", "c"].map(|name| world.ok(id, name, text("mine")).seq);
    world.ok(id, "b", Action::Leave);
    world.ok(id, "a", remove("c", true));
    assert_eq!(world.refused(id, "b", Action::Delete { target: own[0] }), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(id, "c", Action::Delete { target: own[1] }), Code::BANNED);
}

#[test]
fn what_is_left_of_a_conversation_to_a_former_member_is_how_it_was() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    world.ok(id, "a", Action::SetTitle { title: "Us".into() });
    world.ok(id, "a", text("1"));
    world.ok(id, "b", Action::Leave);
    world.ok(id, "a", Action::SetTitle { title: "Without b".into() });
    world.ok(id, "a", text("2"));
    world.ok(id, "a", remove("b", true));
    let parting = Parting { number: 1, title: "Us".into() };
    assert_eq!(world.member(id, "b").unwrap().parting, parting, "a later ban changes nothing");
    world.ok(id, "a", add("b"));
    assert_eq!(world.member(id, "b").unwrap().parting, Parting::default());
}

#[test]
fn an_open_room_leaves_no_holes() {
    let mut world = room_with(QUIET, &["a", "b"]);
    world.ok(room(), "a", text("1"));
    world.ok(room(), "b", Action::Leave);
    world.ok(room(), "a", text("2"));
    world.relay(room(), Action::SetPolicy { policy: OPEN });
    world.ok(room(), "b", join());
    let member = world.member(room(), "b").unwrap();
    assert_eq!(member.visible().collect::<Vec<_>>(), [Interval { from: 1, to: u64::MAX }]);
    world.ok(room(), "b", Action::Leave);
    world.relay(room(), Action::SetPolicy { policy: QUIET });
    world.ok(room(), "a", text("3"));
    world.ok(room(), "b", join());
    let visible: Vec<_> = world.member(room(), "b").unwrap().visible().collect();
    assert_eq!(visible, [Interval { from: 1, to: 2 }, Interval { from: 4, to: u64::MAX }]);
}

#[test]
fn a_ban_from_a_group_ends_with_being_added() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    assert_eq!(effects(&mut world, id, "a", remove("b", true)), [visible("b", 2, 3, 0, "")]);
    assert_eq!(world.event(id, 3).unwrap().body, body(&event::Removed { user: "b", ban: true }));
    assert_eq!(world.refused(id, "b", join()), Code::BANNED);
    world.ok(id, "a", add("b"));
    assert_eq!(world.member(id, "b").unwrap().state, MemberState::Member);
}

#[test]
fn members_of_a_group_are_limited() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    let authority = Authority { group_members: 2, ..GRANTED };
    assert_eq!(world.act(id, "a", authority, add("b")).code, Code::DONE, "no more than before");
    assert_eq!(world.act(id, "a", authority, add("c")).code, Code::CONVERSATION_FULL);
    world.ok(id, "b", Action::Leave);
    assert_eq!(world.act(id, "a", authority, add("c")).code, Code::DONE);
}

#[test]
fn one_who_was_added_too_often_is_not_added() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    let authority = Authority { add: false, ..GRANTED };
    assert_eq!(world.act(id, "a", authority, add("b")).code, Code::DONE, "is a member already");
    assert_eq!(world.act(id, "a", authority, add("c")).code, Code::ADDED_TOO_OFTEN);
    assert_eq!(world.act(id, "b", authority, add("c")).code, Code::FORBIDDEN);
}

#[test]
fn the_last_owner_of_a_group_stays_until_another_is_one() {
    let mut world = World::default();
    let id = world.group_of("a", &["b"]);
    let role = |name, role| Action::SetRole { user: user(name), role };
    assert_eq!(world.refused(id, "a", Action::Leave), Code::LAST_OWNER);
    assert_eq!(world.refused(id, "a", role("a", role::ADMIN)), Code::LAST_OWNER);
    world.ok(id, "a", role("b", role::OWNER));
    assert_eq!(world.conversation(id).unwrap().owners, 2);
    world.ok(id, "a", role("a", role::MEMBER));
    assert_eq!(world.member(id, "a").unwrap().role, role::MEMBER);
    assert_eq!(world.refused(id, "b", Action::Leave), Code::LAST_OWNER);
    world.ok(id, "a", Action::Leave);
    world.ok(id, "b", Action::Leave);
    let row = world.conversation(id).unwrap();
    assert_eq!((row.members, row.owners), (0, 0), "the last one may go");
    assert_eq!(world.refused(id, "b", text("x")), Code::NOT_A_MEMBER);
}

#[test]
fn the_last_owner_of_a_room_stays_until_another_is_one() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    assert_eq!(world.refused(id, "a", Action::Leave), Code::LAST_OWNER);
    world.ok(id, "a", Action::SetRole { user: user("b"), role: role::OWNER });
    world.ok(id, "a", Action::Leave);
    assert_eq!(effects(&mut world, id, "a", join()), [visible("a", 5, u64::MAX, role::MEMBER, ROOM)]);
    assert_eq!(world.conversation(id).unwrap().owners, 1);
}

#[test]
fn a_moderator_who_puts_the_last_owner_out_owns_the_room() {
    let moderator = Authority { moderate: true, ..GRANTED };
    for ban in [false, true] {
        let mut world = World::default();
        let id = world.room_of(&["a", "b", "c"]);
        assert_eq!(world.act(id, "b", moderator, remove("a", ban)).code, Code::DONE);
        assert_eq!(world.conversation(id).unwrap().owners, 1);
        let role_of = |world: &World, name| world.member(id, name).unwrap().role;
        assert_eq!((role_of(&world, "b"), role_of(&world, "c")), (role::OWNER, role::MEMBER));
        assert_eq!(world.refused(id, "b", Action::Leave), Code::LAST_OWNER);
        // Putting out one of two owners gives nobody anything.
        world.ok(id, "b", Action::SetRole { user: user("c"), role: role::OWNER });
        world.ok(id, "d", join());
        assert_eq!(world.act(id, "d", moderator, remove("b", ban)).code, Code::DONE);
        assert_eq!((role_of(&world, "c"), role_of(&world, "d")), (role::OWNER, role::MEMBER));
    }
}

#[test]
fn a_room_that_all_have_left_belongs_to_the_next_who_might_create_it() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", Action::Leave);
    let mut enter = |name, create| {
        let authority = Authority { create, ..GRANTED };
        assert_eq!(world.act(id, name, authority, join()).code, Code::DONE);
        (world.member(id, name).unwrap().role, world.conversation(id).unwrap().owners)
    };
    assert_eq!(enter("b", false), (role::MEMBER, 0));
    assert_eq!(enter("c", true), (role::OWNER, 1));
    assert_eq!(enter("d", true), (role::MEMBER, 1));
}

#[test]
fn a_quiet_room_shows_no_coming_and_going() {
    let mut world = room_with(QUIET, &["a", "b"]);
    assert_eq!(world.conversation(room()).unwrap().head, 0);
    world.ok(room(), "a", text("1"));
    assert_eq!(effects(&mut world, room(), "c", join()), [visible("c", 2, u64::MAX, role::MEMBER, ROOM)]);
    assert_eq!(effects(&mut world, room(), "c", Action::Leave), [visible("c", 2, 1, 0, ROOM)], "c saw nothing");
    assert_eq!(effects(&mut world, room(), "a", remove("b", false)), [visible("b", 1, 1, 0, ROOM)]);
    assert_eq!(world.conversation(room()).unwrap().head, 1);
    assert_eq!(world.refused(room(), "b", text("x")), Code::NOT_A_MEMBER);
}

#[test]
fn an_open_room_shows_what_was_before() {
    let mut world = room_with(OPEN, &["a"]);
    world.ok(room(), "a", text("1"));
    world.ok(room(), "b", join());
    let member = world.member(room(), "b").unwrap();
    assert_eq!((member.from, member.number), (1, 1), "all visible, none unread");
    world.ok(room(), "b", Action::React { target: 1, add: true, reaction: "+1".into() });
}

#[test]
fn a_ban_from_a_room_is_lifted_by_adding() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    assert_eq!(world.ok(id, "a", remove("b", true)).seq, 0, "b never was there");
    assert_eq!(world.refused(id, "b", join()), Code::BANNED);
    assert_eq!(world.refused(id, "b", Action::Join(JoinAs::Room(ROOM.into()))), Code::BANNED);
    assert_eq!(world.refused(id, "b", text("x")), Code::BANNED);
    assert!(!changed::<MarkRecord>(&world.mark(id, "b", 1, 1)), "nothing is visible to b");
    assert_eq!(world.ok(id, "a", add("b")).seq, 0);
    assert_eq!(world.member(id, "b").unwrap().state, MemberState::Left);
    world.ok(id, "b", join());
}

#[test]
fn a_ban_keeps_what_a_former_member_could_see() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "b", Action::Leave);
    world.ok(id, "a", text("unseen"));
    world.ok(id, "a", remove("b", true));
    let member = world.member(id, "b").unwrap();
    assert_eq!((member.state, member.from, member.to), (MemberState::Banned, 2, 3));
}

#[test]
fn a_deletion_leaves_a_tombstone() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "b", text("regret"));
    world.ok(id, "a", text("after"));
    let (row, event) = (world.event_record(id, 3).unwrap(), world.event(id, 3).unwrap());
    let seen = effects(&mut world, id, "a", Action::Delete { target: 3 });
    let (after, tombstone) = (world.event_record(id, 3).unwrap(), world.event(id, 3).unwrap());
    assert_eq!(seen, [Effect::Rewritten { seq: 3, record: after.clone() }]);
    assert_eq!((after.user, after.device, after.n), (row.user, row.device, row.n));
    let body_of = body(&event::Tombstone { by: 5 });
    assert_eq!(tombstone, crate::world::Seen { kind: kind::TOMBSTONE, body: body_of, ..event });
    assert_eq!(world.event(id, 5).unwrap().body, body(&event::Deleted { target: 3 }));
    let body = Bytes::from_static(b"x");
    for again in [
        Action::Delete { target: 3 },
        Action::Edit { target: 3, body },
        Action::React { target: 3, add: true, reaction: "x".into() },
    ] {
        assert_eq!(world.refused(id, "b", again), Code::NO_TARGET);
    }
}

#[test]
fn what_one_cannot_see_is_no_target() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("early"));
    world.ok(id, "b", join());
    let react = |target| Action::React { target, add: true, reaction: "+1".into() };
    for target in [0, 2, 3, 4, u64::MAX] {
        assert_eq!(world.refused(id, "b", react(target)), Code::NO_TARGET, "{target}");
    }
    world.ok(id, "a", react(2));
    world.relay(id, Action::Trim { first_kept: 3 });
    assert_eq!(world.refused(id, "a", react(2)), Code::NO_TARGET, "trimmed, though the bytes are still there");
}

#[test]
fn a_target_whose_bytes_are_damaged_is_not_taken_for_another() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("one"));
    world.ok(id, "a", text("two"));
    let other = world.stored[&EventRecord::key(&EventKey(id, 3))].clone();
    world.stored.insert(EventRecord::key(&EventKey(id, 2)), other);
    assert_eq!(world.refused(id, "a", Action::Delete { target: 2 }), Code::STORED_DAMAGED);
    let good = world.stored[&EventRecord::key(&EventKey(id, 3))].clone();
    for bad in [good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()] {
        world.stored.insert(EventRecord::key(&EventKey(id, 3)), bad);
        assert_eq!(world.refused(id, "a", Action::Delete { target: 3 }), Code::STORED_DAMAGED);
    }
}

#[test]
fn titles() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    let outcome = world.ok(id, "a", Action::SetTitle { title: "Lobby".into() });
    assert_eq!(world.event(id, outcome.seq).unwrap().body, body(&event::Titled { title: "Lobby" }));
    let again = world.ok(id, "a", Action::SetTitle { title: "Lobby".into() });
    assert_eq!(again.seq, 0, "a title that stays makes no event");
    assert_eq!(world.conversation(id).unwrap().naming, Naming::Room(ROOM.into(), "Lobby".into()));
    let id = world.group_of("a", &[]);
    world.ok(id, "a", Action::SetTitle { title: "Us".into() });
    assert_eq!(world.conversation(id).unwrap().naming, Naming::Group("Us".into()));
}

#[test]
fn marks_only_go_forward_and_no_further_than_the_head() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "a", text("3"));
    let folded = world.mark(id, "b", 2, 0);
    assert_eq!(folded.effects, [marked("b", 2, 0)]);
    assert!(folded.outcome.is_none() && !changed::<ConversationRecord>(&folded) && !changed::<SendsRecord>(&folded));
    assert!(!changed::<MarkRecord>(&world.mark(id, "b", 1, 0)));
    assert!(!changed::<MarkRecord>(&world.mark(id, "b", 2, 1)));
    world.mark(id, "b", 900, 900);
    assert_eq!(world.read_mark(id, "b"), Some(MarkRecord { seq: 3, number: 1, own: Vec::new() }));
    world.ok(id, "b", Action::Leave);
    world.ok(id, "a", text("5"));
    world.mark(id, "b", 5, 2);
    assert_eq!(world.read_mark(id, "b").unwrap().seq, 4, "up to the own leaving");
    for folded in [world.mark(id, "stranger", 1, 1), world.mark(group(), "b", 1, 1)] {
        assert!(folded.effects.is_empty() && folded.writes.is_empty());
    }
}

/// The mark of `name` and how much is unread for them.
fn read(world: &World, id: ConversationId, name: &str) -> (u64, u64) {
    let (conversation, member) = (world.conversation(id).unwrap(), world.member(id, name).unwrap());
    let mark = world.read_mark(id, name).unwrap_or_default();
    (mark.seq, member.last_number(&conversation) - mark.read_number(&conversation, &member))
}

#[test]
fn what_one_says_oneself_is_not_unread() {
    let mut world = World::default();
    let id = world.direct_of("a", "b");
    world.ok(id, "a", text("1"));
    world.ok(id, "a", text("2"));
    assert_eq!((read(&world, id, "a"), read(&world, id, "b")), ((2, 0), (0, 2)));
    assert_eq!(effects(&mut world, id, "b", text("3"))[0], marked("b", 0, 1), "an answer to what was not read");
    world.ok(id, "a", text("4"));
    world.ok(id, "b", text("5"));
    assert_eq!((read(&world, id, "a"), read(&world, id, "b")), ((2, 2), (0, 3)));
    // A mark that was on its way while they spoke.
    assert_eq!(world.mark(id, "b", 2, 2).effects, [marked("b", 2, 4)]);
    assert_eq!(read(&world, id, "b"), (2, 1));
    world.mark(id, "b", 4, 4);
    assert_eq!((read(&world, id, "b"), world.read_mark(id, "b").unwrap().own.len()), ((4, 0), 0));
    world.ok(id, "b", text("6"));
    assert_eq!(read(&world, id, "b"), (6, 0), "the mark moves with what is said");
    world.ok(id, "b", Action::React { target: 1, add: true, reaction: "+".into() });
    assert_eq!(read(&world, id, "b"), (6, 0));
}

#[test]
fn one_who_never_marks_counts_what_they_said_long_ago() {
    let mut world = World::default();
    let id = world.direct_of("a", "b");
    for _ in 0..MarkRecord::OWN + 2 {
        world.ok(id, "a", text("x"));
        world.ok(id, "b", text("x"));
    }
    assert_eq!(read(&world, id, "b"), (0, MarkRecord::OWN as u64 + 2 + 2));
    assert_eq!(read(&world, id, "a"), (1, MarkRecord::OWN as u64 + 2 + 1), "the first was not behind the mark");
}

#[test]
fn what_was_deleted_is_unread_for_nobody() {
    let mut world = World::default();
    let id = world.group_of("a", &["b", "c"]);
    let seqs = ["1", "2", "3"].map(|body| world.ok(id, "a", text(body)).seq);
    world.ok(id, "c", text("4"));
    world.ok(id, "a", Action::Delete { target: seqs[2] });
    assert_eq!(["a", "b", "c"].map(|name| read(&world, id, name).1), [1, 3, 2]);
    let edit = world.ok(id, "a", Action::Edit { target: seqs[1], body: "2!".into() }).seq;
    world.ok(id, "a", Action::Delete { target: edit });
    assert_eq!(read(&world, id, "b").1, 3, "an edit is no message");
    world.ok(id, "a", Action::Delete { target: seqs[0] });
    world.ok(id, "a", Action::Delete { target: seqs[1] });
    assert_eq!(["a", "b", "c"].map(|name| read(&world, id, name).1), [1, 1, 0]);
    assert_eq!(effects(&mut world, id, "c", text("5")), [marked("c", 13, 5)], "only what is deleted lies before it");
    // Nothing is counted twice: a deleted one that was read, or that is their own.
    world.mark(id, "b", 5, 2);
    assert_eq!(read(&world, id, "b").1, 2);
    let own = world.ok(id, "b", text("6")).seq;
    world.ok(id, "b", Action::Delete { target: own });
    assert_eq!(["a", "b", "c"].map(|name| read(&world, id, name).1), [2, 2, 0]);
    let end = world.ok(id, "b", Action::Leave).seq;
    world.ok(id, "a", text("7"));
    assert_eq!((read(&world, id, "b").1, end), (2, 16), "one who has left learns nothing of what came later");
}

#[test]
fn of_many_deletions_the_latest_are_known() {
    let mut world = World::default();
    let id = world.direct_of("a", "b");
    let many = ConversationRecord::DELETED as u64 + 2;
    (0..many).for_each(|_| _ = world.ok(id, "a", text("x")));
    (1..=many).for_each(|target| _ = world.ok(id, "a", Action::Delete { target }));
    assert_eq!(read(&world, id, "b").1, 2);
    world.mark(id, "b", 2, 2);
    assert_eq!(read(&world, id, "b").1, 0);
}

#[test]
fn trimming_only_goes_forward_and_keeps_the_head() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    let mut trim = |first_kept| {
        let folded = world.relay(id, Action::Trim { first_kept });
        (changed::<ConversationRecord>(&folded), world.conversation(id).unwrap().first_kept)
    };
    assert_eq!(trim(0), (false, 1));
    assert_eq!(trim(2), (true, 2));
    assert_eq!(trim(1), (false, 2));
    assert_eq!(trim(u64::MAX), (true, 3));
    world.ok(id, "a", text("goes on"));
    assert_eq!(world.event(id, 3).unwrap().number, 1, "seq does not start again");
    assert!(world.relay(group(), Action::Trim { first_kept: 2 }).writes.is_empty());
}

#[test]
fn a_policy_is_a_rooms_and_counts_from_then_on() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    assert!(changed::<ConversationRecord>(&world.relay(id, Action::SetPolicy { policy: OPEN })));
    assert!(!changed::<ConversationRecord>(&world.relay(id, Action::SetPolicy { policy: OPEN })));
    assert_eq!(effects(&mut world, id, "b", join()), [visible("b", 1, u64::MAX, role::MEMBER, ROOM)]);
    let id = world.group_of("a", &[]);
    assert!(!changed::<ConversationRecord>(&world.relay(id, Action::SetPolicy { policy: OPEN })));
}

#[test]
fn time_never_goes_back() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    let mut post = |at, n| {
        let by = By::Device { user: user("a"), device: device(1), n };
        let command = Command { conversation: id, by, authority: GRANTED, action: text("x") };
        world.apply(&command, at).outcome.unwrap().at
    };
    assert_eq!([post(500, 2), post(400, 3), post(0, 4), post(501, 5)], [500, 500, 500, 501]);
}

#[test]
fn a_user_was_seen_at_the_latest_time_that_has_passed() {
    let mut world = World::default();
    let mut seen = |heard, at| {
        let folded = world.apply(&Command::seen(user("a"), heard), at);
        assert!(folded.outcome.is_none() && folded.event.is_none());
        let [Effect::Seen { user: of, at }] = &folded.effects[..] else { panic!("{:?}", folded.effects) };
        assert_eq!(*of, user("a"));
        (changed::<UserRecord>(&folded), *at)
    };
    assert_eq!(seen(500, 600), (true, 500));
    assert_eq!(seen(400, 700), (false, 500), "came late");
    assert_eq!(seen(500, 800), (false, 500), "came twice");
    assert_eq!(seen(5000, 900), (true, 900), "a relay whose clock is ahead says nothing of the future");
    assert_eq!(seen(850, 890), (true, 850), "what is stored is still to come: a clock was wrong");
    assert_eq!(world.user_record("a").unwrap().seen, 850);
    assert_eq!(world.user_record("b"), None);
    let id = world.group_of("a", &[]);
    assert_eq!(world.refused(id, "a", Action::Seen { user: user("a"), at: 1 }), Code::FORBIDDEN);
}
