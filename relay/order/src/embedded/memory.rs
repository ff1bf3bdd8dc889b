//! A log in memory, for tests and the simulation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CommandLog, LogError};
use crate::{BatchLimit, Ordered};

/// What a log on a disk would hold. It survives the order that writes it, as a disk survives a process.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    generation: u64,
    kept: Arc<Mutex<Vec<Ordered>>>,
}

impl MemoryLog {
    /// An empty log with this identity.
    pub fn new(generation: u64) -> Self {
        Self { generation, kept: Arc::default() }
    }

    /// A log with this identity that begins with commands of another, as one that was restored from a backup does.
    pub fn restored(generation: u64, commands: Vec<Ordered>) -> Self {
        Self { generation, kept: Arc::new(Mutex::new(commands)) }
    }

    pub(super) fn reader(self) -> MemoryReader {
        MemoryReader { log: self, last: 0, replayed: 0 }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Ordered>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one that reads and writes it now.
pub(super) struct MemoryReader {
    log: MemoryLog,
    last: u64,
    /// Up to where it was replayed.
    replayed: u64,
}

impl CommandLog for MemoryReader {
    fn generation(&self) -> u64 {
        self.log.generation
    }

    fn start(&mut self, after: u64) -> Result<u64, LogError> {
        self.last = self.log.kept().last().map_or(after, |last| last.position);
        self.replayed = after;
        Ok(self.last)
    }

    fn replay(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> Result<(), LogError> {
        if self.replayed < self.last {
            let kept = self.log.kept();
            let rest = kept.iter().filter(|ordered| ordered.position > self.replayed);
            into.extend(rest.take(limit.commands).cloned());
            self.replayed = into.last().map_or(self.last, |last| last.position);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        false
    }

    fn is_half_full(&self) -> bool {
        false
    }

    fn last(&self) -> u64 {
        self.last
    }

    fn append(&mut self, batch: &[Ordered]) -> Result<(), LogError> {
        self.log.kept().extend_from_slice(batch);
        self.last += batch.len() as u64;
        self.replayed = self.last;
        Ok(())
    }

    fn checkpoint(&mut self, upto: u64) {
        self.log.kept().retain(|ordered| ordered.position > upto || ordered.position == self.last);
    }
}
