//! An engine that lost what was not synced yet, beside a log that did not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quip_core::{Action, MarkRow};
use quip_protocol::ConversationId;
use quip_store::{LogError, OpenError, Store, View};
use tempfile::TempDir;

use crate::harness::*;

const NAME: &str = "log:room";

/// What readers see of the room.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<(u64, Vec<u8>)>,
    last: u64,
    mark: Option<MarkRow>,
    members: usize,
}

fn seen(view: &View, ann: &Device) -> Seen {
    let id = room(NAME);
    Seen {
        events: all_events(view, id),
        last: view.sends(id, &ann.user, ann.device).unwrap().map_or(0, |sends| sends.last),
        mark: view.mark(&ann.user, id).unwrap(),
        members: view.members(id, None, 10).unwrap().members.len(),
    }
}

/// A store whose engine has half of what the log has, and what readers should see of it.
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
    copy(&whole.join("db"), &half.join("db"));
    relay.accepted(ben.next(join(NAME)));
    for i in 0..5 {
        relay.accepted(ann.next(post(format!("late {i}"))));
    }
    relay.accepted(ann.next(Action::Edit { target: 8, body: "edited".into() }));
    relay.accepted(ann.next(Action::Delete { target: 2 }));
    relay.send(ann.mark(4, 3));
    copy(&whole.join("log"), &half.join("log"));
    let seen = seen(relay.view(), &ann);
    relay.close();
    (folder, half, ann, seen)
}

/// Opens the store and goes on with it.
fn goes_on(store: &Path, mut ann: Device, expected: &Seen) {
    for _ in 0..2 {
        let relay = Relay::open(store);
        // The last one before again: its outcome is known, so it changes nothing.
        let again = relay.send(ann.numbered(ann.n, Action::Delete { target: 2 })).outcome.unwrap();
        assert!(again.seq > 0, "{again:?}");
        assert_eq!(&seen(relay.view(), &ann), expected);
        relay.close();
    }
    let relay = Relay::open(store);
    relay.accepted(ann.next(post("the next one")));
    relay.close();
}

#[test]
fn what_the_engine_lost_is_folded_again() {
    let (_folder, half, ann, expected) = half_lost();
    assert_eq!((expected.last, expected.members, expected.mark), (13, 2, Some(marked(4, 3))));
    let before = Store::open(&half, config()).unwrap();
    assert!(all_events(&before.view(), room(NAME)).len() < expected.events.len());
    drop(before);
    goes_on(&half, ann, &expected);
}

#[test]
fn a_journal_that_is_torn_anywhere_is_made_good_by_the_log() {
    let (_folder, half, ann, expected) = half_lost();
    let journal = half.join("db/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let early = bytes.windows(7).position(|part| part == b"early 2").unwrap();
    assert!(bytes.windows(7).any(|part| part == b"early 4"));
    bytes[early] ^= 1;
    fs::write(&journal, bytes).unwrap();
    goes_on(&half, ann, &expected);
}

#[test]
fn a_store_does_not_open_without_its_log_nor_with_another_ones() {
    let (_folder, half, ..) = half_lost();
    let (_other_folder, other, ..) = half_lost();
    fs::rename(half.join("log"), half.join("aside")).unwrap();
    let refused = |what: &str| {
        let error = Store::open(&half, config()).err().unwrap();
        assert!(matches!(error, OpenError::Log(LogError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    refused("nothing");
    fs::remove_dir_all(half.join("log")).unwrap();
    copy(&other.join("log"), &half.join("log"));
    refused("it is of the store");
    fs::remove_dir_all(half.join("log")).unwrap();
    fs::rename(half.join("aside"), half.join("log")).unwrap();
    Store::open(&half, config()).unwrap();
}
