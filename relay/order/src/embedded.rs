//! The order of a single relay: one queue in this process.
//!
//! Stronger than the contract: what was taken appears exactly once, in the order of submitting, unless the process
//! ends first. Nothing is kept across a restart, so a command is durable only once the view has kept it.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use hashbrown::HashMap;
use quip_core::{Command, Timestamp};
use quip_protocol::ConversationId;

use crate::{BatchLimit, Durability, Order, Ordered, Submit, SubmitError};

/// How much may wait. Sizes are [`Command::weight`]; what [`Order::next_batch`] has handed out no longer waits.
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

/// Makes an order and the side that submits to it.
pub fn embedded(limits: Limits) -> (Arc<Embedded>, Box<dyn Order>) {
    let queue = Arc::new(Queue { limits, state: Mutex::default(), filled: Condvar::new() });
    let consumer = Consumer { queue: queue.clone(), position: 0, taken: VecDeque::new() };
    (Arc::new(Embedded { queue }), Box::new(consumer))
}

/// The submitting side of an embedded order. Dropping the last one closes it.
#[derive(Debug)]
pub struct Embedded {
    queue: Arc<Queue>,
}

impl Submit for Embedded {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        let mut state = self.queue.lock();
        state.push(command, &self.queue.limits)?;
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        // A system call, so only for a sequencer that sleeps, and never under the lock that it needs next.
        if wake {
            self.queue.filled.notify_one();
        }
        Ok(())
    }

    fn close(&self) {
        self.queue.close();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The consuming side.
struct Consumer {
    queue: Arc<Queue>,
    position: u64,
    /// Empty between calls; kept for its allocation.
    taken: VecDeque<Command>,
}

impl Order for Consumer {
    fn durability(&self) -> Durability {
        Durability::View
    }

    fn start(&mut self, positions: &[u64]) {
        self.position = positions.first().copied().unwrap_or(0);
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> bool {
        if !self.queue.wait(limit, &mut self.taken) {
            return false;
        }
        let at = now();
        into.extend(self.taken.drain(..).map(|command| {
            self.position += 1;
            Ordered { partition: 0, position: self.position, at, command }
        }));
        true
    }

    fn synced(&mut self, _positions: &[u64]) {}
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug)]
struct Queue {
    limits: Limits,
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    /// Poisoning is ignored: no method of [`State`] can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for commands and moves them to the empty `into`; false once closed and empty.
    fn wait(&self, limit: BatchLimit, into: &mut VecDeque<Command>) -> bool {
        let mut state = self.lock();
        while state.commands.is_empty() {
            if state.closed {
                return false;
            }
            state.sleeping = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeping = false;
        state.take(limit, into);
        true
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

fn now() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A few commits: by then there is room, or the disk is slower than what is asked of it.
const RETRY_AFTER_MS: u64 = 50;
