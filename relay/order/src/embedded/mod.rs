//! The order of a single relay: one queue in this process and one log on its disk.
//!
//! Stronger than the contract: what was taken appears exactly once, in the order of submitting, unless the process ends first.
//! Group commit is the batch that waited while the last sync ran; there is no artificial delay.

mod direct;
mod log;
mod make;
mod memory;
mod queue;
mod renew;
mod segment;

use std::{collections::VecDeque, path::Path, sync::Arc};

use quip_core::Command;

use self::{
    log::Log,
    queue::{Queue, Waited},
};
use crate::{
    Batch, BatchLimit, Clock, Next, Order, OrderError, Ordered, Positions, Submit, SubmitError, Watch, system_clock,
};

pub use self::{log::LogError, memory::MemoryLog, queue::Limits, renew::renew};

/// How an embedded order works.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// How much may wait.
    pub limits: Limits,
    /// Bytes of the log, at least [`LOG_BYTES_MIN`]. Only for a log that is made: one that is there keeps its size.
    pub log_bytes: u64,
    /// Stamps commands.
    pub clock: Clock,
    /// Looks at the syncs of the log.
    pub watch: Watch,
}

/// The smallest log: each of its segments must have room for the largest batch.
pub const LOG_BYTES_MIN: u64 = log::SEGMENTS as u64 * segment::LARGEST;

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { limits: Limits::default(), log_bytes: 64 << 20, clock: system_clock(), watch: Watch::default() }
    }
}

/// Opens the log in `folder`, or makes one, and returns the two ends of the order.
///
/// # Errors
/// When the log is in use, is not what was written, or the disk fails.
pub fn embedded(folder: &Path, config: EmbeddedConfig) -> Result<(Arc<Embedded>, Box<dyn Order>), LogError> {
    let log = Log::open(folder, config.log_bytes / log::SEGMENTS as u64, config.watch.clone())?;
    Ok(ends(Box::new(log), config, true))
}

/// An order over a log in memory, for tests and the simulation: its [`Order::next_batch`] returns [`Next::Idle`] instead of
/// waiting.
pub fn embedded_in_memory(log: MemoryLog, config: EmbeddedConfig) -> (Arc<Embedded>, Box<dyn Order>) {
    ends(Box::new(log.reader()), config, false)
}

fn ends(log: Box<dyn CommandLog>, config: EmbeddedConfig, waits: bool) -> (Arc<Embedded>, Box<dyn Order>) {
    let queue = Arc::new(Queue::new(config.limits));
    let consumer = Consumer { queue: queue.clone(), log, clock: config.clock, waits, taken: VecDeque::new() };
    (Arc::new(Embedded { queue }), Box::new(consumer))
}

/// Where commands become durable.
trait CommandLog: Send {
    fn generation(&self) -> u64;
    /// Begins behind `after`, and returns the last position.
    fn start(&mut self, after: u64) -> Result<u64, LogError>;
    /// Appends to `into` what was found and not replayed yet, up to the limit; nothing once all of it was.
    fn replay(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> Result<(), LogError>;
    /// Whether a batch may find no room.
    fn is_full(&self) -> bool;
    /// Whether half of the room is taken.
    fn is_half_full(&self) -> bool;
    /// The last position.
    fn last(&self) -> u64;
    /// Makes a batch durable whose positions follow the last one. [`Self::is_full`] must be false.
    fn append(&mut self, batch: &[Ordered]) -> Result<(), LogError>;
    /// What lies up to this position is not needed any more.
    fn checkpoint(&mut self, upto: u64);
}

/// The submitting side of an embedded order. Dropping the last one closes it.
#[derive(Debug)]
pub struct Embedded {
    queue: Arc<Queue>,
}

impl Submit for Embedded {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        self.queue.push(command)
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
    log: Box<dyn CommandLog>,
    clock: Clock,
    /// Whether it waits for commands.
    waits: bool,
    /// Empty between calls; kept for its allocation.
    taken: VecDeque<Command>,
}

/// The one partition.
const PARTITION: u16 = 0;

impl Order for Consumer {
    fn generation(&self) -> u64 {
        self.log.generation()
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        Ok(Positions::from_iter([self.log.start(after.of(PARTITION))?]))
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Batch) -> Result<Next, OrderError> {
        into.partition = PARTITION;
        into.commands.clear();
        self.log.replay(limit, &mut into.commands)?;
        if !into.commands.is_empty() {
            return Ok(Next::Batch);
        }
        if self.log.is_full() {
            return Ok(Next::Full);
        }
        match self.queue.take(limit, &mut self.taken, self.waits) {
            Waited::Idle => return Ok(Next::Idle),
            Waited::Ended => return Ok(Next::Ended),
            Waited::Taken => {}
        }
        let (at, first) = ((self.clock)(), self.log.last() + 1);
        let ordered = |(position, command)| Ordered { position, at, command };
        into.commands.extend((first..).zip(self.taken.drain(..)).map(ordered));
        self.log.append(&into.commands)?;
        Ok(Next::Batch)
    }

    fn checkpoint(&mut self, upto: &Positions) -> Result<(), OrderError> {
        self.log.checkpoint(upto.of(PARTITION));
        Ok(())
    }

    fn wants_checkpoint(&self) -> bool {
        self.log.is_half_full()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests;
