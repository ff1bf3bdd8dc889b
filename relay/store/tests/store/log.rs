//! A view that lost what was not in a checkpoint yet, beside a log that did not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quip_core::{Action, MarkRecord};
use quip_order::{EmbeddedConfig, LogError, Positions, embedded};
use quip_protocol::ConversationId;
use quip_store::{OpenError, View};
use tempfile::TempDir;

use crate::harness::*;

const NAME: &str = "log:room";

/// What readers see of the room.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<(u64, Vec<u8>)>,
    last: u64,
    mark: Option<MarkRecord>,
    members: usize,
}

/// What they see, and how far ben has read.
fn seen(view: &View, ann: &Device) -> Seen {
    let id = room(NAME);
    Seen {
        events: all_events(view, id),
        last: view.sends(id, &ann.user, ann.device).unwrap().map_or(0, |sends| sends.last),
        mark: view.mark(&user("ben"), id).unwrap(),
        members: view.members(id, None, 10).unwrap().members.len(),
    }
}

/// A folder whose store has half of what the log has, and what readers should see of it.
fn half_lost() -> (TempDir, PathBuf, Device, Seen) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, half) = (folder.path().join("whole"), folder.path().join("half"));
    let relay = Relay::open(&whole);
    let id: ConversationId = room(NAME);
    let (mut ann, mut ben) = (Device::new("ann", id), Device::new("ben", id));
    relay.accepted(ann.next(join(NAME)));
    for i in 0..5 {
        relay.accepted(ann.next(post(format!("early {i}"))));
    }
    relay.close();
    copy(&whole.join("store"), &half.join("store"));
    let relay = Relay::open(&whole);
    relay.accepted(ben.next(join(NAME)));
    for i in 0..5 {
        relay.accepted(ann.next(post(format!("late {i}"))));
    }
    relay.accepted(ann.next(Action::Edit { target: 8, body: "edited".into() }));
    relay.accepted(ann.next(Action::Delete { target: 2 }));
    relay.send(ben.mark(4, 3));
    copy(&whole.join("log"), &half.join("log"));
    let seen = seen(relay.view(), &ann);
    relay.close();
    (folder, half, ann, seen)
}

#[test]
fn commands_that_the_view_lost_are_replayed() {
    let (_folder, half, mut ann, expected) = half_lost();
    assert_eq!((expected.last, expected.members, &expected.mark), (13, 2, &Some(marked(4, 3))));
    let generation = on_disk(&half).1.generation();
    let before = open(&half, generation).unwrap();
    assert_eq!(all_events(&before.view(), room(NAME)).len(), 5, "the view stands at its checkpoint");
    drop(before);
    for _ in 0..2 {
        let relay = Relay::open(&half);
        // The last one before again: its outcome is known, so it changes nothing.
        let again = relay.send(ann.numbered(ann.n, Action::Delete { target: 2 })).outcome.unwrap();
        assert!(again.seq > 0, "{again:?}");
        assert_eq!(seen(relay.view(), &ann), expected);
        relay.close();
    }
    let relay = Relay::open(&half);
    relay.accepted(ann.next(post("the next one")));
    relay.close();
}

/// The sinks learn only of what is new: nobody is here yet to be told of the rest.
#[test]
fn replayed_commands_are_not_announced() {
    let (_folder, half, mut ann, _) = half_lost();
    let relay = Relay::open(&half);
    assert!(relay.running.told.try_recv().is_err());
    relay.accepted(ann.next(post("new")));
    relay.close();
}

#[test]
fn the_engines_journals_do_not_matter() {
    for damage in [None, Some(&b""[..]), Some(b"no journal")] {
        let (_folder, half, ann, expected) = half_lost();
        let journals = fs::read_dir(half.join("store/db")).unwrap().map(|entry| entry.unwrap().path());
        for journal in journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")) {
            match damage {
                None => fs::remove_file(journal).unwrap(),
                Some(bytes) => fs::write(journal, bytes).unwrap(),
            }
        }
        let relay = Relay::open(&half);
        assert_eq!(seen(relay.view(), &ann), expected);
        relay.close();
    }
}

#[test]
fn a_clean_shutdown_leaves_nothing_to_replay() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let mut ann = Device::new("ann", room(NAME));
    relay.accepted(ann.next(join(NAME)));
    (0..20).for_each(|i| _ = relay.accepted(ann.next(post(format!("{i}")))));
    relay.close();
    let (_submit, mut order) = on_disk(folder.path());
    assert_eq!(order.start(&Positions::from_iter([21])).unwrap().of(0), 21);
    let store = open(folder.path(), order.generation()).unwrap();
    assert_eq!(all_events(&store.view(), room(NAME)).len(), 20);
}

#[test]
fn a_store_does_not_open_with_another_log_or_a_log_that_lost_its_end() {
    let (_folder, half, ..) = half_lost();
    let (_other_folder, other, ..) = half_lost();
    fs::rename(half.join("log"), half.join("aside")).unwrap();
    copy(&other.join("log"), &half.join("log"));
    let generation = |half: &Path| on_disk(half).1.generation();
    let error = open(&half, generation(&half)).err().unwrap();
    assert!(matches!(error, OpenError::OtherLog { store, log, .. } if store != log), "{error}");
    fs::remove_dir_all(half.join("log")).unwrap();
    // An empty one is made, which is not this store's.
    let error = open(&half, generation(&half)).err().unwrap();
    assert!(matches!(error, OpenError::OtherLog { .. }), "{error}");
    fs::remove_dir_all(half.join("log")).unwrap();
    fs::rename(half.join("aside"), half.join("log")).unwrap();
    open(&half, generation(&half)).unwrap();
    // The first commands are in no segment any more.
    fs::remove_dir_all(half.join("log")).unwrap();
    let (_folder, whole, ..) = half_lost();
    let (_submit, mut order) = on_disk(&whole);
    assert!(order.start(&Positions::from_iter([100])).is_err());
}

#[test]
fn a_log_that_wraps_around_is_checkpointed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut ann = Device::new("ann", room(NAME));
    let relay = Relay::open(folder.path());
    relay.submit(ann.next(join(NAME)));
    // Twice as much as the log holds.
    let count = 3200;
    (0..count).for_each(|i| relay.submit(ann.next(post(format!("{i:0>16000}")))));
    while relay.view().conversation(room(NAME)).unwrap().is_none_or(|row| row.head < count) {
        std::thread::yield_now();
    }
    // As by a kill: nothing is closed.
    let copied = tempfile::tempdir().unwrap();
    copy(folder.path(), copied.path());
    let relay_after = Relay::open(copied.path());
    assert_eq!(relay_after.view().conversation(room(NAME)).unwrap().unwrap().head, count);
    relay_after.close();
    relay.close();
    let log = embedded(&folder.path().join("log"), EmbeddedConfig::default());
    assert!(!matches!(log, Err(LogError::Damaged { .. })));
}
