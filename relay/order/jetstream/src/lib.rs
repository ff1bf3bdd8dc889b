//! The order of several relays: one stream of NATS JetStream. Experimental: one partition, no purging, no shared presence.
//!
//! Each relay publishes its commands to the stream and folds what the stream has, in the stream's order and with the stream's
//! times, which are at most a minute after the time of sending. A message's number in the stream is its position. Accepted
//! is what came back from the stream, whose servers must sync before they acknowledge; that is checked, as is everything else
//! that makes a stream a log, at each connection and once a minute. A command without an answer is published again with the
//! same id. What comes twice all the same is the fold's business.
//!
//! A crate of its own, so that the relay's pure parts build without an asynchronous client.

// Nobody may be reading either; the log goes through a queue.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod engine;
mod error;
mod intake;
mod link;
mod log;
mod message;
mod monitor;
mod outlet;
mod unknown;

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use quip_core::Command;
use quip_order::{Batch, BatchLimit, Clock, Limits, Next, Order, OrderError, Positions, Submit, SubmitError};
use tokio::sync::oneshot;

use self::{
    engine::{Begin, Start},
    intake::Intake,
    outlet::Outlet,
};

pub use self::error::ClusterError;

/// Where the stream is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The NATS servers, as `nats://host:port` or `tls://host:port`.
    pub servers: Vec<String>,
    /// The beginning of the stream's name; the number of the partition follows.
    pub stream: String,
    /// How many servers keep each message: 1, 3 or 5.
    pub replicas: usize,
    /// The monitoring ports of all servers, as `http://host:port`.
    pub monitors: Vec<String>,
    /// A file with the user's JWT and key.
    pub credentials: Option<PathBuf>,
    /// A file of the authorities that certificates of the servers are checked against; otherwise the system's.
    pub ca: Option<PathBuf>,
    /// How long a start waits for servers, and how long the stream may look wrong before that is believed.
    pub patience: Duration,
}

/// The oldest NATS server that works.
pub const LEAST_SERVER: &str = "2.15.0";

/// Finds the stream or makes it, and returns the two ends of the order. The limits are on commands whose outcome is not known;
/// the clock says when each was sent.
///
/// # Errors
/// When the servers cannot be reached, or servers or stream cannot be relied upon.
pub fn jetstream(
    config: ClusterConfig,
    limits: Limits,
    clock: Clock,
) -> Result<(Arc<JetStream>, Box<dyn Order>), ClusterError> {
    let shared = Arc::new(Shared { intake: Intake::new(limits), outlet: Outlet::default() });
    let (opened, is_open) = mpsc::channel();
    let (begin, begun) = oneshot::channel();
    let start = Start { config, clock, shared: shared.clone(), opened, begin: begun };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ends = Ends(shared.clone());
    thread::Builder::new().name("quip-jetstream".to_owned()).spawn(move || {
        let ended = runtime.block_on(engine::run(start));
        ends.0.outlet.end(ended);
    })?;
    let generation = is_open.recv().map_err(|_| ClusterError::Ended)??;
    let consumer = Consumer { shared: shared.clone(), generation, begin: Some(begin), handed_out: 0 };
    Ok((Arc::new(JetStream { shared }), Box::new(consumer)))
}

/// Between the three threads: network, engine, sequencer.
#[derive(Debug)]
struct Shared {
    intake: Intake,
    outlet: Outlet,
}

/// Ends the order when the engine's thread does, also by a panic.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.intake.close();
        self.0.outlet.end(Err(ClusterError::Ended));
    }
}

/// The submitting side. Dropping the last one closes the order.
#[derive(Debug)]
pub struct JetStream {
    shared: Arc<Shared>,
}

impl Submit for JetStream {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        self.shared.intake.push(command)
    }

    fn close(&self) {
        self.shared.intake.close();
    }
}

impl Drop for JetStream {
    fn drop(&mut self) {
        self.shared.intake.close();
    }
}

/// The consuming side.
struct Consumer {
    shared: Arc<Shared>,
    generation: u64,
    begin: Option<oneshot::Sender<Begin>>,
    /// Bytes since the last checkpoint.
    handed_out: usize,
}

impl Order for Consumer {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        let (head, answer) = mpsc::channel();
        if let Some(begin) = self.begin.take() {
            // If the engine has ended, there is no answer either.
            let _ = begin.send(Begin { after: after.of(PARTITION), head });
        }
        let head = answer.recv().unwrap_or(Err(ClusterError::Ended))?;
        Ok(Positions::from_iter([head]))
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Batch) -> Result<Next, OrderError> {
        into.partition = PARTITION;
        into.commands.clear();
        let next = self.shared.outlet.take(limit, &mut into.commands)?;
        self.handed_out += into.commands.iter().map(|ordered| ordered.command.weight()).sum::<usize>();
        Ok(next)
    }

    /// The stream keeps everything: purging comes later.
    fn checkpoint(&mut self, _upto: &Positions) -> Result<(), OrderError> {
        self.handed_out = 0;
        Ok(())
    }

    /// So that a start has little to read again.
    fn wants_checkpoint(&self) -> bool {
        self.handed_out >= CHECKPOINT_BYTES
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.intake.close();
    }
}

/// The one partition.
const PARTITION: u16 = 0;
/// Of commands that a start folds again at most, and what came while the checkpoint was made.
const CHECKPOINT_BYTES: usize = 32 << 20;
