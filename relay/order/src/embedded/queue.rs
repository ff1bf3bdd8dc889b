//! Commands that wait for the sequencer.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use quip_core::Command;
use quip_protocol::ConversationId;

use crate::{BatchLimit, SubmitError};

/// How much may wait. Sizes are [`Command::weight`]; what [`crate::Order::next_batch`] has handed out no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Commands of one conversation; at least 1.
    pub conversation_commands: usize,
    /// Bytes of one conversation; a single command may be larger.
    pub conversation_bytes: usize,
    /// Bytes of all together.
    pub total_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { conversation_commands: 64, conversation_bytes: 256 << 10, total_bytes: 16 << 20 }
    }
}

/// A bounded queue with one consumer.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    filled: Condvar,
}

/// What came of asking for commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Taken,
    Idle,
    Ended,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Poisoning is ignored: no method of [`State`] can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, command: Command) -> Result<(), SubmitError> {
        let mut state = self.lock();
        state.push(command, &self.limits)?;
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        // A system call, so only for a sequencer that sleeps, and never under the lock that it needs next.
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Moves commands to the empty `into`; if there are none, waits for some or returns at once.
    pub(super) fn take(&self, limit: BatchLimit, into: &mut VecDeque<Command>, wait: bool) -> Waited {
        let mut state = self.lock();
        while state.commands.is_empty() {
            if state.closed {
                return Waited::Ended;
            }
            if !wait {
                return Waited::Idle;
            }
            state.sleeping = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeping = false;
        state.take(limit, into);
        Waited::Taken
    }
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    conversations: HashMap<ConversationId, Waiting>,
    bytes: usize,
    /// The consumer waits for a wake-up.
    sleeping: bool,
    closed: bool,
}

/// What one conversation has waiting.
#[derive(Debug, Default)]
struct Waiting {
    commands: usize,
    bytes: usize,
}

impl State {
    fn push(&mut self, command: Command, limits: &Limits) -> Result<(), SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        let weight = command.weight();
        if self.bytes + weight > limits.total_bytes {
            return Err(SubmitError::Full { retry_after_ms: RETRY_AFTER_MS });
        }
        let waiting = self.conversations.entry(command.conversation).or_default();
        let over = waiting.bytes + weight > limits.conversation_bytes;
        // One command always fits, so a refusal leaves no empty entry behind.
        if waiting.commands > 0 && (over || waiting.commands >= limits.conversation_commands) {
            return Err(SubmitError::Full { retry_after_ms: RETRY_AFTER_MS });
        }
        waiting.commands += 1;
        waiting.bytes += weight;
        self.bytes += weight;
        self.commands.push_back(command);
        Ok(())
    }

    /// Moves what fits, at least one command. Usually everything fits, and then no command is touched under the lock.
    fn take(&mut self, limit: BatchLimit, into: &mut VecDeque<Command>) {
        if self.commands.len() <= limit.commands && self.bytes <= limit.bytes {
            std::mem::swap(&mut self.commands, into);
            self.conversations.clear();
            self.bytes = 0;
            return;
        }
        let mut bytes = 0;
        while let Some(command) = self.commands.front() {
            bytes += command.weight();
            if !into.is_empty() && (into.len() >= limit.commands || bytes > limit.bytes) {
                break;
            }
            into.extend(self.pop());
        }
    }

    fn pop(&mut self) -> Option<Command> {
        let command = self.commands.pop_front()?;
        let weight = command.weight();
        self.bytes -= weight;
        if let Some(waiting) = self.conversations.get_mut(&command.conversation) {
            waiting.commands -= 1;
            waiting.bytes -= weight;
            if waiting.commands == 0 {
                self.conversations.remove(&command.conversation);
            }
        }
        Some(command)
    }
}

/// A few commits: by then there is room, or the disk is slower than what is asked of it.
const RETRY_AFTER_MS: u64 = 50;
