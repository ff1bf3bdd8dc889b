//! Reactions: one that is there already, or one that is taken away and is not there, is no event.

use quip_core::{Action, JoinAs, ReactionsRecord};
use quip_protocol::{Code, event::kind, limit};

use crate::world::{GRANTED, World, text, user};

fn add(target: u64, reaction: &str) -> Action {
    Action::React { target, add: true, reaction: reaction.into() }
}

fn remove(target: u64, reaction: &str) -> Action {
    Action::React { target, add: false, reaction: reaction.into() }
}

#[test]
fn a_reaction_that_changes_nothing_is_no_event() {
    let mut world = World::default();
    let id = world.room_of(&["a", "b"]);
    world.ok(id, "a", text("posted"));
    assert_eq!(world.ok(id, "a", remove(3, "+1")).seq, 0, "it is not there");
    assert!(world.reactions(id, 3).is_none());
    assert_eq!(world.ok(id, "a", add(3, "+1")).seq, 4);
    assert_eq!(world.ok(id, "a", add(3, "+1")).seq, 0, "it is there");
    assert_eq!(world.ok(id, "b", remove(3, "+1")).seq, 0, "of another user");
    assert_eq!(world.ok(id, "b", add(3, "+1")).seq, 5);
    assert_eq!(world.ok(id, "a", add(3, "-1")).seq, 6, "another reaction");
    assert_eq!(world.reactions(id, 3).unwrap().hashes.len(), 3);
    assert_eq!(world.ok(id, "a", remove(3, "+1")).seq, 7);
    assert_eq!(world.ok(id, "a", remove(3, "+1")).seq, 0);
    assert_eq!(world.ok(id, "a", add(3, "+1")).seq, 8, "once more");
    assert_eq!(world.event(id, 8).unwrap().kind, kind::REACTED);
    world.ok(id, "a", text("another"));
    assert_eq!(world.ok(id, "a", add(9, "+1")).seq, 10, "each message has its own");
}

#[test]
fn the_record_goes_with_the_last_reaction_and_with_the_message() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.ok(id, "a", text("posted"));
    world.ok(id, "a", add(2, "+1"));
    world.ok(id, "a", remove(2, "+1"));
    assert!(world.reactions(id, 2).is_none());
    world.ok(id, "a", add(2, "+1"));
    world.ok(id, "a", Action::Delete { target: 2 });
    assert!(world.reactions(id, 2).is_none());
    assert_eq!(world.refused(id, "a", add(2, "+1")), Code::NO_TARGET);
}

/// The world compares what a command writes with its weight.
#[test]
fn beyond_what_is_noted_every_reaction_is_an_event() {
    let name = "n".repeat(limit::USER);
    let mut world = World::default();
    let id = world.room_of(&[&name]);
    world.ok(id, &name, text("posted"));
    let long = |i: usize| format!("{i:0>width$}", width = limit::REACTION);
    for i in 0..ReactionsRecord::MOST {
        assert_ne!(world.ok(id, &name, add(2, &long(i))).seq, 0);
        assert_eq!(world.ok(id, &name, add(2, &long(i))).seq == 0, i + 1 < ReactionsRecord::MOST);
    }
    for again in [add(2, &long(0)), remove(2, "never there"), remove(2, &long(0)), add(2, &long(0)), add(2, "more")] {
        assert_ne!(world.ok(id, &name, again).seq, 0);
    }
    assert_eq!(world.reactions(id, 2).unwrap().hashes.len(), ReactionsRecord::MOST);
    world.ok(id, &name, Action::Delete { target: 2 });
    assert!(world.reactions(id, 2).is_none());
}

#[test]
fn the_hash_of_a_reaction_is_fixed() {
    let mut world = World::default();
    let id = world.room_of(&["ann"]);
    world.ok(id, "ann", text("posted"));
    world.ok(id, "ann", add(2, "+1"));
    let hash = blake3::hash(b"\x03ann\x02+1");
    let first = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
    assert_eq!(world.reactions(id, 2).unwrap().hashes, [first], "user and reaction, each after its length");
    world.ok(id, "ann", Action::Edit { target: 2, body: "edited".into() });
    let hash = blake3::hash(b"edited");
    let first = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
    assert_eq!(world.edits(id, 2).unwrap().content, first, "the content alone");
}

#[test]
fn reactions_of_one_user_are_the_same_from_every_device() {
    let mut world = World::default();
    let id = world.room_of(&["a"]);
    world.act_with(id, "a", 2, GRANTED, Action::Join(JoinAs::Existing));
    world.ok(id, "a", text("posted"));
    assert_eq!(world.ok(id, "a", add(2, "+1")).seq, 3);
    let again = world.act_with(id, "a", 2, GRANTED, add(2, "+1"));
    assert_eq!((again.code, again.seq), (Code::DONE, 0));
    assert_eq!(world.event(id, 3).unwrap().user, user("a"));
}
