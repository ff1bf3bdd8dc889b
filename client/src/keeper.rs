//! The state store, with its content in memory.

use std::sync::Mutex;

use quip_protocol::{ConversationId, DeviceId, UserId};

use crate::{Change, Saved, SavedConversation, StateError, StateStore, lock::lock};

/// The store and its content.
pub(crate) struct Keeper(Mutex<Kept>);

struct Kept {
    saved: Saved,
    /// `None` once the client is closed.
    store: Option<Box<dyn StateStore>>,
}

impl Keeper {
    pub(crate) fn load(mut store: Box<dyn StateStore>) -> Result<Self, StateError> {
        let saved = store.load()?;
        Ok(Self(Mutex::new(Kept { saved, store: Some(store) })))
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
        let store = kept.store.as_mut().ok_or_else(|| StateError(CLOSED.to_owned()))?;
        store.save(changes)?;
        changes.iter().for_each(|change| kept.saved.apply(change));
        Ok(())
    }

    /// Stores changes whose loss only repeats a request or a delivery.
    pub(crate) fn save_or_warn(&self, changes: &[Change]) {
        if let (false, Err(error)) = (changes.is_empty(), self.save(changes))
            && !self.is_closed()
        {
            tracing::warn!(%error, "could not save to the state store");
        }
    }

    /// Drops the store, so that another client can use it while handles of this one live on. Nothing can be saved any more.
    pub(crate) fn close(&self) {
        let store = lock(&self.0).store.take();
        drop(store);
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).store.is_none()
    }
}

const CLOSED: &str = "the client is closed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileStore;

    #[test]
    fn a_closed_keeper_unlocks_the_file_and_saves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let keeper = Keeper::load(Box::new(FileStore::open(&path).expect("a store"))).expect("loaded");
        let identity = (UserId::parse("alice").expect("a user"), DeviceId([7; 16]));
        keeper.save(&[Change::Identity(identity.0.clone(), identity.1)]).expect("saved");
        FileStore::open(&path).expect_err("in use");
        keeper.close();
        let mut next = FileStore::open(&path).expect("free");
        let late = [Change::Settled(ConversationId([1; 16]), 1)];
        assert!(keeper.save(&late).expect_err("closed").to_string().contains("the client is closed"));
        keeper.save_or_warn(&late);
        assert_eq!(keeper.identity(), Some(identity.clone()));
        assert_eq!(next.load().expect("loaded").identity, Some(identity));
        keeper.close();
    }
}
