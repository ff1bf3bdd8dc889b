//! A planted fault: an order whose log loses what it had handed out as durable.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use quip_core::Command;
use quip_order::{Batch, BatchLimit, Clock, Next, Order, OrderError, Ordered, Positions, Submit, SubmitError};

use crate::world::shared::lock;

/// The log, as a cheap handle.
#[derive(Clone, Default)]
pub(super) struct Volatile(Arc<Mutex<Vec<Ordered>>>);

impl Volatile {
    /// Loses the last commands, as many as this says.
    pub(super) fn lose(&self, count: usize) {
        let mut log = lock(&self.0);
        let kept = log.len().saturating_sub(count);
        log.truncate(kept);
    }

    /// The two ends of an order.
    pub(super) fn ends(&self, clock: Clock) -> (Arc<dyn Submit>, Box<dyn Order>) {
        let queue = Arc::new(Queue::default());
        (queue.clone(), Box::new(Consumer { log: self.clone(), queue, clock, next: 0 }))
    }
}

#[derive(Default)]
struct Queue(Mutex<VecDeque<Command>>);

impl Submit for Queue {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        lock(&self.0).push_back(command);
        Ok(())
    }

    fn close(&self) {}
}

struct Consumer {
    log: Volatile,
    queue: Arc<Queue>,
    clock: Clock,
    /// How many were handed out.
    next: usize,
}

impl Order for Consumer {
    fn generation(&self) -> u64 {
        GENERATION
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        self.next = after.of(0) as usize;
        Ok([lock(&self.log.0).len() as u64].into_iter().collect())
    }

    fn next_batch(&mut self, _: BatchLimit, into: &mut Batch) -> Result<Next, OrderError> {
        let mut log = lock(&self.log.0);
        for command in lock(&self.queue.0).drain(..) {
            let position = log.len() as u64 + 1;
            log.push(Ordered { position, at: (self.clock)(), command });
        }
        into.partition = 0;
        into.commands = log.get(self.next..).unwrap_or_default().to_vec();
        self.next = log.len();
        Ok(if into.commands.is_empty() { Next::Idle } else { Next::Batch })
    }

    fn checkpoint(&mut self, _: &Positions) -> Result<(), OrderError> {
        Ok(())
    }
}

/// The identity of the log.
pub(super) const GENERATION: u64 = 1;
