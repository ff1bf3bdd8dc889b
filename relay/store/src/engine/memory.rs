//! Rows in memory, for tests and the simulation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fjall::Slice;

type Map = Arc<BTreeMap<Slice, Slice>>;

/// What a disk would hold: the rows of the last checkpoint. It survives the store that writes it, as a disk survives a process.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Map>>);

/// The rows of an open store.
pub(crate) struct Rows {
    disk: MemoryDisk,
    current: Mutex<Map>,
}

impl MemoryDisk {
    pub(crate) fn open(&self) -> Rows {
        Rows { disk: self.clone(), current: Mutex::new(lock(&self.0).clone()) }
    }
}

impl Rows {
    pub(super) fn current(&self) -> Map {
        lock(&self.current).clone()
    }

    pub(super) fn commit(&self, batch: Vec<(Slice, Option<Slice>)>) {
        let mut current = lock(&self.current);
        // Copies only while a reader looks at the rows before it.
        let rows = Arc::make_mut(&mut current);
        for (key, value) in batch {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }

    pub(super) fn checkpoint(&self) {
        *lock(&self.disk.0) = self.current();
    }
}

fn lock(map: &Mutex<Map>) -> MutexGuard<'_, Map> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
