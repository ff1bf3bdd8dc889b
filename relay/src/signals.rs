//! What the signals of the operating system ask for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of this process. They have their usual effect until this is made.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
}

/// SIGHUP, which no longer ends the process.
///
/// # Errors
/// As [`Signals::new`].
pub(crate) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Signals {
    /// Inside a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new(hangup: Signal) -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hangup })
    }

    /// Waits until the relay is asked to end. Gives the name of the signal.
    pub(crate) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.int.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: ignored; changes of the configuration take effect after a restart");
                }
            }
        }
    }
}
