//! What a device keeps, and where.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId};
use thiserror::Error;

mod file;
mod memory;
mod record;

pub use file::FileStore;
pub use memory::MemoryStore;

/// A place in a conversation: everything up to and including `seq` was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log that `seq` is of.
    pub generation: u64,
    /// The last event; 0 = none.
    pub seq: u64,
}

/// Keeps what a device must not lose: its id, cursors, and commands without an answer.
///
/// Device id and outbox belong together: a store that lost one must lose both. Calls come one at a time and from the
/// runtime's threads, so that they should be quick: writing to the page cache is, waiting for a disk is not.
pub trait StateStore: Send + 'static {
    /// Everything that was kept. Called once, first.
    ///
    /// # Errors
    /// When it cannot be read; the client does not start then.
    fn load(&mut self) -> Result<Saved, StateError>;

    /// Keeps changes, in order and all or none of them. When it returns they survive the death of the process.
    ///
    /// # Errors
    /// When they could not be kept; a command is then not sent.
    fn save(&mut self, changes: &[Change]) -> Result<(), StateError>;
}

/// A failed state store.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the state store failed: {0}")]
pub struct StateError(pub String);

impl StateError {
    /// Whether the same may work later.
    pub fn may_retry(&self) -> bool {
        false
    }
}

/// What a store keeps: the sum of its changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The device and its user.
    pub identity: Option<(UserId, DeviceId)>,
    /// The conversations, as far as anything is known.
    pub conversations: HashMap<ConversationId, SavedConversation>,
}

/// What is kept of one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedConversation {
    /// The last event that the app took.
    pub cursor: Option<Cursor>,
    /// The highest `n` that was given to a command.
    pub last_n: u64,
    /// Commands without an answer, in order of `n`: the `n`, and the frame as it goes on the wire.
    pub outbox: VecDeque<(u64, Bytes)>,
}

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device was drawn; everything else that was kept is void.
    Identity(UserId, DeviceId),
    /// A command was added to the outbox.
    Queued(ConversationId, u64, Bytes),
    /// The command with this `n` needs no answer any more.
    Settled(ConversationId, u64),
    /// The outbox was numbered anew: the highest `n` given, and all that is in it.
    Outbox(ConversationId, u64, Vec<(u64, Bytes)>),
    /// The cursor moved.
    Cursor(ConversationId, Cursor),
}

impl Saved {
    /// Changes that sum up to this, in a fixed order.
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
            }
            Change::Cursor(id, cursor) => self.conversations.entry(*id).or_default().cursor = Some(*cursor),
        }
    }
}
