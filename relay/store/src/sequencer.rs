//! The one thread that folds commands and writes the store.

use std::time::Duration;

use quip_order::{BatchLimit, Order};
use thiserror::Error;

use crate::{ReadError, Sink, Store};

/// How a sequencer works.
pub struct SequencerConfig {
    /// How much one commit may hold.
    pub batch: BatchLimit,
    /// Rows kept in memory between batches.
    pub cached_rows: usize,
    /// A commit that takes longer than this is taken for stuck.
    pub commit_timeout: Duration,
    /// Called once, on a thread of its own, when a commit is stuck. The engine can sleep for ever on a full disk, so
    /// the process should say so and exit.
    pub on_stuck: Box<dyn Fn() + Send>,
}

/// Why the sequencer cannot go on. What was being committed has an unknown fate: the process must end.
#[derive(Debug, Error)]
pub enum SequencerError {
    /// A record it needs cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The engine did not commit.
    #[error("the store could not commit: {0}; whether the last batch is stored shows at the next start")]
    Commit(#[source] fjall::Error),
}

/// Takes commands in order, folds them, commits them, tells the sinks.
pub struct Sequencer {}

impl Sequencer {
    /// The only writer of `store`.
    pub fn new(store: Store, order: Box<dyn Order>, sinks: Vec<Box<dyn Sink>>, config: SequencerConfig) -> Self {
        let _ = (store, order, sinks, config);
        unimplemented!()
    }

    /// Works until the order has ended and everything is committed; meant for a thread of its own.
    ///
    /// # Errors
    /// When a record is damaged or a commit fails. Nobody was told of that batch.
    pub fn run(self) -> Result<(), SequencerError> {
        unimplemented!()
    }
}
