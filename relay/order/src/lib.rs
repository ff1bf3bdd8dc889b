//! The seam `order`: who decides what comes next, and what makes it durable.
//!
//! A command that was submitted appears zero, one or more times, anywhere relative to other submits; there is one order for
//! all. Everything stronger that an engine may give is not relied upon. What an [`Order`] hands out is durable, and it hands
//! the same out again, at the same positions, when it starts earlier in the log: recovery is the first batches.
//!
//! Engines: [`embedded()`] for a single relay, with a log on the disk; `quip-jetstream` for several relays. [`faulty()`] wraps any
//! of them for tests.

// Nobody may be reading either; the log goes through a queue.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod clock;
mod embedded;
mod faulty;
mod watchdog;

use quip_core::{Command, Timestamp};
use thiserror::Error;

pub use clock::{BELIEVED_AFTER, Clock, JUMP, steady_clock, system_clock};
pub use embedded::{
    Embedded, EmbeddedConfig, LOG_BYTES_MIN, Limits, LogError, MemoryLog, embedded, embedded_in_memory, renew,
};
pub use faulty::{Faults, Faulty, faulty};
pub use watchdog::{Watch, Watchdog};

/// Draws the identity of a new log, which is also that of a restored one: never 0, and below 2^53, so that every language
/// can count with it.
pub fn draw_generation() -> u64 {
    rand::random_range(1..1 << 53)
}

/// A command in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Place in the partition, dense from 1.
    pub position: u64,
    /// When it was ordered.
    pub at: Timestamp,
    /// The command.
    pub command: Command,
}

/// Commands of one partition, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Which partition of the log.
    pub partition: u16,
    /// At least one, after [`Next::Batch`].
    pub commands: Vec<Ordered>,
}

/// A place in each partition of the log: everything up to and including it. 0 is before the first command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(Vec<u64>);

impl Positions {
    /// The place in one partition.
    pub fn of(&self, partition: u16) -> u64 {
        self.0.get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// Sets the place in one partition.
    pub fn set(&mut self, partition: u16, position: u64) {
        let index = usize::from(partition);
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = position;
    }

    /// Whether every partition has come at least as far as in `other`.
    pub fn reach(&self, other: &Self) -> bool {
        other.iter().all(|(partition, position)| self.of(partition) >= position)
    }

    /// Every partition with its place.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().zip(0..).map(|(position, partition)| (partition, *position))
    }
}

impl FromIterator<u64> for Positions {
    fn from_iter<T: IntoIterator<Item = u64>>(positions: T) -> Self {
        Self(positions.into_iter().collect())
    }
}

/// Why a command was not taken. Nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// Too much is waiting.
    #[error("too many commands are waiting to be committed; try again in {retry_after_ms} ms")]
    Full {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The order has ended.
    #[error("the relay is shutting down")]
    Closed,
}

/// Why an order cannot go on. Nobody was told of what it had not handed out; the process must end.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The log on the disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An engine in a crate of its own.
    #[error(transparent)]
    Engine(Box<dyn std::error::Error + Send + Sync>),
}

/// The submitting side, shared by all workers.
pub trait Submit: Send + Sync {
    /// Queues a command. Says nothing about its outcome.
    ///
    /// # Errors
    /// When nothing was queued.
    fn submit(&self, command: Command) -> Result<(), SubmitError>;

    /// Takes nothing more. What was taken is still handed out, then the order has ended.
    fn close(&self);
}

/// The consuming side, owned by the sequencer.
pub trait Order: Send {
    /// Identity of the log: never 0, and another one for every other log.
    fn generation(&self) -> u64;

    /// Begins behind `after`, up to where the view has everything: replays what follows, then goes on with what is submitted.
    /// Returns the ends of the log as they are now; the view is ready once it has reached them. Called once, first.
    ///
    /// # Errors
    /// When the log does not go on where the view ends, is damaged, or cannot be read.
    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError>;

    /// Waits for commands and replaces what `into` holds by those that are there, at most `limit`. They are durable.
    ///
    /// # Errors
    /// When the log fails. Whether what was waiting is in it shows at the next start.
    fn next_batch(&mut self, limit: BatchLimit, into: &mut Batch) -> Result<Next, OrderError>;

    /// The view has everything up to these positions for good, so the log may drop it.
    ///
    /// # Errors
    /// When the log fails.
    fn checkpoint(&mut self, upto: &Positions) -> Result<(), OrderError>;

    /// Whether the log would like a checkpoint soon, so that it never gets [`Next::Full`].
    fn wants_checkpoint(&self) -> bool {
        false
    }
}

/// What came of waiting for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is one.
    Batch,
    /// Nothing for now; ask again.
    Idle,
    /// The log takes nothing more before the next [`Order::checkpoint`].
    Full,
    /// The order was closed, and nothing is left.
    Ended,
}

/// How much one batch may hold. A single command may be larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Commands.
    pub commands: usize,
    /// Their [`Command::weight`] together.
    pub bytes: usize,
}

impl Default for BatchLimit {
    fn default() -> Self {
        Self { commands: 4096, bytes: 1 << 20 }
    }
}
