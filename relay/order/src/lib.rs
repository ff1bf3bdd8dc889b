//! The seam `order`: who decides what comes next.
//!
//! A command that was submitted appears zero, one or more times, anywhere relative to other submits;
//! there is one order for all. Everything stronger that an engine may give is not relied upon.
//!
//! Engines: [`embedded()`] for a single relay, [`faulty()`] for tests.

mod embedded;
mod faulty;

use quip_core::{Command, Timestamp};
use thiserror::Error;

pub use embedded::{Embedded, Limits, embedded};
pub use faulty::{Faults, Faulty, faulty};

/// A command in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Which partition of the log.
    pub partition: u16,
    /// Place in the partition, dense from 1 where the engine keeps a log.
    pub position: u64,
    /// When it was ordered.
    pub at: Timestamp,
    /// The command.
    pub command: Command,
}

/// What makes a command durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The order itself: what it delivers is already durable.
    Order,
    /// The view, by its own log.
    View,
}

/// Why a command was not taken. Nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// Too much is waiting.
    #[error("too much is waiting to be committed; try again in {retry_after_ms} ms")]
    Full {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The order has ended.
    #[error("the relay is going down")]
    Closed,
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
    /// What makes a command durable.
    fn durability(&self) -> Durability;

    /// Continues after these positions, one for each partition.
    fn start(&mut self, positions: &[u64]);

    /// Waits for commands and appends what is there, at most `limit.commands` or `limit.bytes`.
    /// False once the order has ended and nothing is left.
    fn next_batch(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> bool;

    /// The view up to these positions survives a power loss.
    fn synced(&mut self, positions: &[u64]);
}

/// How much one batch may hold.
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
