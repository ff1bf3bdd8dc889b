//! The one thread that folds commands and writes the store.

mod rows;
mod table;
mod trims;
mod watchdog;

use std::{io, sync::Arc, time::Duration};

use fjall::PersistMode;
use quip_core::{By, Command, Effect, Timestamp, fold};
use quip_order::{BatchLimit, Order, Ordered};
use quip_protocol::{Code, conversation::Outcome};
use thiserror::Error;

use self::{rows::Working, trims::Trims, watchdog::Watchdog};
use crate::{Change, Committed, ReadError, Sink, Store, View, store::Inner};

/// How a sequencer works.
pub struct SequencerConfig {
    /// How much one commit may hold; never more than the default, which bounds what a power loss can tear and hence
    /// what the next start may cut off.
    pub batch: BatchLimit,
    /// Rows of each kind (conversation, membership, send numbers, read mark) that stay in memory between commits; up to
    /// twice as many for a while. About 100 MB at the default if every device had 64 outcomes, usually a tenth of it.
    pub cached_rows: usize,
    /// A commit that takes longer than this is stuck.
    pub commit_timeout: Duration,
    /// Called once, on another thread, when a commit is stuck. The engine can sleep for ever on a full disk, so the
    /// process should say so and exit. By default it aborts.
    pub on_stuck: Box<dyn FnOnce() + Send>,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            batch: BatchLimit::default(),
            cached_rows: 16_384,
            commit_timeout: Duration::from_secs(10),
            on_stuck: Box::new(|| std::process::abort()),
        }
    }
}

/// Why the sequencer cannot go on. Nobody is told anything about the commands it had taken: the process must end.
#[derive(Debug, Error)]
pub enum SequencerError {
    /// A record that it needs cannot be read.
    #[error("a command could not be decided: {0}")]
    Read(#[from] ReadError),
    /// The engine did not commit.
    #[error(
        "the store could not commit: {0}; check the disk; whether the last commit is stored shows at the next start"
    )]
    Commit(#[source] fjall::Error),
    /// The operating system gave no thread for the watchdog.
    #[error("no thread for the watchdog: {0}")]
    Watchdog(#[source] io::Error),
}

/// Takes commands in order, folds them, commits them, tells the sinks.
pub struct Sequencer {
    inner: Arc<Inner>,
    view: View,
    order: Box<dyn Order>,
    sinks: Vec<Box<dyn Sink>>,
    config: SequencerConfig,
    working: Working,
    trims: Trims,
}

impl Sequencer {
    /// The only writer of `store`.
    pub fn new(store: Store, order: Box<dyn Order>, sinks: Vec<Box<dyn Sink>>, config: SequencerConfig) -> Self {
        let (inner, view) = (store.inner.clone(), store.view());
        let working = Working::new(config.cached_rows);
        let most = BatchLimit::default();
        let batch = BatchLimit {
            commands: config.batch.commands.min(most.commands),
            bytes: config.batch.bytes.min(most.bytes),
        };
        let config = SequencerConfig { batch, ..config };
        Self { inner, view, order, sinks, config, working, trims: Trims::default() }
    }

    /// Works until the order has ended and everything is committed; meant for a thread of its own.
    ///
    /// # Errors
    /// When the store cannot be read or a commit fails. Nobody was told of that batch. (A damaged record only refuses
    /// the commands that need it.)
    pub fn run(mut self) -> Result<(), SequencerError> {
        let on_stuck = std::mem::replace(&mut self.config.on_stuck, Box::new(|| ()));
        let watchdog = Watchdog::start(self.config.commit_timeout, on_stuck).map_err(SequencerError::Watchdog)?;
        self.trims = Trims::load(&self.inner)?;
        self.order.start(&[0]);
        let mut waiting = Vec::new();
        while self.order.next_batch(self.config.batch, &mut waiting) {
            let last = waiting.last().map_or(0, |ordered: &Ordered| ordered.position);
            let committed = self.fold_all(&mut waiting)?;
            watchdog.watch(|| self.commit()).map_err(SequencerError::Commit)?;
            self.order.synced(&[last]);
            self.sinks.iter().for_each(|sink| sink.committed(&committed));
        }
        watchdog.watch(|| self.inner.database.persist(PersistMode::SyncAll)).map_err(SequencerError::Commit)
    }

    fn fold_all(&mut self, waiting: &mut Vec<Ordered>) -> Result<Arc<Committed>, ReadError> {
        let turnovers = self.working.make_room();
        let changes = Vec::with_capacity(waiting.len());
        let mut committed = Committed { changes, bytes: size_of::<Committed>(), turnovers };
        for ordered in waiting.drain(..) {
            let change = self.fold_one(ordered)?;
            if change.outcome.is_some() || change.event.is_some() || !change.effects.is_empty() {
                committed.bytes += change.weight();
                committed.changes.push(change);
            }
        }
        Ok(Arc::new(committed))
    }

    fn fold_one(&mut self, Ordered { at, command, .. }: Ordered) -> Result<Change, ReadError> {
        let (id, keys) = (command.conversation, quip_core::keys(&command));
        let (places, rows) = match self.working.take(&keys, &self.view) {
            Err(error @ ReadError::Damaged { .. }) => return Ok(undecided(command, at, &error)),
            taken => taken?,
        };
        let kept = rows.conversation.as_ref().map(|row| row.first_kept);
        let folded = fold(&command, at, rows);
        if let (Some(from), Some(after)) = (kept, &folded.rows.conversation) {
            self.trims.add(id, from..after.first_kept);
        }
        self.working.put_back(id, places, folded.rows, folded.changed);
        if let Some(event) = &folded.event {
            self.working.put_event(id, event.seq, &event.row);
        }
        for effect in &folded.effects {
            if let Effect::Rewritten { seq, row } = effect {
                self.working.put_event(id, *seq, row);
            }
        }
        let (event, outcome, effects) = (folded.event, folded.outcome, folded.effects);
        Ok(Change { conversation: id, by: command.by, outcome, event, effects })
    }

    /// Makes everything that was folded durable at once.
    fn commit(&mut self) -> Result<(), fjall::Error> {
        let mut batch = self.inner.database.batch().durability(Some(PersistMode::SyncData));
        self.trims.write(&mut batch, &self.inner.spaces, &mut self.working);
        self.working.write(&mut batch, &self.inner.spaces);
        batch.commit()?;
        self.inner.publish();
        Ok(())
    }
}

/// The answer to a command whose device's send numbers are damaged: one damaged record must not stop everyone else.
fn undecided(command: Command, at: Timestamp, error: &ReadError) -> Change {
    tracing::error!(%error, conversation = %command.conversation, "a command was refused");
    let outcome = match command.by {
        By::Device { n, .. } if n > 0 => Some(Outcome { n, code: Code::STORED_DAMAGED, seq: 0, number: 0, at }),
        _ => None,
    };
    Change { conversation: command.conversation, by: command.by, outcome, event: None, effects: Vec::new() }
}

#[cfg(test)]
mod replay;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
