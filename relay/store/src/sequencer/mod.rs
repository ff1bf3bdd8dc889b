//! The one thread that folds commands and writes the store.

mod cache;
mod checkpoint;
mod table;
mod trims;

use std::{io, sync::Arc};

use quip_core::{By, Command, Effect, Timestamp, check, fold};
use quip_order::{BatchLimit, Next, Order, OrderError, Ordered, Positions, Watch};
use quip_protocol::{Code, conversation::Outcome};
use thiserror::Error;

use self::{cache::Cache, checkpoint::Checkpoints, trims::Trims};
use crate::{Change, Committed, EngineError, ReadError, Sink, Store, engine::Batch, meta, store::Inner};

/// How a sequencer works.
pub struct SequencerConfig {
    /// How much one commit may hold; never more than the default, which the log must have room for.
    pub batch: BatchLimit,
    /// Records (conversations, memberships, send numbers, read marks) that stay in memory between commits; up to twice as many
    /// for a while. About 3 KB for a device with 64 outcomes, 200 bytes for any other.
    pub cached_records: usize,
    /// Looks at commits.
    pub watch: Watch,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self { batch: BatchLimit::default(), cached_records: 32_768, watch: Watch::default() }
    }
}

/// Why the sequencer cannot go on. The process must end: what sinks were told is durable, but readers may never see it.
#[derive(Debug, Error)]
pub enum SequencerError {
    /// A record that it needs cannot be read.
    #[error("a command could not be decided: {0}")]
    Read(#[from] ReadError),
    /// The engine did not commit.
    #[error("the store could not commit: {0}; check the disk; nothing that was accepted is lost")]
    Commit(#[from] EngineError),
    /// The order failed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The order left something out.
    #[error(
        "partition {partition} of the log goes on at {found} where {expected} should come; the relay stops, so that nothing \
         is decided without what is missing"
    )]
    Gap {
        /// Of which partition.
        partition: u16,
        /// The position that should come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The operating system refused a thread.
    #[error("could not start the thread for checkpoints: {0}")]
    Thread(#[source] io::Error),
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// There is nothing to do for now. Only orders that do not wait say so.
    Idle,
    /// The order has ended.
    Ended,
}

/// Takes commands in order, folds them, tells the sinks, commits them.
pub struct Sequencer {
    inner: Arc<Inner>,
    order: Box<dyn Order>,
    sinks: Vec<Box<dyn Sink>>,
    config: SequencerConfig,
    cache: Cache,
    trims: Trims,
    checkpoints: Checkpoints,
    /// Up to where everything is committed.
    positions: Positions,
    /// Where the log ended at the start: what comes up to there was accepted before.
    heads: Positions,
    /// Kept for its allocation.
    batch: quip_order::Batch,
}

impl Sequencer {
    /// The only writer of `store`. Starts the order where the store ends.
    ///
    /// # Errors
    /// When the order does not go on where the store ends, or the store cannot be read.
    pub fn start(
        store: Store,
        mut order: Box<dyn Order>,
        sinks: Vec<Box<dyn Sink>>,
        config: SequencerConfig,
    ) -> Result<Self, SequencerError> {
        let inner = store.inner;
        let most = BatchLimit::default();
        let batch = BatchLimit {
            commands: config.batch.commands.min(most.commands),
            bytes: config.batch.bytes.min(most.bytes),
        };
        let positions = inner.positions.clone();
        let heads = config.watch.during(|| order.start(&positions))?;
        let trims = Trims::load(&inner.engine.snapshot())?;
        let checkpoints = Checkpoints::new(Arc::clone(&inner)).map_err(SequencerError::Thread)?;
        let cache = Cache::new(config.cached_records);
        let config = SequencerConfig { batch, ..config };
        let batch = quip_order::Batch::default();
        Ok(Self { inner, order, sinks, config, cache, trims, checkpoints, positions, heads, batch })
    }

    /// Whether readers see everything that was accepted before the start.
    pub fn is_ready(&self) -> bool {
        self.positions.reach(&self.heads)
    }

    /// Works until readers see everything that was accepted before the start. Says how many commands that were.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn catch_up(&mut self) -> Result<u64, SequencerError> {
        let before = self.positions.clone();
        while !self.is_ready() && self.step()? != Step::Ended {}
        Ok(self.positions.iter().map(|(partition, position)| position - before.of(partition)).sum())
    }

    /// Works until the order has ended and everything is in a checkpoint; meant for a thread of its own.
    ///
    /// # Errors
    /// When the store cannot be read, or the order or a commit fails. (A damaged record only refuses the commands that need
    /// it.)
    pub fn run(mut self) -> Result<(), SequencerError> {
        while self.step()? != Step::Ended {}
        self.finish()
    }

    /// Takes one batch from the order.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn step(&mut self) -> Result<Step, SequencerError> {
        if let Some(upto) = self.checkpoints.ended()? {
            self.order.checkpoint(&upto)?;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let next = self.order.next_batch(self.config.batch, &mut batch)?;
        let watch = self.config.watch.clone();
        let step = match next {
            Next::Batch => watch.during(|| self.apply(&mut batch)).map(|()| Step::Worked),
            Next::Full => watch.during(|| self.checkpoint_now()).map(|()| Step::Worked),
            Next::Idle => Ok(Step::Idle),
            Next::Ended => Ok(Step::Ended),
        };
        self.batch = batch;
        step
    }

    /// After the order has ended: the next start finds everything in the store.
    fn finish(&mut self) -> Result<(), SequencerError> {
        let watch = self.config.watch.clone();
        watch.during(|| self.checkpoint_now())
    }

    /// Folds a batch, tells the sinks, and commits it.
    fn apply(&mut self, batch: &mut quip_order::Batch) -> Result<(), SequencerError> {
        let (partition, was_ready) = (batch.partition, self.is_ready());
        let before = self.positions.of(partition);
        drop_known(batch, before)?;
        let Some(last) = batch.commands.last().map(|last| last.position) else { return Ok(()) };
        self.make_room()?;
        let committed = self.fold_all(partition, last, &mut batch.commands)?;
        if was_ready {
            self.inner.announced.announce();
            self.sinks.iter().for_each(|sink| sink.committed(&committed));
        }
        self.commit(partition, last)
    }

    fn fold_all(
        &mut self,
        partition: u16,
        position: u64,
        commands: &mut Vec<Ordered>,
    ) -> Result<Arc<Committed>, ReadError> {
        let cache_epoch = self.cache.make_room();
        let changes = Vec::with_capacity(commands.len());
        let mut committed = Committed { partition, position, changes, bytes: size_of::<Committed>(), cache_epoch };
        for ordered in commands.drain(..) {
            let change = self.fold_one(ordered)?;
            if change.outcome.is_some() || change.event.is_some() || !change.effects.is_empty() {
                committed.bytes += change.weight();
                committed.changes.push(change);
            }
        }
        Ok(Arc::new(committed))
    }

    fn fold_one(&mut self, Ordered { at, command, .. }: Ordered) -> Result<Change, ReadError> {
        let id = command.conversation;
        let loaded = match self.cache.take(quip_core::keys(&command), &self.inner.engine) {
            Err(error @ ReadError::Damaged { .. }) => return Ok(undecided(command, at, &error)),
            loaded => loaded?,
        };
        let mut folded = fold(&command, at, loaded);
        self.cache.put(&mut folded);
        for effect in &folded.effects {
            if let Effect::Trimmed { from, until } = effect {
                self.trims.add(id, *from..*until);
            }
        }
        let (event, outcome, effects) = (folded.event, folded.outcome, folded.effects);
        Ok(Change { conversation: id, by: command.by, outcome, event, effects })
    }

    /// Begins a checkpoint when it is due. Waits for one that is under way, since memory would grow without a limit.
    fn make_room(&mut self) -> Result<(), SequencerError> {
        if self.checkpoints.is_due() {
            self.end_checkpoint()?;
            self.checkpoints.begin(self.positions.clone());
        }
        Ok(())
    }

    /// Writes everything that was folded at once. The order has it already, so that nothing waits for the disk here.
    fn commit(&mut self, partition: u16, position: u64) -> Result<(), SequencerError> {
        let mut positions = self.positions.clone();
        positions.set(partition, position);
        let mut batch = Batch::default();
        self.trims.write(&mut batch, &mut self.cache);
        self.cache.write(&mut batch);
        batch.insert(meta::POSITIONS, &meta::encode(&positions));
        self.checkpoints.committed(batch.bytes());
        self.inner.engine.commit(batch)?;
        self.inner.announced.store();
        self.positions = positions;
        if self.order.wants_checkpoint() && !self.checkpoints.is_under_way() {
            self.checkpoints.begin(self.positions.clone());
        }
        Ok(())
    }

    /// Waits for the checkpoint that is under way, if there is one, and says up to where it goes.
    fn end_checkpoint(&mut self) -> Result<Option<Positions>, SequencerError> {
        let upto = self.checkpoints.wait()?;
        if let Some(upto) = &upto {
            self.order.checkpoint(upto)?;
        }
        Ok(upto)
    }

    /// Waits for a checkpoint of everything that is committed.
    fn checkpoint_now(&mut self) -> Result<(), SequencerError> {
        if self.end_checkpoint()?.as_ref() != Some(&self.positions) {
            self.checkpoints.begin(self.positions.clone());
            self.end_checkpoint()?;
        }
        Ok(())
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.inner.announced.end();
    }
}

/// Leaves what follows `before`. Positions come again where an order delivers at least once.
fn drop_known(batch: &mut quip_order::Batch, before: u64) -> Result<(), SequencerError> {
    let (partition, mut expected) = (batch.partition, before + 1);
    let mut gap = None;
    batch.commands.retain(|ordered| {
        if ordered.position > expected {
            gap.get_or_insert(SequencerError::Gap { partition, expected, found: ordered.position });
        }
        let is_next = ordered.position == expected;
        expected += u64::from(is_next);
        is_next
    });
    gap.map_or(Ok(()), Err)
}

/// The answer to a command whose device's send numbers are damaged: one damaged record must not stop everyone else.
fn undecided(command: Command, at: Timestamp, error: &ReadError) -> Change {
    tracing::error!(%error, conversation = %command.conversation, "a command was refused");
    let outcome = match command.by {
        By::Device { n, .. } if n > 0 => {
            Some(Outcome { n, code: Code::STORED_DAMAGED, seq: 0, number: 0, at, check: check(&command.action) })
        }
        _ => None,
    };
    Change { conversation: command.conversation, by: command.by, outcome, event: None, effects: Vec::new() }
}

#[cfg(test)]
mod replay;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
