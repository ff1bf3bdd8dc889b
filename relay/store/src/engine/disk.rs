//! fjall as a view that can be rebuilt from the log.
//!
//! All rows are in one keyspace, with the positions among them, so that every batch is whole in one memtable and a table on the
//! disk always ends at a batch. A checkpoint writes the memtable as a table. fjall's own journal is never needed: before fjall
//! opens, its journals are replaced by an empty one, and the view stands where its tables end. A checkpoint empties the journals. (Without any journal file fjall
//! would begin its sequence numbers again, and old versions of rows would win.)

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use fjall::{
    AbstractTree as _, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice,
    compaction::Leveled,
};

use super::manifest;
use crate::{OpenError, StoreConfig, folder};

/// An open database.
pub(crate) struct Disk {
    path: PathBuf,
    rows: Keyspace,
    /// Taken when it is closed.
    database: Option<Database>,
    /// What readers look at. A snapshot that is taken while a commit is under way may hold parts of it: the engine gives that
    /// its number first, and a flush or a compaction that ends meanwhile makes visible whatever has a lower number than its own.
    published: ArcSwap<fjall::Snapshot>,
    memtables: Mutex<Memtables>,
}

/// Where the engine keeps its keyspaces.
const KEYSPACES: &str = "keyspaces";
/// The one with the rows.
const ROWS: &str = "rows";
/// No memtable gets as large: only checkpoints flush.
const MEMTABLE_MAX: u64 = 1 << 40;
/// Tables of checkpoints that are merged together into the level below. All kinds of records are in each, so that a merge reads
/// most of that level: with the engine's 4, merging took a third of the relay's CPU under full load, with 8 a quarter.
pub(crate) const NEW_TABLES: u8 = 8;
/// How long closing may take. The engine may never finish closing after its disk failed.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

impl Disk {
    /// Makes a database of these rows under another name and renames it when it is complete, so that an interrupted start
    /// leaves nothing that looks like one.
    pub(crate) fn create(path: &Path, config: StoreConfig, rows: &[(&[u8], &[u8])]) -> Result<(), OpenError> {
        let unfinished = path.with_extension("new");
        if unfinished.try_exists().map_err(OpenError::io(&unfinished))? {
            fs::remove_dir_all(&unfinished).map_err(OpenError::io(&unfinished))?;
        }
        let fill = |database: &Database| {
            let options = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(MEMTABLE_MAX)
                    .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(NEW_TABLES)))
                    .manual_journal_persist(true)
            };
            let keyspace = database.keyspace(ROWS, options)?;
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            rows.iter().for_each(|(key, value)| batch.insert(&keyspace, *key, *value));
            batch.commit()?;
            keyspace.rotate_memtable_and_wait()
        };
        let database = database(&unfinished, config)?;
        fill(&database).map_err(OpenError::engine(path))?;
        drop(database);
        // The engine does not do this after making keyspaces.
        sync(&unfinished.join(KEYSPACES))?;
        sync(&unfinished)?;
        fs::rename(&unfinished, path).map_err(OpenError::io(path))?;
        folder::sync_name(path).map_err(OpenError::io(path))
    }

    /// Opens what [`Self::create`] made, as of its last checkpoint.
    pub(crate) fn open(path: &Path, config: StoreConfig) -> Result<Self, OpenError> {
        check_files(path)?;
        manifest::check(path)?;
        replace_journals(path).map_err(OpenError::io(path))?;
        let database = database(path, config)?;
        if !database.keyspace_exists(ROWS) {
            return Err(OpenError::damaged(path, "the keyspace of the records is missing"));
        }
        let rows = database.keyspace(ROWS, Default::default).map_err(OpenError::engine(path))?;
        let (published, memtables) = (ArcSwap::from_pointee(database.snapshot()), Mutex::default());
        Ok(Self { path: path.to_owned(), rows, database: Some(database), published, memtables })
    }

    pub(crate) fn rows(&self) -> &Keyspace {
        &self.rows
    }

    pub(super) fn published(&self) -> Arc<fjall::Snapshot> {
        self.published.load_full()
    }

    pub(super) fn commit(&self, rows: Vec<(Slice, Option<Slice>)>) -> Result<(), fjall::Error> {
        let Some(database) = &self.database else { return Err(fjall::Error::Poisoned) };
        let mut batch = fjall::OwnedWriteBatch::with_capacity(database.clone(), rows.len());
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit()?;
        // Files that a compaction replaced stay for this snapshot until the next commit.
        self.published.store(Arc::new(database.snapshot()));
        Ok(())
    }

    pub(super) fn checkpoint(&self) -> Result<(), fjall::Error> {
        if let Err(error) = empty_journals(&self.path) {
            // It only saves writes.
            tracing::warn!(%error, "could not empty the journals of the storage engine");
        }
        let mut memtables = self.memtables.lock().unwrap_or_else(PoisonError::into_inner);
        memtables.hold(self.rows.tree.active_memtable());
        self.rows.rotate_memtable_and_wait()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let database = self.database.take();
        let (closed, wait) = mpsc::channel();
        let close = move || {
            drop(database);
            _ = closed.send(());
        };
        if thread::Builder::new().name("quip-close".to_owned()).spawn(close).is_ok()
            && wait.recv_timeout(CLOSE_WITHIN).is_err()
        {
            tracing::warn!("the store was not closed within {CLOSE_WITHIN:?}; nothing that was accepted is lost");
        }
    }
}

/// Memtables that were flushed, until nobody else has them.
///
/// Who drops the last reference to a memtable frees every row of it. The engine does that under the lock that every write needs:
/// 40 ms for 16 MiB, 170 ms for 64 MiB. The thread that makes checkpoints does it outside of that lock.
#[derive(Default)]
struct Memtables(Vec<Arc<dyn std::any::Any + Send + Sync>>);

impl Memtables {
    fn hold<T: Send + Sync + 'static>(&mut self, memtable: Arc<T>) {
        self.0.retain(|memtable| Arc::strong_count(memtable) > 1);
        self.0.push(memtable);
    }
}

fn database(path: &Path, config: StoreConfig) -> Result<Database, OpenError> {
    Database::builder(path)
        .cache_size(config.cache_bytes)
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        .worker_threads(config.worker_threads)
        .open()
        .map_err(OpenError::engine(path))
}

/// The journals hold what the tables do not have yet; the order has it too, and hands it out again.
fn replace_journals(path: &Path) -> io::Result<()> {
    for file in journals(path)? {
        fs::remove_file(file)?;
    }
    File::create(path.join("1.jnl"))?;
    folder::sync(path)
}

/// Drops what the journals hold while they are written. Most of it is still in the page cache then, and never reaches the disk.
/// The engine appends to the first journal, and leaves a hole in a later one.
fn empty_journals(path: &Path) -> io::Result<()> {
    for file in journals(path)? {
        match File::options().write(true).open(file).and_then(|file| file.set_len(0)) {
            // The engine removes those of which the tables have everything.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            emptied => emptied?,
        }
    }
    Ok(())
}

fn journals(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "jnl") {
            journals.push(file);
        }
    }
    Ok(journals)
}

/// Without these files the engine takes a database or a keyspace for unfinished, and makes a new one in its place.
fn check_files(path: &Path) -> Result<(), OpenError> {
    let keyspaces = path.join(KEYSPACES);
    let mut needed = vec![path.join("version")];
    for keyspace in fs::read_dir(&keyspaces).map_err(OpenError::io(&keyspaces))? {
        needed.push(keyspace.map_err(OpenError::io(&keyspaces))?.path().join("current"));
    }
    match needed.iter().find(|file| fs::metadata(file).map_or(0, |file| file.len()) == 0) {
        Some(missing) => Err(OpenError::damaged(path, format!("{} is missing or empty", missing.display()))),
        None => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), OpenError> {
    folder::sync(path).map_err(OpenError::io(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use fjall::Readable as _;

    use super::*;

    #[test]
    fn a_flushed_memtable_is_dropped_by_the_holder_once_nobody_else_has_it() {
        let (one, two) = (Arc::new(1), Arc::new(2));
        let weak = Arc::downgrade(&one);
        let mut memtables = Memtables::default();
        memtables.hold(one.clone());
        memtables.hold(two.clone());
        drop(one);
        assert_eq!(weak.strong_count(), 1, "the others are gone, the holder is not");
        memtables.hold(two);
        assert_eq!(weak.strong_count(), 0);
    }

    #[test]
    fn a_checkpoint_empties_the_journals() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("db");
        Disk::create(&path, StoreConfig::default(), &[(b"a", b"1")]).unwrap();
        let disk = Disk::open(&path, StoreConfig::default()).unwrap();
        let bytes =
            || journals(&path).unwrap().iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum::<u64>();
        // With the larger rows the engine begins another journal, which it does not append to.
        for (round, length) in [(0_u8, 1_000), (1, 700_000), (2, 1_000), (3, 1_000)] {
            (0..100).for_each(|i| disk.commit(vec![([round, i].into(), Some(vec![0; length].into()))]).unwrap());
            assert!(bytes() > 100_000);
            disk.checkpoint().unwrap();
            assert!(bytes() < 10_000, "{} in round {round}", bytes());
        }
        drop(disk);
        let disk = Disk::open(&path, StoreConfig::default()).unwrap();
        assert_eq!(disk.published().iter(disk.rows()).count(), 401);
    }

    #[test]
    fn a_checkpoint_survives_and_what_came_later_does_not() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("db");
        Disk::create(&path, StoreConfig::default(), &[(b"a", b"1")]).unwrap();
        let put = |disk: &Disk, key: &[u8]| disk.commit(vec![(key.into(), Some(key.into()))]).unwrap();
        let keys = |disk: &Disk| {
            let found = disk.published().iter(disk.rows()).map(|row| row.key().unwrap().to_vec());
            found.collect::<Vec<_>>()
        };
        for round in 0..3_u8 {
            let disk = Disk::open(&path, StoreConfig::default()).unwrap();
            assert_eq!(keys(&disk).len(), 1 + usize::from(round));
            put(&disk, &[b'b', round]);
            put(&disk, b"a");
            disk.checkpoint().unwrap();
            put(&disk, b"late");
            assert!(keys(&disk).contains(&b"late".to_vec()));
        }
    }
}
