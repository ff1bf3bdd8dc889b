//! Where the view keeps its rows: fjall on a disk, or a map in memory for tests and the simulation.
//!
//! What is committed is visible at once and survives the process only once a checkpoint that began later has ended.

mod disk;
mod manifest;
mod memory;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use fjall::{Readable as _, Slice};

pub(crate) use self::disk::Disk;
#[cfg(test)]
pub(crate) use self::disk::NEW_TABLES;
pub use self::memory::MemoryDisk;
use self::memory::Rows;
use crate::EngineError;

/// An open engine.
pub(crate) enum Engine {
    Disk(Disk),
    Memory(Rows),
}

/// What one commit writes.
#[derive(Default)]
pub(crate) struct Batch {
    rows: Vec<(Slice, Option<Slice>)>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len() + OVERHEAD;
        self.rows.push((key.into(), Some(value.into())));
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.bytes += key.len() + OVERHEAD;
        self.rows.push((key.into(), None));
    }

    /// What the rows take in memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

/// What a row takes in memory beside its key and value.
const OVERHEAD: usize = 128;

impl Engine {
    /// Commits a batch and shows it to readers, whole.
    ///
    /// # Errors
    /// When the engine takes no more commits.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), EngineError> {
        match self {
            Self::Disk(disk) => disk.commit(batch.rows)?,
            Self::Memory(rows) => rows.commit(batch.rows),
        }
        Ok(())
    }

    /// Makes durable everything that was committed before the call. Waits for the disk.
    ///
    /// # Errors
    /// When the engine takes no more commits.
    pub(crate) fn checkpoint(&self) -> Result<(), EngineError> {
        match self {
            Self::Disk(disk) => disk.checkpoint()?,
            Self::Memory(rows) => rows.checkpoint(),
        }
        Ok(())
    }

    /// The rows as of the last commit.
    pub(crate) fn snapshot(&self) -> Snapshot {
        match self {
            Self::Disk(disk) => Snapshot::Disk { at: disk.published(), rows: disk.rows().clone() },
            Self::Memory(rows) => Snapshot::Memory(rows.current()),
        }
    }
}

/// The rows as they were at one moment.
pub(crate) enum Snapshot {
    Disk { at: Arc<fjall::Snapshot>, rows: fjall::Keyspace },
    Memory(Arc<BTreeMap<Slice, Slice>>),
}

type Row = Result<(Slice, Slice), fjall::Error>;

impl Snapshot {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>, fjall::Error> {
        match self {
            Self::Disk { at, rows } => at.get(rows, key),
            Self::Memory(rows) => Ok(rows.get(key).cloned()),
        }
    }

    /// The rows between two keys, in order of keys, from both ends.
    pub(crate) fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Box<dyn DoubleEndedIterator<Item = Row> + '_> {
        match self {
            Self::Disk { at, rows } => Box::new(at.range::<&[u8], _>(rows, (from, to)).map(fjall::Guard::into_inner)),
            Self::Memory(rows) => {
                let rows = rows.range::<[u8], _>((from, to));
                Box::new(rows.map(|(key, value)| Ok((key.clone(), value.clone()))))
            }
        }
    }
}
