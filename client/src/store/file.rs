//! State in one file.

use std::path::Path;

use super::{Change, Saved, StateError, StateStore};

/// Keeps everything in one append-only file.
#[derive(Debug)]
pub struct FileStore {}

impl FileStore {
    /// Opens or makes the file. A lock beside it (`PATH.lock`) keeps other processes from sharing the device.
    ///
    /// # Errors
    /// When it cannot be opened, is of an unknown version, or another process has it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let _ = path.as_ref();
        unimplemented!()
    }
}

impl StateStore for FileStore {
    fn load(&mut self) -> Result<Saved, StateError> {
        unimplemented!()
    }

    fn save(&mut self, changes: &[Change]) -> Result<(), StateError> {
        let _ = changes;
        unimplemented!()
    }
}
