//! The state store, with its content in memory.

use std::sync::Mutex;

use quip_protocol::{ConversationId, DeviceId, UserId};

use crate::{Change, Saved, SavedConversation, StateError, StateStore, lock::lock};

/// The store and its content.
pub(crate) struct Keeper(Mutex<Kept>);

struct Kept {
    saved: Saved,
    store: Box<dyn StateStore>,
}

impl Keeper {
    pub(crate) fn load(mut store: Box<dyn StateStore>) -> Result<Self, StateError> {
        let saved = store.load()?;
        Ok(Self(Mutex::new(Kept { saved, store })))
    }

    /// The stored user and device.
    pub(crate) fn identity(&self) -> Option<(UserId, DeviceId)> {
        lock(&self.0).saved.identity.clone()
    }

    pub(crate) fn conversation(&self, id: ConversationId) -> SavedConversation {
        lock(&self.0).saved.conversations.get(&id).cloned().unwrap_or_default()
    }

    /// Stores changes, all or none.
    pub(crate) fn save(&self, changes: &[Change]) -> Result<(), StateError> {
        let mut kept = lock(&self.0);
        kept.store.save(changes)?;
        changes.iter().for_each(|change| kept.saved.apply(change));
        Ok(())
    }

    pub(crate) fn close(&self) {
        lock(&self.0).store = Box::new(crate::MemoryStore::default());
    }

    /// Stores changes whose loss only repeats a request or a delivery.
    pub(crate) fn save_or_warn(&self, changes: &[Change]) {
        if let (false, Err(error)) = (changes.is_empty(), self.save(changes)) {
            tracing::warn!(%error, "could not save to the state store");
        }
    }
}
