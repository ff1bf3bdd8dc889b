//! What stops an order on JetStream.

use quip_core::CommandError;
use quip_order::OrderError;
use thiserror::Error;

use crate::LEAST_SERVER;

/// Why an order on JetStream does not start or go on. The text says what to do.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No server was reached in the time for a start.
    #[error("could not reach the NATS servers: {0}; check `servers` and that they run")]
    Unreachable(String),
    /// The servers do not let this relay in.
    #[error("the NATS servers refuse this relay: {0}; check `credentials`")]
    Credentials(String),
    /// A server that acknowledges before it syncs, whatever it is set to.
    #[error("the NATS server {name} has version {version}; upgrade it to {LEAST_SERVER} or newer")]
    OldServer {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// A server that loses what it acknowledged when its machine fails.
    #[error(
        "the NATS server {0} acknowledges messages before they are on its disk; set `sync_interval: always` in the \
         `jetstream` section of its configuration and restart it"
    )]
    NotSynced(String),
    /// Nothing says whether a server syncs.
    #[error(
        "could not check that the NATS server {name} syncs always: {why}; name the monitoring port of each server in `monitors`"
    )]
    Unchecked {
        /// Its name.
        name: String,
        /// What stood in the way.
        why: String,
    },
    /// A server that does not take a command of full size.
    #[error("the NATS server takes messages of at most {0} bytes; raise its `max_payload`")]
    SmallPayload(usize),
    /// The stream cannot be made or read.
    #[error("could not open the stream {stream}: {why}")]
    Stream {
        /// Its name.
        stream: String,
        /// What the server said.
        why: String,
    },
    /// The stream was there and is gone.
    #[error("the stream {0} is gone; restore it from a backup, or move this relay's store away to begin a new log")]
    Gone(String),
    /// The stream could lose or change messages.
    #[error(
        "the stream {stream} has {found}, and a log needs {needed}; change it with `nats stream edit`, or name another stream"
    )]
    Settings {
        /// Its name.
        stream: String,
        /// The setting as it is.
        found: String,
        /// As it must be.
        needed: &'static str,
    },
    /// The stream is not a log of Quip.
    #[error("the stream {0} was not made by Quip; name another stream")]
    Foreign(String),
    /// The stream has another number of replicas than the config says.
    #[error("the stream {stream} has {found} replicas and the config says {configured}; change one of them")]
    Replicas {
        /// Its name.
        stream: String,
        /// Of the stream.
        found: usize,
        /// Of the config.
        configured: usize,
    },
    /// Made by a version of Quip that does something else with it.
    #[error(
        "the stream {stream} has {what} {found}, and this relay knows {known}; use the version of Quip that made it"
    )]
    Version {
        /// Its name.
        stream: String,
        /// Of what.
        what: &'static str,
        /// As the stream says.
        found: String,
        /// As this version knows.
        known: u64,
    },
    /// The stream was made again.
    #[error(
        "the stream {stream} is another log than before (generation {found:x}, was {known:x}); restore it from a backup, \
         or move this relay's store away to follow the new one"
    )]
    Generation {
        /// Its name.
        stream: String,
        /// As the stream says.
        found: u64,
        /// As it was.
        known: u64,
    },
    /// The stream has less than was read from it.
    #[error(
        "the stream {stream} ends at {last} and this relay's store at {position}: the stream was restored or lost messages; \
         stop all relays and move the store of each away, also of those that do not run, to follow the stream as it is"
    )]
    Behind {
        /// Its name.
        stream: String,
        /// Its last message.
        last: u64,
        /// Where this relay is.
        position: u64,
    },
    /// The stream no longer has what comes next.
    #[error(
        "the stream {stream} begins at {first} and this relay's store ends at {position}: what lies between was purged; \
         restore the store from a newer backup"
    )]
    Purged {
        /// Its name.
        stream: String,
        /// Its first message.
        first: u64,
        /// Where this relay is.
        position: u64,
    },
    /// The stream has a hole.
    #[error("the stream {stream} has no message {missing}, but later ones; restore the stream from a backup")]
    Gap {
        /// Its name.
        stream: String,
        /// The first one that is missing.
        missing: u64,
    },
    /// A message that this relay must not skip and cannot read.
    #[error("message {position} of the stream {stream}: {source}")]
    Command {
        /// Its name.
        stream: String,
        /// The message.
        position: u64,
        /// Why.
        source: CommandError,
    },
    /// A message in a form that this version does not know.
    #[error(
        "message {position} of the stream {stream} has form {form}, which this relay does not know: upgrade this relay"
    )]
    Form {
        /// Its name.
        stream: String,
        /// The message.
        position: u64,
        /// Its form.
        form: u8,
    },
    /// A message that is none of Quip's.
    #[error(
        "message {position} of the stream {stream} is not from a relay; let nobody else publish to it, and restore it from a backup"
    )]
    Stranger {
        /// Its name.
        stream: String,
        /// The message.
        position: u64,
    },
    /// The thread or its runtime.
    #[error("could not start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The engine's thread is no more.
    #[error("the thread that follows the stream has ended; the log says why")]
    Ended,
}

impl From<ClusterError> for OrderError {
    fn from(error: ClusterError) -> Self {
        Self::Engine(Box::new(error))
    }
}

/// What came of looking at servers and stream.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It will not get better.
    Final(ClusterError),
    /// It may be so for a moment, while a cluster elects leaders or a server starts.
    Doubtful(ClusterError),
    /// Nobody answers.
    Silent(String),
}

impl From<ClusterError> for Trouble {
    fn from(error: ClusterError) -> Self {
        Self::Final(error)
    }
}
