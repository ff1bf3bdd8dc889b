//! Rows of one kind in memory: what a batch changes, and what the next ones will need.

use std::hash::Hash;

use hashbrown::HashMap;

/// Rows by key, in two generations: one that grows and the one before it, from which rows that are used again move
/// over. Rows move only between batches, so a place is good until then. Remembers absent rows too.
pub(super) struct Table<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    limit: usize,
    /// Places of the changed rows, each once.
    changed: Vec<usize>,
}

struct Generation<K, V> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
}

struct Slot<K, V> {
    key: K,
    row: Option<V>,
    /// How often it was changed since it was last handed out.
    changes: u64,
}

impl<K: Hash + Eq + Clone, V> Table<K, V> {
    /// Full at `limit` rows; holds at most twice that between batches, if it is turned over when it is full.
    pub(super) fn new(limit: usize) -> Self {
        Self { young: Generation::new(), old: Generation::new(), limit, changed: Vec::new() }
    }

    /// The place of a row, which is read if it is not known.
    pub(super) fn place<E>(&mut self, key: K, read: impl FnOnce(&K) -> Result<Option<V>, E>) -> Result<usize, E> {
        if let Some(place) = self.young.places.get(&key) {
            return Ok(*place);
        }
        let row = match self.old.remove(&key) {
            Some(row) => row,
            None => read(&key)?,
        };
        Ok(self.young.push(key, row))
    }

    /// Takes a row out; it must be [`Self::put`] back.
    pub(super) fn take(&mut self, place: usize) -> Option<V> {
        self.young.slots[place].row.take()
    }

    pub(super) fn put(&mut self, place: usize, row: Option<V>, changed: bool) {
        let slot = &mut self.young.slots[place];
        slot.row = row;
        if changed {
            if slot.changes == 0 {
                self.changed.push(place);
            }
            slot.changes += 1;
        }
    }

    /// Hands out every changed row once, with how often it was changed.
    pub(super) fn finish(&mut self, mut write: impl FnMut(&K, Option<&V>, u64)) {
        for place in self.changed.drain(..) {
            let slot = &mut self.young.slots[place];
            write(&slot.key, slot.row.as_ref(), std::mem::take(&mut slot.changes));
        }
    }

    /// True when it is time to [`Self::turn_over`].
    pub(super) fn is_full(&self) -> bool {
        self.young.slots.len() >= self.limit
    }

    /// Forgets the rows that were not used since this was called last. Only between batches, after [`Self::finish`].
    pub(super) fn turn_over(&mut self) {
        debug_assert!(self.changed.is_empty(), "a changed row was not written");
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.places.clear();
        self.young.slots.clear();
    }
}

impl<K: Hash + Eq + Clone, V> Generation<K, V> {
    fn new() -> Self {
        Self { places: HashMap::new(), slots: Vec::new() }
    }

    fn push(&mut self, key: K, row: Option<V>) -> usize {
        let place = self.slots.len();
        self.places.insert(key.clone(), place);
        self.slots.push(Slot { key, row, changes: 0 });
        place
    }

    fn remove(&mut self, key: &K) -> Option<Option<V>> {
        let place = self.places.remove(key)?;
        Some(self.slots[place].row.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table over a store that counts reads.
    fn read(table: &mut Table<u32, u32>, key: u32, reads: &mut Vec<u32>) -> usize {
        let place = table.place(key, |key| {
            reads.push(*key);
            Ok::<_, ()>(Some(key * 10))
        });
        place.unwrap()
    }

    #[test]
    fn changed_rows_are_written_once_with_their_last_value() {
        let (mut table, mut reads) = (Table::new(10), Vec::new());
        for value in [1, 2, 3] {
            let place = read(&mut table, 7, &mut reads);
            assert_eq!(table.take(place), Some(if value == 1 { 70 } else { value - 1 }));
            table.put(place, Some(value), true);
        }
        let place = read(&mut table, 8, &mut reads);
        let row = table.take(place);
        table.put(place, row, false);
        let mut written = Vec::new();
        table.finish(|key, row, changes| written.push((*key, row.copied(), changes)));
        assert_eq!((written, reads), (vec![(7, Some(3), 3)], vec![7, 8]));
        table.finish(|_, _, _| panic!("nothing has changed since"));
    }

    #[test]
    fn rows_in_use_stay_and_others_go() {
        let (mut table, mut reads) = (Table::new(4), Vec::new());
        for key in 0..100 {
            read(&mut table, key, &mut reads);
            read(&mut table, 0, &mut reads);
            table.finish(|_, _, _| ());
            if table.is_full() {
                table.turn_over();
            }
            assert!(table.young.slots.len() + table.old.places.len() <= 8);
        }
        assert_eq!(reads.iter().filter(|key| **key == 0).count(), 1);
        read(&mut table, 1, &mut reads);
        assert_eq!(reads.iter().filter(|key| **key == 1).count(), 2);
    }

    #[test]
    fn absence_is_remembered() {
        let mut table = Table::<u32, u32>::new(4);
        assert_eq!(table.place(1, |_| Ok::<_, ()>(None)), Ok(0));
        assert_eq!(table.place(1, |_| Err(())), Ok(0));
        assert_eq!(table.place(2, |_| Err(())), Err(()));
    }
}
