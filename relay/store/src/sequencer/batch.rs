//! What one commit writes.

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};

/// More than a row takes in a memtable beside its key and value.
const BESIDE: usize = 128;

/// Rows for the engine, counted.
pub(super) struct Batch {
    rows: OwnedWriteBatch,
    bytes: usize,
}

impl Batch {
    pub(super) fn new(database: &Database) -> Self {
        Self { rows: database.batch(), bytes: 0 }
    }

    pub(super) fn insert(&mut self, space: &Keyspace, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len() + BESIDE;
        self.rows.insert(space, key, value);
    }

    pub(super) fn remove(&mut self, space: &Keyspace, key: &[u8]) {
        self.bytes += key.len() + BESIDE;
        self.rows.remove(space, key);
    }

    /// What the rows take in memtables, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn commit(self, durability: PersistMode) -> Result<(), fjall::Error> {
        self.rows.durability(Some(durability)).commit()
    }
}
