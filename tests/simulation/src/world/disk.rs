//! What a device keeps over the death of its app.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quip_client::{Change, Cursor, Saved, StateError, StateStore};
use quip_protocol::ConversationId;

use crate::{
    history::{App, Device, Entry, Recorder},
    host::Host,
    plant::Plant,
};

/// A device's disk, as a cheap handle.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Saved>>);

impl Disk {
    /// The cursor that is kept of a conversation.
    pub(super) fn cursor(&self, id: ConversationId) -> Option<Cursor> {
        self.lock().conversations.get(&id).and_then(|kept| kept.cursor)
    }

    /// The state store of one process on the device.
    pub(super) fn store(&self, device: Device, host: &Host, recorder: &Recorder, plant: Option<Plant>) -> DiskStore {
        DiskStore { disk: self.clone(), device, host: host.clone(), recorder: recorder.clone(), plant }
    }

    fn lock(&self) -> MutexGuard<'_, Saved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk as a process writes it, until it dies.
pub(super) struct DiskStore {
    disk: Disk,
    device: Device,
    host: Host,
    recorder: Recorder,
    plant: Option<Plant>,
}

impl StateStore for DiskStore {
    fn load(&mut self) -> Result<Saved, StateError> {
        Ok(self.disk.lock().clone())
    }

    fn save(&mut self, changes: &[Change]) -> Result<(), StateError> {
        if !self.host.is_alive() {
            return Ok(());
        }
        for change in changes {
            let mut change = change.clone();
            if let Change::Cursor(conversation, cursor) = &mut change {
                if self.plant == Some(Plant::UnhandledAcknowledged) && self.host.draw(50) == 0 {
                    cursor.seq += 1;
                }
                let (conversation, cursor) = (*conversation, *cursor);
                self.recorder.note(Entry::App(self.device, App::Kept { conversation, cursor }));
            } else {
                self.recorder.note(Entry::App(self.device, App::Stored(change.clone())));
            }
            self.disk.lock().apply(&change);
        }
        Ok(())
    }
}
