//! The state file: its places in conversations are those of `tail` alone.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use quip_client::{Change, ConversationId, Cursor, FileStore, Saved, StateError, StateStore};

/// Where `tail --from last` goes on, for each conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<ConversationId, Cursor>>>);

/// A state file in which only `tail` moves the places.
///
/// Every command opens conversations, most of them at the newest event. If that moved the place, a message sent between two
/// tails would hide from the second one what arrived before it.
pub(crate) struct State {
    file: FileStore,
    /// The command is `tail`.
    follows: bool,
    places: Places,
}

impl Places {
    /// Whether there is one in this conversation.
    pub(crate) fn has(&self, id: ConversationId) -> bool {
        self.with(|places| places.contains_key(&id))
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<ConversationId, Cursor>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    pub(crate) fn open(path: &Path, follows: bool, places: &Places) -> Result<Self, StateError> {
        Ok(Self { file: FileStore::open(path)?, follows, places: places.clone() })
    }

    /// The change to store instead.
    fn instead(&self, change: &Change) -> Option<Change> {
        let &Change::Cursor(id, cursor) = change else { return Some(change.clone()) };
        self.places.with(|places| {
            let place = match places.get(&id) {
                _ if self.follows => cursor,
                Some(kept) if kept.generation == cursor.generation => return None,
                // `tail` has seen nothing of this log. Send numbers need its generation.
                _ => Cursor { generation: cursor.generation, ..Cursor::default() },
            };
            places.insert(id, place);
            Some(Change::Cursor(id, place))
        })
    }
}

impl StateStore for State {
    fn load(&mut self) -> Result<Saved, StateError> {
        let saved = self.file.load()?;
        let places = saved.conversations.iter().filter_map(|(id, saved)| Some((*id, saved.cursor?)));
        self.places.with(|kept| kept.extend(places));
        Ok(saved)
    }

    fn save(&mut self, changes: &[Change]) -> Result<(), StateError> {
        let kept: Vec<_> = changes.iter().filter_map(|change| self.instead(change)).collect();
        if kept.is_empty() { Ok(()) } else { self.file.save(&kept) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_client::{DeviceId, UserId};

    use super::*;

    const ID: ConversationId = ConversationId([3; 16]);

    fn place(generation: u64, seq: u64) -> Change {
        Change::Cursor(ID, Cursor { generation, seq, digest: [7; 4] })
    }

    /// The place that is stored after the changes of one command.
    fn after(path: &Path, follows: bool, changes: &[Change]) -> (u64, u64) {
        let places = Places::default();
        let mut store = State::open(path, follows, &places).unwrap();
        store.load().unwrap();
        changes.iter().for_each(|change| store.save(std::slice::from_ref(change)).unwrap());
        drop(store);
        let saved = FileStore::open(path).unwrap().load().unwrap();
        assert_eq!(saved.identity, Some((UserId::parse("alice").unwrap(), DeviceId([9; 16]))));
        let cursor = saved.conversations[&ID].cursor.unwrap();
        assert_eq!(places.with(|places| places[&ID]), cursor);
        (cursor.generation, cursor.seq)
    }

    #[test]
    fn only_a_tail_moves_a_place_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let identity = Change::Identity(UserId::parse("alice").unwrap(), DeviceId([9; 16]));
        assert_eq!(after(&path, false, &[identity, place(5, 10), place(5, 20)]), (5, 0), "nothing was printed yet");
        assert_eq!(after(&path, true, &[place(5, 25), place(5, 30)]), (5, 30));
        assert_eq!(after(&path, false, &[place(5, 40)]), (5, 30));
        assert_eq!(after(&path, false, &[place(6, 40), place(6, 50)]), (6, 0), "nothing of this log was printed");
    }
}
