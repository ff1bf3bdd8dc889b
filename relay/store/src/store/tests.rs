mod reading;
mod sequencer;

use std::{fs, path::PathBuf};

use bytes::Bytes;
use quip_core::{
    EventRecord, Key, Kind as _,
    record::{EventKey, MemberKey},
};
use quip_order::{EmbeddedConfig, MemoryLog, Order, Submit, embedded_in_memory};
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId};
use tempfile::TempDir;

use super::*;
use crate::{Direction, PageLimit, ReadError};

const GENERATION: u64 = 7;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> Result<Store, OpenError> {
    Store::open(folder.path(), StoreConfig { cache_bytes: 1 << 20, ..StoreConfig::default() }, GENERATION)
}

fn failure(folder: &TempDir) -> OpenError {
    open(folder).err().expect("the store must not open")
}

/// An order in memory that belongs to the stores here.
fn order(log: &MemoryLog) -> (Arc<dyn Submit>, Box<dyn Order>) {
    let (submit, order) = embedded_in_memory(log.clone(), EmbeddedConfig::default());
    (submit, order)
}

fn id() -> ConversationId {
    ConversationId::room(&RoomName::parse("test:room").unwrap())
}

fn ann() -> UserId {
    UserId::parse("ann").unwrap()
}

fn body(seq: u64) -> Bytes {
    Bytes::from(format!("{seq:0>1000}"))
}

/// Writes rows as the sequencer does.
fn write(store: &Store, rows: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
    let mut batch = Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.insert(&key, &value),
            None => batch.remove(&key),
        }
    }
    store.inner.engine.commit(batch).unwrap();
}

fn event_key(seq: u64) -> Vec<u8> {
    EventRecord::key(&EventKey(id(), seq))
}

fn write_events(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    let row = |seq| {
        let record = EventRecord { user: ann(), device: DeviceId([1; 16]), n: seq, frame: body(seq) };
        (event_key(seq), Some(record.value()))
    };
    write(store, seqs.map(row));
}

fn read_events(store: &Store, last: u64) -> Result<Vec<u8>, ReadError> {
    let limit = PageLimit { bytes: usize::MAX, events: usize::MAX };
    let (mut read, mut next) = (Vec::new(), 1);
    while next <= last {
        let page = store.view().page(id(), next..=last, Direction::Forward, limit)?;
        read.extend_from_slice(&page.frames);
        next = if page.count > 0 { page.last + 1 } else { break };
    }
    Ok(read)
}

fn expected(last: u64) -> Vec<u8> {
    (1..=last).flat_map(body).collect()
}

/// The tables of the records on the disk.
fn tables(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("db/keyspaces/1/tables")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_store_follows_one_log() {
    let folder = folder();
    assert_eq!(open(&folder).unwrap().view().generation(), GENERATION);
    assert_eq!(open(&folder).unwrap().view().generation(), GENERATION);
    let error = Store::open(folder.path(), StoreConfig::default(), 8).err().unwrap();
    assert!(matches!(error, OpenError::OtherLog { store: GENERATION, log: 8, .. }), "{error}");
    let disk = MemoryDisk::default();
    assert_eq!(Store::open_in_memory(&disk, 8).unwrap().view().generation(), 8);
    assert!(matches!(Store::open_in_memory(&disk, 9).err(), Some(OpenError::OtherLog { .. })));
}

#[test]
fn a_renewed_store_follows_another_log_and_holds_the_same() {
    let folder = folder();
    let renew = || Store::renew(folder.path(), StoreConfig::default(), 8);
    assert!(renew().is_err(), "there is none");
    let store = open(&folder).unwrap();
    write(&store, [(b"key".to_vec(), Some(b"value".to_vec()))]);
    store.inner.engine.checkpoint().unwrap();
    assert!(matches!(renew(), Err(OpenError::InUse(_))));
    drop(store);
    for _ in 0..2 {
        renew().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default(), 8).unwrap();
        assert_eq!(store.inner.engine.snapshot().get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    }
    assert!(matches!(failure(&folder), OpenError::OtherLog { store: 8, log: GENERATION, .. }));
}

#[test]
fn a_folder_in_use_is_refused_until_the_last_view_is_gone() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let error = failure(&folder);
    assert!(matches!(&error, OpenError::InUse(path) if path == folder.path()), "{error}");
    let view = store.view();
    drop(store);
    assert!(matches!(failure(&folder), OpenError::InUse(_)));
    drop(view);
    open(&folder).unwrap();
}

#[test]
fn another_format_is_refused_and_nothing_is_changed() {
    let folder = folder();
    drop(open(&folder).unwrap());
    let journal = folder.path().join("db/1.jnl");
    fs::write(&journal, b"what another version needs").unwrap();
    let format = folder.path().join("format");
    for (found, says) in [(Some("99\n"), "99"), (Some(""), "\"\""), (None, "4 or lower")] {
        match found {
            Some(text) => fs::write(&format, text).unwrap(),
            None => fs::remove_file(&format).unwrap(),
        }
        let error = failure(&folder);
        assert!(matches!(&error, OpenError::Format { found, known: FORMAT, .. } if found.contains(says)), "{error}");
        assert!(error.to_string().contains("use the version that wrote it"));
    }
    assert_eq!(fs::read(journal).unwrap(), b"what another version needs");
}

#[test]
fn an_interrupted_first_start_is_repeated() {
    let folder = folder();
    let unfinished = folder.path().join("db.new");
    fs::create_dir_all(unfinished.join("keyspaces")).unwrap();
    fs::write(unfinished.join("0.jnl"), b"half a journal").unwrap();
    let store = open(&folder).unwrap();
    write_events(&store, 1..=1);
    assert!(!unfinished.exists());
}

#[test]
fn a_missing_file_is_damage_and_the_engine_deletes_nothing() {
    for file in ["version", "keyspaces/1/current"] {
        let folder = folder();
        drop(open(&folder).unwrap());
        let before = fs::read_dir(folder.path().join("db/keyspaces")).unwrap().count();
        fs::write(folder.path().join("db").join(file), b"").unwrap();
        let error = failure(&folder);
        assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains(file)), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("db/keyspaces")).unwrap().count(), before);
    }
    let folder = folder();
    drop(open(&folder).unwrap());
    fs::remove_dir_all(folder.path().join("db/keyspaces/1")).unwrap();
    let error = failure(&folder);
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("keyspace")), "{error}");
}

#[test]
fn a_flipped_byte_is_an_error_or_does_not_matter() {
    const EVENTS: u64 = 100;
    let original = folder();
    let store = open(&original).unwrap();
    let before = tables(&original);
    write_events(&store, 1..=EVENTS);
    store.inner.engine.checkpoint().unwrap();
    let new: Vec<_> = tables(&original).into_iter().filter(|table| !before.contains(table)).collect();
    let [table] = &new[..] else { panic!("one table: {new:?}") };
    let table = table.strip_prefix(original.path()).unwrap().to_owned();
    drop(store);
    let length = fs::metadata(original.path().join(&table)).unwrap().len() as usize;

    let (mut at_open, mut at_read) = (0, 0);
    for at in (0..length).step_by(length / 40) {
        let folder = folder();
        copy(original.path(), folder.path());
        flip(&folder.path().join(&table), at);
        match open(&folder) {
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}: {error}");
                at_open += 1;
            }
            Ok(store) => match read_events(&store, EVENTS) {
                Ok(read) => assert!(read == expected(EVENTS), "byte {at}: wrong without a word"),
                Err(ReadError::Damaged { kind, .. }) => {
                    assert_eq!(kind, "event");
                    at_read += 1;
                }
                Err(error) => panic!("byte {at}: {error}"),
            },
        }
    }
    assert!(at_read > 30, "{at_read} at reading, {at_open} at opening");
}

/// The engine itself would open these, without some of its tables.
#[test]
fn a_damaged_list_of_tables_is_refused() {
    let original = folder();
    let store = open(&original).unwrap();
    write_events(&store, 1..=20);
    store.inner.engine.checkpoint().unwrap();
    drop(store);
    let current = |keyspace: PathBuf| {
        let content = fs::read(keyspace.join("current")).unwrap();
        keyspace.join(format!("v{}", u64::from_le_bytes(content[..8].try_into().unwrap())))
    };
    let keyspaces = fs::read_dir(original.path().join("db/keyspaces")).unwrap();
    let lists: Vec<_> = keyspaces.map(|keyspace| current(keyspace.unwrap().path())).collect();
    assert_eq!(lists.len(), 2, "the engine's own and the records': {lists:?}");
    for list in lists {
        let length = fs::metadata(&list).unwrap().len() as usize;
        let folder = folder();
        copy(original.path(), folder.path());
        flip(&folder.path().join(list.strip_prefix(original.path()).unwrap()), length / 2);
        let error = open(&folder).err().unwrap();
        assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("list of tables")), "{error}");
    }
    open(&original).unwrap();
}

#[test]
fn a_hole_in_a_page_is_damage() {
    let folder = folder();
    let store = open(&folder).unwrap();
    write_events(&store, 1..=5);
    write(&store, [(event_key(3), None)]);
    let error = read_events(&store, 5).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { kind: "event", .. }) && !error.may_retry(), "{error}");
}

#[test]
fn both_engines_read_alike() {
    let folder = folder();
    let disk = MemoryDisk::default();
    for store in [open(&folder).unwrap(), Store::open_in_memory(&disk, GENERATION).unwrap()] {
        write_events(&store, 1..=9);
        let before = store.inner.engine.snapshot();
        write(&store, [(event_key(4), None)]);
        let seqs = |rows: &crate::engine::Snapshot, from: u64, to: u64| {
            let (from, to) = (event_key(from), event_key(to));
            let bounds = (std::ops::Bound::Excluded(&from[..]), std::ops::Bound::Included(&to[..]));
            let forward: Vec<_> = rows.range(bounds.0, bounds.1).map(|row| EventRecord::seq(&row.unwrap().0)).collect();
            let mut backward: Vec<_> =
                rows.range(bounds.0, bounds.1).rev().map(|row| EventRecord::seq(&row.unwrap().0)).collect();
            backward.reverse();
            assert_eq!(forward, backward);
            forward.into_iter().map(Option::unwrap).collect::<Vec<_>>()
        };
        assert_eq!(seqs(&before, 2, 7), [3, 4, 5, 6, 7], "a snapshot stays as it is");
        assert_eq!(seqs(&store.inner.engine.snapshot(), 2, 7), [3, 5, 6, 7]);
        assert!(before.get(&event_key(4)).unwrap().is_some());
        assert!(store.inner.engine.snapshot().get(&event_key(4)).unwrap().is_none());
        store.inner.engine.checkpoint().unwrap();
        write_events(&store, 10..=10);
    }
    let again = [open(&folder).unwrap(), Store::open_in_memory(&disk, GENERATION).unwrap()];
    for store in again {
        let rows = store.inner.engine.snapshot();
        assert!(rows.get(&event_key(9)).unwrap().is_some() && rows.get(&event_key(10)).unwrap().is_none());
    }
}
