//! Opening a store, and making one.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use fjall::{AbstractTree as _, CompressionType, Database, PersistMode, Snapshot};
use quip_order::Ordered;

use crate::{
    OpenError, View, folder,
    journal::{self, Repaired},
    keys::meta,
    log::Log,
    manifest,
    memtables::Memtables,
    space::Spaces,
};

/// The format that this version writes: key layouts, row versions, keyspaces, log.
pub(crate) const FORMAT: u32 = 4;
/// The one before, which has no log; it is taken over when it is opened.
const WITHOUT_LOG: u32 = 3;

/// What a store may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of blocks kept in memory for reading.
    pub cache_bytes: u64,
    /// Bytes of the newest rows kept in memory for each kind of record that is written, and as much again while they
    /// are flushed. Smaller ones are flushed more often, which makes the slowest commits slower. Only for a store that is made.
    pub memtable_bytes: u64,
    /// Threads that flush and compact.
    pub worker_threads: usize,
    /// Bytes of the log that makes commits durable, half of them in each of its two files; at least 8 MiB. Half of it should
    /// hold what is committed in a quarter of a second. Only for a log that is made: one that is there keeps its size.
    pub log_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, memtable_bytes: 64 << 20, worker_threads: 2, log_bytes: 32 << 20 }
    }
}

/// A store that is open for writing; no other process can open it.
///
/// Only a [`crate::Sequencer`] writes to it. The folder stays locked until the store and all its views are gone.
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) log: Log,
    /// What the log holds and the engine lost.
    pub(crate) lost: Vec<Ordered>,
    /// The position before that.
    pub(crate) applied: u64,
}

/// What a store and its views share. Fields are dropped in order: the lock goes last.
pub(crate) struct Inner {
    /// Goes first: its thread holds the keyspaces.
    _memtables: Memtables,
    pub(crate) spaces: Spaces,
    pub(crate) database: Database,
    /// The engine's.
    pub(crate) folder: PathBuf,
    pub(crate) generation: u64,
    published: ArcSwap<Snapshot>,
    _lock: File,
}

impl Inner {
    /// The store as of the last commit.
    pub(crate) fn published(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// Shows readers what is committed; only for the one that commits, between its commits. A snapshot that is taken at
    /// any other time may hold parts of a commit: the engine gives that its number before it is synced, and a flush or
    /// a compaction that ends meanwhile makes visible whatever has a lower number than its own. Files that a compaction
    /// replaced stay for this snapshot until the next commit.
    pub(crate) fn publish(&self) {
        self.published.store(Arc::new(self.database.snapshot()));
    }

    /// From now on an older version, which does not know the log, refuses the store.
    fn take_over(&self) -> Result<(), fjall::Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.spaces.meta.handle, meta::FORMAT, FORMAT.to_be_bytes());
        batch.commit()
    }
}

/// Bytes of the memtables, at least: a store of the format before does not say.
fn memtable(path: &Path, database: &Database) -> Result<u64, OpenError> {
    let meta = database.keyspace(meta::KEYSPACE, Default::default).map_err(OpenError::engine(path))?;
    let Some(value) = meta.get(meta::MEMTABLE).map_err(OpenError::engine(path))? else { return Ok(SMALLEST_MEMTABLE) };
    let bytes = (*value).try_into().map(u64::from_be_bytes);
    bytes.map_err(|_| OpenError::damaged(path, "it does not say how large its memtables are"))
}

/// The position up to which the store has what the log had.
fn applied(path: &Path, spaces: &Spaces) -> Result<u64, OpenError> {
    let Some(value) = spaces.meta.handle.get(meta::LOG_POSITION).map_err(OpenError::engine(path))? else {
        return Ok(0);
    };
    let position = (*value).try_into().map(u64::from_be_bytes);
    position.map_err(|_| OpenError::damaged(path, "it does not say how far it goes"))
}

impl Store {
    /// Opens the store in the folder `path`, or makes one. Commits that a power loss tore are cut off; the sequencer makes them
    /// again from the log.
    ///
    /// # Errors
    /// When it is in use, damaged, of a format that is not known here, or the disk fails.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(OpenError::io(path))?;
        let lock = lock(path)?;
        let folder = path.join(DATABASE);
        if !folder.try_exists().map_err(OpenError::io(&folder))? {
            create(path, config)?;
        }
        check_files(path, &folder)?;
        manifest::check(&folder)?;
        let mut log = Log::open(&path.join(LOG), config.log_bytes)?;
        sync_folder(path)?;
        let repaired = journal::repair(&folder, log.is_begun())?;
        let database = database(&folder, config)?;
        if check_format(path, &database)? == WITHOUT_LOG && log.is_begun() {
            return Err(OpenError::damaged(path, "it is older than the log beside it"));
        }
        if let Some(missing) = Spaces::NAMES.iter().find(|name| !database.keyspace_exists(name)) {
            return Err(OpenError::damaged(path, format!("the keyspace {missing} is missing")));
        }
        let memtable = memtable(path, &database)?;
        let spaces = Spaces::open(&database, memtable).map_err(OpenError::engine(path))?;
        let generation = spaces.meta.handle.get(meta::GENERATION).map_err(OpenError::engine(path))?;
        let generation = generation.and_then(|value| Some(u64::from_be_bytes((*value).try_into().ok()?)));
        let generation =
            generation.ok_or_else(|| OpenError::damaged(path, "it does not say which generation it is of"))?;
        if let Repaired::Cut(Some(seqno)) = repaired
            && let Some(newer) = spaces.handles().find(|handle| handle.tree.get_highest_persisted_seqno() > Some(seqno))
        {
            let what = format!("a table of {} has what the newest journal lost", newer.name());
            return Err(OpenError::damaged(path, what));
        }
        let applied = applied(path, &spaces)?;
        let lost = log.after(generation, applied)?;
        journal::forget_cut(&folder).map_err(OpenError::io(&folder))?;
        let published = ArcSwap::from_pointee(database.snapshot());
        let _memtables = Memtables::free(spaces.handles().cloned().collect()).map_err(OpenError::io(path))?;
        let inner = Inner { _memtables, spaces, database, folder, generation, published, _lock: lock };
        inner.take_over().map_err(OpenError::engine(path))?;
        Ok(Self { inner: Arc::new(inner), log, lost, applied })
    }

    /// A view of it.
    pub fn view(&self) -> View {
        View::new(self.inner.clone())
    }
}

/// Holds the folder for as long as the file is open. The engine has a lock of its own, but journals are repaired first.
fn lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(OpenError::io(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: file, source }),
    }
}

/// Makes a store under another name and renames it when it is complete, so that an interrupted start leaves nothing
/// that looks like a store.
fn create(path: &Path, config: StoreConfig) -> Result<(), OpenError> {
    let unfinished = path.join("db.new");
    if unfinished.try_exists().map_err(OpenError::io(&unfinished))? {
        fs::remove_dir_all(&unfinished).map_err(OpenError::io(&unfinished))?;
    }
    let database = database(&unfinished, config)?;
    fill(&database, config).map_err(OpenError::engine(path))?;
    drop(database);
    // The engine does not do this after making keyspaces.
    sync_folder(&unfinished.join(KEYSPACES))?;
    sync_folder(&unfinished)?;
    fs::rename(&unfinished, path.join(DATABASE)).map_err(OpenError::io(path))?;
    sync_folder(path)?;
    folder::sync_name(path).map_err(OpenError::io(path))
}

fn sync_folder(path: &Path) -> Result<(), OpenError> {
    folder::sync(path).map_err(OpenError::io(path))
}

/// Without these files the engine takes a database or a keyspace for unfinished, and makes a new one in its place.
fn check_files(path: &Path, folder: &Path) -> Result<(), OpenError> {
    let keyspaces = folder.join(KEYSPACES);
    let mut needed = vec![folder.join("version")];
    for keyspace in fs::read_dir(&keyspaces).map_err(OpenError::io(&keyspaces))? {
        needed.push(keyspace.map_err(OpenError::io(&keyspaces))?.path().join("current"));
    }
    match needed.iter().find(|file| fs::metadata(file).map_or(0, |file| file.len()) == 0) {
        Some(missing) => Err(OpenError::damaged(path, format!("{} is missing or empty", missing.display()))),
        None => Ok(()),
    }
}

fn fill(database: &Database, config: StoreConfig) -> Result<(), fjall::Error> {
    let spaces = Spaces::open(database, config.memtable_bytes)?;
    let generation: u64 = rand::random_range(1..=u64::MAX);
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&spaces.meta.handle, meta::FORMAT, FORMAT.to_be_bytes());
    batch.insert(&spaces.meta.handle, meta::GENERATION, generation.to_be_bytes());
    batch.insert(&spaces.meta.handle, meta::MEMTABLE, config.memtable_bytes.to_be_bytes());
    batch.commit()
}

fn database(folder: &Path, config: StoreConfig) -> Result<Database, OpenError> {
    Database::builder(folder)
        .cache_size(config.cache_bytes)
        // The log makes commits durable, and the sequencer's syncer follows.
        .manual_journal_persist(true)
        // To check a compressed journal, the engine compresses it again and compares: a later compressor would fail it.
        .journal_compression(CompressionType::None)
        .worker_threads(config.worker_threads)
        .open()
        .map_err(OpenError::engine(folder))
}

/// The format, before anything else is looked at: another one may have other keyspaces.
fn check_format(path: &Path, database: &Database) -> Result<u32, OpenError> {
    let found = match database.keyspace_exists(meta::KEYSPACE) {
        true => database.keyspace(meta::KEYSPACE, Default::default).and_then(|space| space.get(meta::FORMAT)),
        false => Ok(None),
    };
    match found.map_err(OpenError::engine(path))? {
        Some(found) => match (*found).try_into().map(u32::from_be_bytes) {
            Ok(found @ (FORMAT | WITHOUT_LOG)) => Ok(found),
            found => {
                let found = found.map_or("unknown".to_owned(), |found| found.to_string());
                Err(OpenError::Format { path: path.to_owned(), found, known: FORMAT })
            }
        },
        None => Err(OpenError::damaged(path, "it does not say which format it has")),
    }
}

/// Bytes of memtables that no store was made with less than.
const SMALLEST_MEMTABLE: u64 = 1 << 20;
/// The engine's folder inside the store's.
const DATABASE: &str = "db";
/// The log's.
const LOG: &str = "log";
/// Where the engine keeps its keyspaces.
const KEYSPACES: &str = "keyspaces";

#[cfg(test)]
mod tests;
