//! The one thread that folds commands and writes the store.

mod batch;
mod rows;
mod syncer;
mod table;
mod trims;
mod watchdog;

use std::{io, sync::Arc, time::Duration};

use fjall::PersistMode;
use quip_core::{By, Command, Effect, Timestamp, fold};
use quip_order::{BatchLimit, Durability, Order, Ordered};
use quip_protocol::{Code, conversation::Outcome};
use thiserror::Error;

use self::{batch::Batch, rows::Working, syncer::Syncer, trims::Trims, watchdog::Watchdog};
use crate::{Change, Committed, LogError, ReadError, Sink, Store, View, keys::meta, log::Log, store::Inner};

/// How a sequencer works.
pub struct SequencerConfig {
    /// How much one commit may hold; never more than the default, which a file of the log must have room for.
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
    /// The log did not keep a command.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What was committed did not reach the disk; it is in the log.
    #[error("the store could not commit to the disk: {0}; check the disk; nothing that was accepted is lost")]
    Sync(#[source] io::Error),
    /// The operating system gave no thread.
    #[error("no thread for the watchdog or the syncer: {0}")]
    Thread(#[source] io::Error),
}

/// Takes commands in order, keeps them in the log, folds them, commits them, tells the sinks.
pub struct Sequencer {
    inner: Arc<Inner>,
    view: View,
    log: Log,
    /// What is in the log and not yet in the store.
    lost: Vec<Ordered>,
    /// Up to where everything is committed, and up to where the engine survives a power loss.
    applied: u64,
    synced: u64,
    order: Box<dyn Order>,
    sinks: Vec<Box<dyn Sink>>,
    config: SequencerConfig,
    working: Working,
    trims: Trims,
    /// From the first commit on.
    watchdog: Option<Watchdog>,
}

impl Sequencer {
    /// The only writer of `store`.
    pub fn new(store: Store, order: Box<dyn Order>, sinks: Vec<Box<dyn Sink>>, config: SequencerConfig) -> Self {
        let view = store.view();
        let Store { inner, log, lost, applied } = store;
        let working = Working::new(config.cached_rows);
        let most = BatchLimit::default();
        let batch = BatchLimit {
            commands: config.batch.commands.min(most.commands),
            bytes: config.batch.bytes.min(most.bytes),
        };
        let config = SequencerConfig { batch, ..config };
        let trims = Trims::default();
        Self { inner, view, log, lost, applied, synced: 0, order, sinks, config, working, trims, watchdog: None }
    }

    /// Folds what the log has and the store lost, so that readers see all that was accepted; [`Self::run`] does it too. Says
    /// how many commands that were.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn recover(&mut self) -> Result<usize, SequencerError> {
        let watchdog = self.watchdog()?;
        self.trims = Trims::load(&self.inner)?;
        let count = self.lost.len();
        while !self.lost.is_empty() {
            let most = self.lost.len().min(RECOVERED_AT_ONCE);
            let mut batch = self.lost[..most].to_vec();
            watchdog.watch(|| self.apply(&mut batch))?;
            self.lost.drain(..most);
        }
        watchdog.watch(|| self.sync())?;
        if count > 0 {
            tracing::info!(commands = count, "what was accepted shortly before the relay ended is in the store again");
        }
        self.watchdog = Some(watchdog);
        Ok(count)
    }

    fn watchdog(&mut self) -> Result<Watchdog, SequencerError> {
        if let Some(watchdog) = self.watchdog.take() {
            return Ok(watchdog);
        }
        let on_stuck = std::mem::replace(&mut self.config.on_stuck, Box::new(|| ()));
        Watchdog::start(self.config.commit_timeout, on_stuck).map_err(SequencerError::Thread)
    }

    /// Works until the order has ended and everything is committed; meant for a thread of its own.
    ///
    /// # Errors
    /// When the store cannot be read, or its log or a commit fails. Nobody was told of that batch. (A damaged record only
    /// refuses the commands that need it.)
    pub fn run(mut self) -> Result<(), SequencerError> {
        self.recover()?;
        let watchdog = self.watchdog()?;
        let syncer = Syncer::start(self.inner.folder.clone()).map_err(SequencerError::Thread)?;
        self.order.start(&[self.applied]);
        let mut waiting = Vec::new();
        while self.order.next_batch(self.config.batch, &mut waiting) {
            let committed = watchdog.watch(|| {
                self.note_synced(syncer.synced().map_err(SequencerError::Sync)?);
                self.keep(&waiting)?;
                self.apply(&mut waiting)
            })?;
            syncer.applied(self.applied);
            self.sinks.iter().for_each(|sink| sink.committed(&committed));
        }
        watchdog.watch(|| self.sync())
    }

    /// Makes a batch durable before anything is decided by it, unless the order did.
    fn keep(&mut self, batch: &[Ordered]) -> Result<(), SequencerError> {
        if self.order.durability() == Durability::Order {
            return Ok(());
        }
        if self.log.is_full(batch) {
            self.sync()?;
        }
        Ok(self.log.keep(batch)?)
    }

    /// Folds and commits a batch.
    fn apply(&mut self, batch: &mut Vec<Ordered>) -> Result<Arc<Committed>, SequencerError> {
        let last = batch.last().map_or(self.applied, |ordered| ordered.position);
        let committed = self.fold_all(batch)?;
        self.commit(last).map_err(SequencerError::Commit)?;
        self.applied = last;
        Ok(committed)
    }

    /// Syncs the engine, which waits for the disk.
    fn sync(&mut self) -> Result<(), SequencerError> {
        self.inner.database.persist(PersistMode::SyncAll).map_err(SequencerError::Commit)?;
        self.note_synced(self.applied);
        Ok(())
    }

    fn note_synced(&mut self, position: u64) {
        if position > self.synced {
            self.synced = position;
            self.log.synced(position);
            self.order.synced(&[position]);
        }
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

    /// Writes everything that was folded at once. The disk has it later: it is in the log. But what may be flushed before
    /// that it has now: a table must not have what the journal may lose.
    fn commit(&mut self, position: u64) -> Result<(), fjall::Error> {
        let (Inner { database, spaces, .. }, in_log) = (&*self.inner, self.order.durability() == Durability::View);
        let mut batch = Batch::new(database);
        self.trims.write(&mut batch, spaces, &mut self.working);
        self.working.write(&mut batch, spaces);
        if in_log {
            batch.insert(&spaces.meta.handle, meta::LOG_POSITION, &position.to_be_bytes());
        }
        let later = in_log && !spaces.may_flush(batch.bytes());
        batch.commit(if later { PersistMode::Buffer } else { PersistMode::SyncData })?;
        self.inner.publish();
        Ok(())
    }
}

/// Commands that one commit of a recovery holds. There is room for a batch of any of them.
const RECOVERED_AT_ONCE: usize = 256;

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
