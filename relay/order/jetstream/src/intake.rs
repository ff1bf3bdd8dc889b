//! Commands from the time they were submitted until their outcome is known.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use quip_core::Command;
use quip_order::{Limits, SubmitError};
use quip_protocol::ConversationId;
use tokio::sync::{Notify, watch};

/// A bounded queue. What was taken out of it counts until it is given back.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: Limits,
    state: Mutex<State>,
    /// Wakes the engine.
    pub(crate) filled: Notify,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    conversations: HashMap<ConversationId, Share>,
    bytes: usize,
    /// The engine waits for a wake-up.
    sleeping: bool,
    /// There is no way to the stream for now.
    stalled: bool,
    closed: bool,
}

/// What one conversation has here.
#[derive(Debug, Default)]
struct Share {
    commands: usize,
    bytes: usize,
}

impl Intake {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), filled: Notify::new(), closed: watch::Sender::new(false) }
    }

    /// Poisoning is ignored: nothing here can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, command: Command) -> Result<(), SubmitError> {
        let mut state = self.lock();
        state.push(command, &self.limits)?;
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The next command, which counts until [`Self::give_back`]. After `None`, `filled` says when there is one.
    pub(crate) fn take(&self) -> Option<Command> {
        let mut state = self.lock();
        let command = state.commands.pop_front();
        state.sleeping = command.is_none();
        command
    }

    pub(crate) fn give_back(&self, conversation: ConversationId, weight: usize) {
        self.lock().give_back(conversation, weight);
    }

    /// Whether refusals ask for more time.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.lock().stalled = stalled;
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.closed.send_replace(true);
        self.filled.notify_one();
    }

    /// Whether nothing more comes.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.closed && state.commands.is_empty()
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

impl State {
    fn push(&mut self, command: Command, limits: &Limits) -> Result<(), SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let weight = command.weight();
        let retry_after_ms = if self.stalled { STALLED_RETRY_AFTER_MS } else { RETRY_AFTER_MS };
        if self.bytes + weight > limits.total_bytes {
            return Err(SubmitError::Full { retry_after_ms });
        }
        let share = self.conversations.entry(command.conversation).or_default();
        let over = share.bytes + weight > limits.conversation_bytes;
        // One command always fits, so a refusal leaves no empty entry behind.
        if share.commands > 0 && (over || share.commands >= limits.conversation_commands) {
            return Err(SubmitError::Full { retry_after_ms });
        }
        share.commands += 1;
        share.bytes += weight;
        self.bytes += weight;
        self.commands.push_back(command);
        Ok(())
    }

    fn give_back(&mut self, conversation: ConversationId, weight: usize) {
        self.bytes -= weight;
        if let Some(share) = self.conversations.get_mut(&conversation) {
            share.commands -= 1;
            share.bytes -= weight;
            if share.commands == 0 {
                self.conversations.remove(&conversation);
            }
        }
    }
}

/// A few commits, as with the embedded order.
const RETRY_AFTER_MS: u64 = 50;
/// A cluster elects a leader in 4 to 9 s.
const STALLED_RETRY_AFTER_MS: u64 = 1000;
