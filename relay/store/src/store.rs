//! Opening a store, and making one.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::Path,
    sync::Arc,
};

use quip_order::Positions;

use crate::{
    MemoryDisk, OpenError, ReadError, View,
    announced::Announced,
    engine::{Batch, Disk, Engine, Snapshot},
    folder, meta,
};

/// The format that this version writes: key layouts, record versions, files.
pub(crate) const FORMAT: u32 = 8;

/// What a store may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of blocks kept in memory for reading.
    pub cache_bytes: u64,
    /// Bytes of the newest records kept in memory, before a checkpoint writes them to the disk. As much again may come while it
    /// does, and it is freed some time later.
    pub memtable_bytes: u64,
    /// Threads that flush and compact. The engine lets one of them only flush: as long as another one compacts and no third is
    /// free, it hands the next request to compact to itself, over and over, and keeps a core busy.
    pub worker_threads: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, memtable_bytes: 32 << 20, worker_threads: 3 }
    }
}

/// A store that is open for writing; no other process can open it.
///
/// Only a [`crate::Sequencer`] writes to it. The folder stays locked until the store and all its views are gone.
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What a store and its views share. Fields are dropped in order: the lock goes last.
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) generation: u64,
    /// Up to where it had what follows from the log when it was opened.
    pub(crate) positions: Positions,
    pub(crate) memtable_bytes: u64,
    pub(crate) announced: Announced,
    _lock: Option<File>,
}

impl Inner {
    /// The rows with everything that was announced before the call.
    ///
    /// # Errors
    /// When the engine never gets it.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ReadError> {
        self.announced.wait()?;
        Ok(self.engine.snapshot())
    }
}

impl Store {
    /// Opens the store in the folder `path`, or makes one that follows the log of this generation. It stands at its last
    /// checkpoint.
    ///
    /// # Errors
    /// When it is in use, damaged, of another format or log, or the disk fails.
    pub fn open(path: &Path, config: StoreConfig, generation: u64) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(OpenError::io(path))?;
        let lock = lock(path)?;
        let database = path.join(DATABASE);
        let is_new = !database.try_exists().map_err(OpenError::io(&database))?;
        check_format(path, is_new)?;
        if is_new {
            Disk::create(&database, config, &[(meta::GENERATION, &generation.to_be_bytes())])?;
        }
        let engine = Engine::Disk(Disk::open(&database, config)?);
        Self::start(path, engine, generation, config.memtable_bytes, Some(lock))
    }

    /// Has the store in the folder `path` follow a log of another generation, which holds the same.
    ///
    /// # Errors
    /// When it is missing, in use, damaged or of another format, or the disk fails.
    pub fn renew(path: &Path, config: StoreConfig, generation: u64) -> Result<(), OpenError> {
        let _lock = lock(path)?;
        check_format(path, false)?;
        let engine = Engine::Disk(Disk::open(&path.join(DATABASE), config)?);
        let mut batch = Batch::default();
        batch.insert(meta::GENERATION, &generation.to_be_bytes());
        engine.commit(batch).and_then(|()| engine.checkpoint()).map_err(OpenError::commit(path))
    }

    /// Opens what a store in memory left at its last checkpoint, for tests and the simulation.
    ///
    /// # Errors
    /// When it follows another log.
    pub fn open_in_memory(disk: &MemoryDisk, generation: u64) -> Result<Self, OpenError> {
        let engine = Engine::Memory(disk.open());
        if !matches!(engine.snapshot().get(meta::GENERATION), Ok(Some(_))) {
            let mut batch = Batch::default();
            batch.insert(meta::GENERATION, &generation.to_be_bytes());
            engine.commit(batch).and_then(|()| engine.checkpoint()).expect("memory takes every commit");
        }
        Self::start(Path::new("memory"), engine, generation, StoreConfig::default().memtable_bytes, None)
    }

    fn start(
        path: &Path,
        engine: Engine,
        log: u64,
        memtable_bytes: u64,
        lock: Option<File>,
    ) -> Result<Self, OpenError> {
        let rows = engine.snapshot();
        let read = |key| rows.get(key).map_err(OpenError::engine(path));
        let generation = read(meta::GENERATION)?.and_then(|value| meta::number(&value));
        let generation = generation.ok_or_else(|| OpenError::damaged(path, "it does not say which log it follows"))?;
        if generation != log {
            return Err(OpenError::OtherLog { path: path.to_owned(), store: generation, log });
        }
        let positions = read(meta::POSITIONS)?.map_or(Some(Positions::default()), |value| meta::decode(&value));
        let positions = positions.ok_or_else(|| OpenError::damaged(path, "it does not say how far it goes"))?;
        let announced = Announced::default();
        let inner = Inner { engine, generation, positions, memtable_bytes, announced, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A view of it.
    pub fn view(&self) -> View {
        View::new(self.inner.clone())
    }
}

/// Holds the folder for as long as the file is open. The engine has a lock of its own, but its journals are replaced first.
fn lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(OpenError::io(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: file, source }),
    }
}

/// The format, before anything else is looked at or changed: another one has other files.
fn check_format(path: &Path, is_new: bool) -> Result<(), OpenError> {
    let file = path.join("format");
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == FORMAT.to_string() => Ok(()),
        Ok(found) => {
            Err(OpenError::Format { path: path.to_owned(), found: format!("{:?}", found.trim()), known: FORMAT })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_new => {
            let write = || {
                let unfinished = file.with_extension("new");
                let mut new = File::create(&unfinished)?;
                new.write_all(format!("{FORMAT}\n").as_bytes())?;
                new.sync_all()?;
                fs::rename(&unfinished, &file)?;
                folder::sync(path)
            };
            write().map_err(OpenError::io(&file))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(OpenError::Format { path: path.to_owned(), found: "4 or lower".to_owned(), known: FORMAT })
        }
        Err(source) => Err(OpenError::Io { path: file, source }),
    }
}

/// The engine's folder inside the store's.
const DATABASE: &str = "db";

#[cfg(test)]
mod tests;
