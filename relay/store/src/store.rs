//! Opening a store.

use std::path::Path;

use crate::{OpenError, View};

/// A store that is open for writing; no other process can open it.
pub struct Store {}

/// What a store may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of blocks kept in memory.
    pub cache_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20 }
    }
}

impl Store {
    /// Opens the store in the folder `path`, or creates it.
    ///
    /// # Errors
    /// When it is in use, damaged, of a format that is not known here, or the disk fails.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, OpenError> {
        let _ = (path, config);
        unimplemented!()
    }

    /// A view of it.
    pub fn view(&self) -> View {
        unimplemented!()
    }
}
