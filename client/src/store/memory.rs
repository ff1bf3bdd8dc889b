//! State that lives as long as the client.

use super::{Change, Saved, StateError, StateStore};

/// Keeps everything in memory, for as long as the client lives: a restarted app is a new device.
#[derive(Debug, Default)]
pub struct MemoryStore {}

impl StateStore for MemoryStore {
    fn load(&mut self) -> Result<Saved, StateError> {
        Ok(Saved::default())
    }

    fn save(&mut self, _: &[Change]) -> Result<(), StateError> {
        Ok(())
    }
}
