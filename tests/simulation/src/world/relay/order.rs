//! What stands around the relay's order: one end wakes the sequencer, the other notes what is handed out.

use std::sync::Arc;

use quip_core::Command;
use quip_order::{Batch, BatchLimit, Next, Order, OrderError, Positions, Submit, SubmitError};
use tokio::sync::Notify;

use crate::{
    history::Entry,
    host::Host,
    world::shared::{Shared, lock},
};

/// Wakes the sequencer, which has no thread here.
pub(super) struct Waking {
    pub(super) inner: Arc<dyn Submit>,
    pub(super) wake: Arc<Notify>,
}

impl Submit for Waking {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        let submitted = self.inner.submit(command);
        self.wake.notify_one();
        submitted
    }

    fn close(&self) {
        self.inner.close();
        self.wake.notify_one();
    }
}

/// Notes what is handed out as durable, and asks for checkpoints now and then.
pub(super) struct Tap {
    pub(super) inner: Box<dyn Order>,
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
}

impl Order for Tap {
    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        self.inner.start(after)
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Batch) -> Result<Next, OrderError> {
        let next = self.inner.next_batch(limit, into)?;
        if next == Next::Batch {
            for ordered in &into.commands {
                let now = self.shared.recorder.elapsed();
                self.shared.recorder.note(Entry::Ordered(Box::new(ordered.clone())));
                lock(&self.shared.logs).follow(ordered, now);
            }
        }
        Ok(next)
    }

    fn checkpoint(&mut self, upto: &Positions) -> Result<(), OrderError> {
        self.inner.checkpoint(upto)
    }

    fn wants_checkpoint(&self) -> bool {
        self.host.draw(50) == 0
    }
}
