//! The records that the sequencer works on.

use hashbrown::HashMap;
use quip_core::{Folded, Key, Loaded, Record};

use super::table::{Changes, Table};
use crate::{
    ReadError,
    engine::{Batch, Engine},
    read::read,
};

/// Records in memory. Changes are visible to the commands that follow, and are written together.
pub(super) struct Cache {
    /// What stays between batches.
    kept: Table<Key, Record>,
    /// What only this batch needs again: events and what belongs to them.
    passing: HashMap<Key, Option<Record>>,
    epoch: u64,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Table::new(limit), passing: HashMap::new(), epoch: 0 }
    }

    /// Makes room before a batch, and says how often that was needed so far: records that were used in one epoch are here
    /// until two more have begun.
    pub(super) fn make_room(&mut self) -> u64 {
        if self.kept.is_full() {
            self.kept.turn_over();
            self.epoch += 1;
        }
        self.epoch
    }

    /// Takes out the records that a command needs; [`Self::put`] brings them back. The fold learns that one is damaged.
    ///
    /// # Errors
    /// When the store fails, or the send numbers are damaged: without them nothing can be recorded.
    pub(super) fn take(&mut self, keys: Vec<Key>, engine: &Engine) -> Result<Loaded, ReadError> {
        let mut loaded = Loaded::default();
        for key in keys {
            match self.take_one(&key, engine) {
                Ok(record) => loaded.push(key, record),
                Err(error @ ReadError::Damaged { .. }) if !matches!(key, Key::Sends(_)) => {
                    tracing::error!(%error, "a command is refused");
                    loaded.is_damaged = true;
                }
                Err(error) => {
                    self.put_back(loaded);
                    return Err(error);
                }
            }
        }
        Ok(loaded)
    }

    fn take_one(&mut self, key: &Key, engine: &Engine) -> Result<Option<Record>, ReadError> {
        let read = |key: &Key| read(&engine.snapshot(), key);
        if is_kept(key) {
            self.kept.take(key, read)
        } else {
            self.passing.get(key).map_or_else(|| read(key), |record| Ok(record.clone()))
        }
    }

    /// Brings back what was taken and not used.
    pub(super) fn put_back(&mut self, loaded: Loaded) {
        for (key, record) in loaded.into_records() {
            self.put_one(key, record, false);
        }
    }

    /// Takes what a command came to.
    pub(super) fn put(&mut self, folded: &mut Folded) {
        folded.unchanged.drain(..).for_each(|(key, record)| self.put_one(key, record, false));
        folded.writes.drain(..).for_each(|(key, record)| self.put_one(key, record, true));
    }

    fn put_one(&mut self, key: Key, record: Option<Record>, is_changed: bool) {
        if is_kept(&key) {
            self.kept.put(key, record, is_changed);
        } else if is_changed {
            self.passing.insert(key, record);
        }
    }

    /// Removes a record: whatever this batch would have written, and what is stored.
    pub(super) fn remove(&mut self, key: Key) {
        debug_assert!(!is_kept(&key), "only what passes is removed behind the fold's back");
        self.passing.insert(key, None);
    }

    /// Writes every change, each key once.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        for (key, record) in self.passing.drain() {
            put(batch, &key, record.as_ref(), Changes { count: 1, removed: record.is_none() });
        }
        self.kept.finish(|key, record, changes| put(batch, key, record, changes));
    }
}

/// Whether the next batches may need it.
fn is_kept(key: &Key) -> bool {
    !matches!(key, Key::Event(_) | Key::Edits(_) | Key::Reactions(_) | Key::Membership(_) | Key::Trim(_))
}

fn put(batch: &mut Batch, key: &Key, record: Option<&Record>, changes: Changes) {
    let mut gone = if changes.removed { key.stored_keys() } else { Vec::new() };
    if let Some(record) = record {
        record.encode(key, changes.count, |key, value| {
            gone.retain(|gone| gone != key);
            batch.insert(key, value);
        });
    }
    gone.iter().for_each(|key| batch.remove(key));
}
