//! Records in memory: what a batch changes, and what the next ones will need.

use std::hash::Hash;

use hashbrown::HashMap;

/// Records by key, in two generations: one that grows and the one before it, from which records that are used again move over.
/// Remembers absent records too.
pub(super) struct Table<K, V> {
    young: HashMap<K, Slot<V>>,
    old: HashMap<K, Slot<V>>,
    limit: usize,
    /// Keys of the changed records, each once.
    changed: Vec<K>,
}

struct Slot<V> {
    record: Option<V>,
    /// What was done to it since it was last written.
    changes: Changes,
}

/// What was done to a record since it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Changes {
    /// How often it was changed.
    pub(super) count: u64,
    /// It was removed, and may be another one by now.
    pub(super) removed: bool,
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    /// Full at `limit` records; holds at most twice that between batches, if it is turned over when it is full.
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit, changed: Vec::new() }
    }

    /// Takes a record out, which is read if it is not known; it must be [`Self::put`] back.
    pub(super) fn take<E>(&mut self, key: &K, read: impl FnOnce(&K) -> Result<Option<V>, E>) -> Result<Option<V>, E> {
        if let Some(slot) = self.young.get_mut(key) {
            return Ok(slot.record.take());
        }
        let record = match self.old.remove(key) {
            Some(slot) => slot.record,
            None => read(key)?,
        };
        self.young.insert(key.clone(), Slot { record: None, changes: Changes::default() });
        Ok(record)
    }

    pub(super) fn put(&mut self, key: K, record: Option<V>, is_changed: bool) {
        let Some(slot) = self.young.get_mut(&key) else {
            debug_assert!(false, "what is put back was taken out");
            return;
        };
        slot.record = record;
        if is_changed {
            slot.changes.count += 1;
            slot.changes.removed |= slot.record.is_none();
            if slot.changes.count == 1 {
                self.changed.push(key);
            }
        }
    }

    /// Hands out every changed record once, with what was done to it.
    pub(super) fn finish(&mut self, mut write: impl FnMut(&K, Option<&V>, Changes)) {
        for key in self.changed.drain(..) {
            if let Some(slot) = self.young.get_mut(&key) {
                write(&key, slot.record.as_ref(), std::mem::take(&mut slot.changes));
            }
        }
    }

    /// True when it is time to [`Self::turn_over`].
    pub(super) fn is_full(&self) -> bool {
        self.young.len() >= self.limit
    }

    /// Forgets the records that were not used since this was called last. Only between batches, after [`Self::finish`].
    pub(super) fn turn_over(&mut self) {
        debug_assert!(self.changed.is_empty(), "a changed record was not written");
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table over a store that counts reads.
    fn take(table: &mut Table<u32, u32>, key: u32, reads: &mut Vec<u32>) -> Option<u32> {
        let read = |key: &u32| {
            reads.push(*key);
            Ok::<_, ()>(Some(key * 10))
        };
        table.take(&key, read).unwrap()
    }

    #[test]
    fn changed_records_are_written_once_with_their_last_value() {
        let (mut table, mut reads) = (Table::new(10), Vec::new());
        for value in [1, 2, 3] {
            assert_eq!(take(&mut table, 7, &mut reads), Some(if value == 1 { 70 } else { value - 1 }));
            table.put(7, Some(value), true);
        }
        let record = take(&mut table, 8, &mut reads);
        table.put(8, record, false);
        let mut written = Vec::new();
        table.finish(|key, record, changes| written.push((*key, record.copied(), changes)));
        let changes = Changes { count: 3, removed: false };
        assert_eq!((written, reads), (vec![(7, Some(3), changes)], vec![7, 8]));
        table.finish(|_, _, _| panic!("nothing has changed since"));
    }

    #[test]
    fn one_that_was_removed_and_made_again_is_known_to_be_another() {
        let (mut table, mut reads) = (Table::new(10), Vec::new());
        for record in [None, Some(1)] {
            take(&mut table, 7, &mut reads);
            table.put(7, record, true);
        }
        let mut written = Vec::new();
        table.finish(|_, record, changes| written.push((record.copied(), changes)));
        assert_eq!(written, [(Some(1), Changes { count: 2, removed: true })]);
        take(&mut table, 7, &mut reads);
        table.put(7, Some(2), true);
        table.finish(|_, _, changes| assert!(!changes.removed, "that was before"));
    }

    #[test]
    fn records_in_use_stay_and_others_go() {
        let (mut table, mut reads) = (Table::new(4), Vec::new());
        for key in 0..100 {
            for key in [key, 0] {
                let record = take(&mut table, key, &mut reads);
                table.put(key, record, false);
            }
            table.finish(|_, _, _| ());
            if table.is_full() {
                table.turn_over();
            }
            assert!(table.young.len() + table.old.len() <= 8);
        }
        assert_eq!(reads.iter().filter(|key| **key == 0).count(), 1);
        take(&mut table, 1, &mut reads);
        assert_eq!(reads.iter().filter(|key| **key == 1).count(), 2);
    }

    #[test]
    fn absence_is_remembered() {
        let mut table = Table::<u32, u32>::new(4);
        assert_eq!(table.take(&1, |_| Ok::<_, ()>(None)), Ok(None));
        assert_eq!(table.take(&1, |_| Err(())), Ok(None));
        assert_eq!(table.take(&2, |_| Err(())), Err(()));
    }
}
