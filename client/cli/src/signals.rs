//! Signals that ask the program to end.
//!
//! They are taken on a thread of their own, because the command's thread may be stuck in a write that nobody reads.

use std::{fmt, fs, future::poll_fn, io, process, task::Poll, thread, time::Duration};

use rustix::termios::{self, OptionalActions};
use tokio::{
    runtime::Builder,
    signal::unix::{self, SignalKind},
    sync::watch,
    time::timeout,
};

/// A signal that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: the terminal was closed.
    Hangup = 1,
    /// SIGINT: Ctrl-C.
    Interrupt = 2,
    /// SIGTERM.
    Terminate = 15,
}

impl Signal {
    /// The exit status, as shells count it.
    pub(crate) fn status(self) -> u8 {
        128 + self as u8
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The first signal that arrives.
#[derive(Debug, Clone)]
pub(crate) struct Signals(watch::Receiver<Option<Signal>>);

impl Signals {
    /// Takes signals from now on. After the first one the program has a few seconds to end. A second one ends it at once.
    pub(crate) fn take() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut taken = {
            let _inside = runtime.enter();
            Taken::new()?
        };
        let terminal = termios::tcgetattr(io::stdin()).ok();
        let (tell, told) = watch::channel(None);
        thread::spawn(move || {
            runtime.block_on(async {
                let first = taken.next().await;
                tell.send_replace(Some(first));
                let last = timeout(PATIENCE, taken.next()).await.unwrap_or(first);
                if let Some(terminal) = &terminal {
                    // There is nobody left to tell of an error.
                    let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, terminal);
                }
                process::exit(last.status().into())
            });
        });
        Ok(Self(told))
    }

    /// Waits for the first signal. Cancel safe.
    pub(crate) async fn first(&mut self) -> Signal {
        match self.0.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            // The thread ends only with the program.
            _ => std::future::pending().await,
        }
    }
}

struct Taken(Vec<(Signal, unix::Signal)>);

impl Taken {
    fn new() -> io::Result<Self> {
        let ignored = ignored();
        let all = [Signal::Hangup, Signal::Interrupt, Signal::Terminate];
        let wanted = all.into_iter().filter(|signal| ignored & (1 << (*signal as u64 - 1)) == 0);
        wanted
            .map(|signal| Ok((signal, unix::signal(SignalKind::from_raw(signal as i32))?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut all = self.0.iter_mut();
            let arrived = all.find_map(|(signal, stream)| stream.poll_recv(cx).is_ready().then_some(*signal));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The signals that the process was started to ignore, as `nohup` does, as a set of bits.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// How long the program may take to end after the first signal. It is longer than any pause that a command makes then.
const PATIENCE: Duration = Duration::from_secs(4);
