//! The records of a command while it is folded.

use super::Write;
use crate::record::{Key, Kind, Record};

/// The records that a command needs, in their state before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    records: Vec<Write>,
    /// A record other than the send numbers could not be read: the command is refused.
    pub is_damaged: bool,
}

impl Loaded {
    /// These records; `None` where there is none.
    pub fn new(records: Vec<Write>) -> Self {
        Self { records, is_damaged: false }
    }

    /// Adds one.
    pub fn push(&mut self, key: Key, record: Option<Record>) {
        self.records.push((key, record));
    }

    /// Returns the records.
    pub fn into_records(self) -> Vec<Write> {
        self.records
    }

    /// Removes and returns the record of a key.
    pub(super) fn take<K: Kind>(&mut self, key: K::Key) -> Held<K> {
        let key = key.into();
        let at = self.records.iter().position(|(other, _)| *other == key);
        let (key, record) = at.map_or((key, None), |at| self.records.swap_remove(at));
        let is_loaded = at.is_some();
        Held { key, record: record.and_then(K::of), is_loaded, is_changed: false }
    }
}

/// A record that may be changed.
pub(super) struct Held<K: Kind> {
    key: Key,
    record: Option<K>,
    is_loaded: bool,
    is_changed: bool,
}

impl<K: Kind> Held<K> {
    pub(super) fn get(&self) -> Option<&K> {
        self.record.as_ref()
    }

    /// The record, marked as changed.
    pub(super) fn change(&mut self) -> &mut Option<K> {
        debug_assert!(self.is_loaded, "what is written was loaded: {:?}", self.key);
        self.is_changed = true;
        &mut self.record
    }

    pub(super) fn set(&mut self, record: K) {
        *self.change() = Some(record);
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Adds it to the writes or to the unchanged records.
    pub(super) fn put(self, writes: &mut Vec<Write>, unchanged: &mut Vec<Write>) {
        let record = self.record.map(Into::into);
        match (self.is_loaded, self.is_changed) {
            (true, true) => writes.push((self.key, record)),
            (true, false) => unchanged.push((self.key, record)),
            (false, _) => {}
        }
    }
}
