//! The state of a device, and its stores.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId};
use thiserror::Error;

mod file;
mod format;
mod memory;
mod place;
mod record;
mod snapshot;

pub use file::FileStore;
pub use memory::MemoryStore;

/// A position in a conversation: everything up to and including `seq` was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor {
    /// Generation of the log.
    pub generation: u64,
    /// Seq of the last event; 0 = none.
    pub seq: u64,
    /// Tells that event from another one in its place in another copy of the log; zero if it is not known.
    pub digest: [u8; 4],
}

/// Stores what a device must not lose: its id, cursors and unanswered commands.
///
/// Device id and outbox belong together: a store that loses one must lose both. Calls are made one at a time on the runtime's
/// threads and should be fast: writing to the page cache is, waiting for a disk is not.
pub trait StateStore: Send + 'static {
    /// Loads everything that was saved. Called once, first.
    ///
    /// # Errors
    /// If it cannot be read; the client then does not start.
    fn load(&mut self) -> Result<Saved, StateError>;

    /// Saves changes, in order, all or none. After it returns they survive a crash of the process.
    ///
    /// # Errors
    /// If they could not be saved; a command is then not sent.
    fn save(&mut self, changes: &[Change]) -> Result<(), StateError>;
}

/// A failed state store.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("state store failed: {0}")]
pub struct StateError(pub String);

impl StateError {
    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        false
    }
}

/// The content of a store: the sum of its changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The user and the device.
    pub identity: Option<(UserId, DeviceId)>,
    /// The conversations.
    pub conversations: HashMap<ConversationId, SavedConversation>,
}

/// The stored state of one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedConversation {
    /// The position after the last event that the app took.
    pub cursor: Option<Cursor>,
    /// The highest `n` assigned to a command.
    pub last_n: u64,
    /// Unanswered commands in order of `n`: the `n`, and the frame as sent on the wire.
    pub outbox: VecDeque<(u64, Bytes)>,
}

/// A change of the stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new device; replaces everything that was stored.
    Identity(UserId, DeviceId),
    /// A command was added to the outbox.
    Queued(ConversationId, u64, Bytes),
    /// The command with this `n` was answered.
    Settled(ConversationId, u64),
    /// The outbox was renumbered: the highest assigned `n`, and the whole outbox.
    Outbox(ConversationId, u64, Vec<(u64, Bytes)>),
    /// The cursor moved.
    Cursor(ConversationId, Cursor),
}

impl Saved {
    /// The changes that sum up to this state, in a fixed order.
    pub fn changes(&self) -> Vec<Change> {
        let identity = self.identity.iter().map(|(user, device)| Change::Identity(user.clone(), *device));
        let mut ids: Vec<_> = self.conversations.keys().copied().collect();
        ids.sort_unstable();
        let of = |id: ConversationId| {
            let kept = &self.conversations[&id];
            let outbox = Change::Outbox(id, kept.last_n, kept.outbox.iter().cloned().collect());
            std::iter::once(outbox).chain(kept.cursor.map(|cursor| Change::Cursor(id, cursor)))
        };
        identity.chain(ids.into_iter().flat_map(of)).collect()
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Identity(user, device) => {
                *self = Self { identity: Some((user.clone(), *device)), conversations: HashMap::new() };
            }
            Change::Queued(id, n, frame) => {
                let kept = self.conversations.entry(*id).or_default();
                kept.last_n = kept.last_n.max(*n);
                kept.outbox.push_back((*n, frame.clone()));
            }
            Change::Settled(id, n) => {
                self.conversations.entry(*id).or_default().outbox.retain(|(other, _)| other != n);
            }
            Change::Outbox(id, last_n, items) => {
                let kept = self.conversations.entry(*id).or_default();
                kept.last_n = *last_n;
                kept.outbox = items.iter().cloned().collect();
                if *kept == SavedConversation::default() {
                    self.conversations.remove(id);
                }
            }
            Change::Cursor(id, cursor) => self.conversations.entry(*id).or_default().cursor = Some(*cursor),
        }
    }
}
