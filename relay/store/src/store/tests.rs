mod reading;
mod sequencer;

use std::path::PathBuf;

use bytes::Bytes;
use quip_core::EventRow;
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId};
use tempfile::TempDir;

use super::*;
use crate::{Direction, PageLimit, ReadError, keys, space::Space};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> Result<Store, OpenError> {
    Store::open(folder.path(), StoreConfig { cache_bytes: 1 << 20, ..StoreConfig::default() })
}

fn failure(folder: &TempDir) -> OpenError {
    open(folder).err().expect("the store must not open")
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

/// Writes events as the sequencer does.
fn write_events(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    let mut batch = store.inner.database.batch().durability(Some(PersistMode::SyncData));
    for seq in seqs {
        let row = EventRow { user: ann(), device: DeviceId([1; 16]), n: seq, frame: body(seq) };
        batch.insert(&store.inner.spaces.events.handle, &keys::event::encode(id(), seq)[..], row.encode());
    }
    batch.commit().unwrap();
    store.inner.publish();
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

/// Moves what is in memory to files of their own; what they hold is read back with checksums.
fn flush(space: &Space) {
    space.handle.rotate_memtable_and_wait().unwrap();
}

/// The keyspace's tables on the disk.
fn tables(space: &Space) -> Vec<PathBuf> {
    let entries = fs::read_dir(space.handle.path().join("tables")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_store_keeps_its_generation_and_every_store_has_its_own() {
    let (one, other) = (folder(), folder());
    let generation = open(&one).unwrap().view().generation();
    assert_eq!(open(&one).unwrap().view().generation(), generation);
    assert_ne!(open(&other).unwrap().view().generation(), generation);
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
fn another_format_is_refused() {
    let folder = folder();
    let store = open(&folder).unwrap();
    store.inner.spaces.meta.handle.insert(meta::FORMAT, (FORMAT + 1).to_be_bytes()).unwrap();
    store.inner.database.persist(PersistMode::SyncAll).unwrap();
    drop(store);
    let error = failure(&folder);
    assert!(
        matches!(&error, OpenError::Format { found, known: FORMAT, .. } if *found == (FORMAT + 1).to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("use the version that wrote it"));
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
fn a_missing_keyspace_is_damage() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let sends = store.inner.spaces.sends.handle.path().to_owned();
    drop(store);
    fs::remove_dir_all(sends).unwrap();
    let error = failure(&folder);
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("sends")), "{error}");
}

#[test]
fn a_missing_file_is_damage_and_the_engine_deletes_nothing() {
    for file in ["version", "keyspaces/3/current"] {
        let folder = folder();
        drop(open(&folder).unwrap());
        let folder_before = fs::read_dir(folder.path().join("db/keyspaces")).unwrap().count();
        fs::write(folder.path().join("db").join(file), b"").unwrap();
        let error = failure(&folder);
        assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains(file)), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("db/keyspaces")).unwrap().count(), folder_before);
    }
}

#[test]
fn a_torn_last_commit_goes_and_a_damaged_earlier_one_is_refused() {
    let folder = folder();
    let store = open(&folder).unwrap();
    (1..=3).for_each(|seq| write_events(&store, seq..=seq));
    drop(store);
    let journal = folder.path().join("db/0.jnl");
    let intact = fs::read(&journal).unwrap();
    let place = |seq| intact.windows(body(seq).len()).position(|window| window == &body(seq)[..]).unwrap();

    let mut torn = intact.clone();
    torn[place(3)..][..512].fill(0);
    fs::write(&journal, torn).unwrap();
    let store = open(&folder).unwrap();
    assert_eq!(read_events(&store, 3).unwrap(), expected(2));
    write_events(&store, 3..=4);
    drop(store);
    assert_eq!(read_events(&open(&folder).unwrap(), 4).unwrap(), expected(4), "commits go on after the repair");

    let mut damaged = intact.clone();
    damaged[place(2)..][..512].fill(0);
    fs::write(&journal, &damaged).unwrap();
    let error = failure(&folder);
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("0.jnl")), "{error}");
    assert_eq!(fs::read(&journal).unwrap(), damaged, "nothing was touched");
}

#[test]
fn a_flipped_byte_is_told_or_does_not_matter() {
    const EVENTS: u64 = 100;
    let original = folder();
    let store = open(&original).unwrap();
    write_events(&store, 1..=EVENTS);
    flush(&store.inner.spaces.events);
    let [table] = &tables(&store.inner.spaces.events)[..] else { panic!("one table") };
    let table = table.strip_prefix(original.path()).unwrap().to_owned();
    drop(store);
    let length = fs::metadata(original.path().join(&table)).unwrap().len() as usize;

    let (mut told_at_open, mut told_at_read) = (0, 0);
    for at in (0..length).step_by(length / 40) {
        let folder = folder();
        copy(original.path(), folder.path());
        flip(&folder.path().join(&table), at);
        match open(&folder) {
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}: {error}");
                told_at_open += 1;
            }
            Ok(store) => match read_events(&store, EVENTS) {
                Ok(read) => assert!(read == expected(EVENTS), "byte {at}: wrong without a word"),
                Err(ReadError::Damaged { keyspace, .. }) => {
                    assert_eq!(keyspace, "events");
                    told_at_read += 1;
                }
                Err(error) => panic!("byte {at}: {error}"),
            },
        }
    }
    assert!(told_at_read > 30, "{told_at_read} at reading, {told_at_open} at opening");
}

/// The engine itself would open these, without some of its tables.
#[test]
fn a_damaged_list_of_tables_is_refused() {
    let original = folder();
    let store = open(&original).unwrap();
    write_events(&store, 1..=20);
    flush(&store.inner.spaces.events);
    drop(store);
    let current = |keyspace: PathBuf| {
        let content = fs::read(keyspace.join("current")).unwrap();
        keyspace.join(format!("v{}", u64::from_le_bytes(content[..8].try_into().unwrap())))
    };
    let keyspaces = fs::read_dir(original.path().join("db/keyspaces")).unwrap();
    let lists: Vec<_> = keyspaces.map(|keyspace| current(keyspace.unwrap().path())).collect();
    assert!(lists.len() >= Spaces::NAMES.len(), "{lists:?}");
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
fn a_hole_in_a_page_is_damage() {
    let folder = folder();
    let store = open(&folder).unwrap();
    write_events(&store, 1..=5);
    store.inner.spaces.events.handle.remove(keys::event::encode(id(), 3)).unwrap();
    store.inner.publish();
    let error = read_events(&store, 5).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { keyspace: "events", .. }) && !error.may_retry(), "{error}");
}
