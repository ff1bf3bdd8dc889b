//! A store that an earlier build wrote must open and read the same, for as long as its format is known.

use std::{fs, path::Path};

use quip_core::{Action, Origin};
use quip_protocol::{Code, event::role};
use quip_store::{LogError, OpenError, Store, StoreConfig};
use tempfile::TempDir;

use crate::harness::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixture");
/// The format that this build writes.
const FORMAT: u32 = 4;
const GENERATION: &str = "generation.txt";
const NAME: &str = "fixture:room";

/// A copy of what a build of that format wrote.
fn written(format: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    restore(format, folder.path());
    folder
}

fn restore(format: u32, to: &Path) {
    copy(&Path::new(FOLDER).join(format!("format-{format}")), to);
    for keyspace in fs::read_dir(to.join("db/keyspaces")).unwrap() {
        // Git keeps no empty folders.
        fs::create_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
    }
}

#[test]
fn a_store_of_every_known_format_reads_as_it_was_written() {
    reads_as_it_was_written(&written(3));
    reads_as_it_was_written(&written(4));
}

fn reads_as_it_was_written(folder: &TempDir) {
    let relay = Relay::open(folder.path());
    let (view, id) = (relay.view(), room(NAME));
    let generation = fs::read_to_string(folder.path().join(GENERATION)).unwrap();
    assert_eq!(view.generation().to_string(), generation.trim());

    let conversation = view.conversation(id).unwrap().unwrap();
    assert_eq!((conversation.head, conversation.number, conversation.first_kept), (7, 4, 2));
    let stored = all_events(view, id);
    assert!(stored.iter().map(|(seq, _)| *seq).eq(2..=7));
    assert_eq!((stored[0].1.as_slice(), stored[5].1.as_slice()), (&b"two"[..], &b"five"[..]));
    let (mut ann, ben) = (Device { n: 7, ..Device::new("ann", id) }, Device::new("ben", id));
    assert_eq!(view.member(id, &ann.user).unwrap().unwrap().role, role::OWNER);
    assert_eq!(view.members(id, None, 10).unwrap().members.len(), 1);
    assert_eq!(view.mark(&ann.user, id).unwrap(), Some(marked(2, 2)));
    assert_eq!(view.list(&ann.user, None, 10).unwrap().entries[0].conversation, conversation);
    assert_eq!(view.list(&ben.user, None, 10).unwrap().entries.len(), 0);
    let sends = view.sends(id, &ann.user, ann.device).unwrap().unwrap();
    assert!(sends.last == 7 && sends.latest.iter().all(|outcome| outcome.code == Code::DONE));

    // A resend of the old build's last message finds its outcome, and the next one goes on.
    assert_eq!(relay.accepted(ann.numbered(7, post("five"))).outcome.unwrap().seq, 7);
    assert_eq!(relay.accepted(ann.next(post("six"))).outcome.unwrap().seq, 8);

    // A deletion finds what the old build noted of the message's edits.
    let edits = view.edits(id, 2).unwrap().unwrap().edits;
    assert!(matches!(edits[..], [Origin { seq: 5, number: 3, n: 5, device, .. }] if device == ann.device), "{edits:?}");
    assert!(holds(view, id, b"two") && holds(view, id, b"four"));
    relay.accepted(ann.next(Action::Delete { target: 2 }));
    assert!(!holds(view, id, b"two") && !holds(view, id, b"four") && view.edits(id, 2).unwrap().is_none());
    relay.close();
}

#[test]
fn a_store_of_format_3_gets_a_log_that_is_its_own_from_then_on() {
    let folder = written(3);
    let relay = Relay::open(folder.path());
    let mut ann = Device { n: 7, ..Device::new("ann", room(NAME)) };
    relay.accepted(ann.next(post("six")));
    relay.close();
    let (newer, log, db) = (folder.path().join("newer"), folder.path().join("log"), folder.path().join("db"));
    fs::rename(&db, &newer).unwrap();
    restore(3, folder.path());
    let error = Store::open(folder.path(), config()).err().unwrap();
    assert!(error.to_string().contains("older than the log"), "{error}");
    fs::remove_dir_all(&db).unwrap();
    fs::rename(newer, db).unwrap();
    fs::remove_dir_all(log).unwrap();
    let error = Store::open(folder.path(), config()).err().unwrap();
    assert!(matches!(error, OpenError::Log(LogError::Damaged { .. })), "{error}");
}

/// Makes the fixture. By hand, and only for a new format: `cargo test -p quip-store --test store -- --ignored`.
#[test]
#[ignore = "writes the fixture"]
fn make() {
    let folder = Path::new(FOLDER).join(format!("format-{FORMAT}"));
    _ = fs::remove_dir_all(&folder);
    // Small enough to be kept with the code.
    let config = StoreConfig { log_bytes: 64 << 10, ..config() };
    let relay = Relay::open_as(&folder, config);
    let id = room(NAME);
    let (mut ann, mut ben) = (Device::new("ann", id), Device::new("ben", id));
    relay.accepted(ann.next(join(NAME)));
    relay.accepted(ben.next(join(NAME)));
    relay.accepted(ann.next(post("one")));
    relay.accepted(ann.next(post("two")));
    relay.accepted(ann.next(Action::React { target: 2, add: true, reaction: "+1".to_owned() }));
    relay.accepted(ben.next(post("three")));
    relay.accepted(ann.next(Action::Edit { target: 2, body: "four".into() }));
    relay.accepted(ann.next(Action::SetTitle { title: "Fixture".to_owned() }));
    relay.accepted(ben.next(Action::Leave));
    relay.send(ann.mark(2, 2));
    relay.submit(by_relay(id, Action::Trim { first_kept: 2 }));
    relay.running.told.recv_timeout(PATIENCE).unwrap();
    relay.accepted(ann.next(post("five")));
    fs::write(folder.join(GENERATION), relay.view().generation().to_string()).unwrap();
    relay.close();
    // Opening once more cuts the rest of the preallocated journal off.
    Store::open(&folder, config).unwrap();
}
