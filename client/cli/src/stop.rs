//! What ends a command before it is done: a signal, the end of the connection, the end of its reader. This is the one place
//! that watches for these, and that says goodbye to the relay.

use std::{
    io,
    pin::{Pin, pin},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join;
use quip_client::{Client, ClientEvent, ClosedReason, ConnectionState};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
};
use thiserror::Error;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep_until, timeout},
};

use crate::{
    contact::Contact,
    out,
    signals::{Signal, Signals},
};

/// Why a command is to end.
#[derive(Debug, Clone, Error)]
pub(crate) enum Stop {
    /// A signal.
    #[error("ended by {0}")]
    Signal(Signal),
    /// The connection is over for good.
    #[error("disconnected: {0}")]
    Closed(ClosedReason),
    /// There was no relay for so long.
    #[error("no answer from the relay for {} s", .0.as_secs())]
    Away(Duration),
    /// Whatever reads standard output has closed it.
    #[error("standard output is closed")]
    Unread,
}

/// How a command is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// How long the relay may be away; `None` = for ever.
    pub(crate) patience: Option<Duration>,
    /// Whether to say that the relay is away, and back.
    pub(crate) says: bool,
    /// Whether the command learns of a stop, and ends by itself soon after.
    pub(crate) winds_up: bool,
    /// Whether the end of standard output's reader is the end of the command, also while it prints nothing.
    pub(crate) is_read: bool,
}

/// Tells a command that it is to end.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<Option<Stop>>);

impl Stopping {
    /// Waits until the command is to end. Cancel safe.
    pub(crate) async fn told(&mut self) -> Stop {
        match self.0.wait_for(Option::is_some).await.map(|stop| stop.clone()) {
            Ok(Some(stop)) => stop,
            // The command is not watched any more.
            _ => std::future::pending().await,
        }
    }
}

/// Runs a command until it ends or has to, and closes the client.
pub(crate) async fn supervise<R>(
    client: &Client,
    watch: Watch,
    mut signals: Signals,
    command: impl FnOnce(Stopping) -> R,
) -> anyhow::Result<()>
where
    R: Future<Output = anyhow::Result<()>>,
{
    let (tell, told) = watch::channel(None);
    let mut running = pin!(command(Stopping(told)));
    // The connection's end comes before what the command makes of it.
    let stop = tokio::select! {
        biased;
        stop = watch_for(client, watch, &mut signals) => stop,
        result = &mut running => {
            // Also after an error: a user whose connection is not closed counts as online until its idle timeout.
            tokio::select! {
                biased;
                _ = signals.first() => {}
                () = client.close() => {}
            }
            return result;
        }
    };
    tell.send_replace(Some(stop.clone()));
    wind_up(client, watch, running).await.unwrap_or_else(|| Err(stop.into()))
}

/// Says goodbye. Returns the result of a command that ends by itself.
async fn wind_up<R: Future>(client: &Client, watch: Watch, mut running: Pin<&mut R>) -> Option<R::Output> {
    // A command is kept until the client is closed: that waits for answers only where nobody holds a conversation any more.
    if !watch.winds_up {
        timeout(GOODBYE, client.close()).await.ok();
        return None;
    }
    if let Ok(result) = timeout(ANSWERS, &mut running).await {
        timeout(GOODBYE, client.close()).await.ok();
        return Some(result);
    }
    // Now the command learns that no answers will come.
    let ended = timeout(GOODBYE, join(client.close(), running)).await;
    ended.ok().map(|((), result)| result)
}

/// Waits for a reason to end, and says meanwhile whether there is a relay.
async fn watch_for(client: &Client, watch: Watch, signals: &mut Signals) -> Stop {
    let mut contact = Contact::default();
    let mut state = client.state();
    let (mut away, mut closed): (Option<Instant>, bool) = (None, false);
    let mut told = client.events();
    let mut unread = pin!(unread(watch.is_read));
    loop {
        let now = state.borrow_and_update().clone();
        match &now {
            // The command knows that it did.
            ConnectionState::Closed(ClosedReason::ByApp) => closed = true,
            ConnectionState::Closed(reason) => return Stop::Closed(reason.clone()),
            ConnectionState::Connecting { .. } => away = away.or_else(|| Some(Instant::now())),
            ConnectionState::Unresponsive { since, .. } => away = away.or(Some(*since)),
            _ => away = None,
        }
        contact.take(&now).filter(|_| watch.says).into_iter().for_each(out::note);
        let end = away.zip(watch.patience).map(|(since, patience)| (since + patience, patience));
        tokio::select! {
            biased;
            signal = signals.first() => return Stop::Signal(signal),
            changed = state.changed(), if !closed => closed = changed.is_err(),
            Some(event) = told.next() => {
                if let ClientEvent::Restored { fate: Err(error), .. } = event {
                    out::note(format_args!("a message of an earlier run was not stored: {error}"));
                }
            }
            patience = at(end) => return Stop::Away(patience),
            () = &mut unread => return Stop::Unread,
        }
    }
}

async fn at(end: Option<(Instant, Duration)>) -> Duration {
    match end {
        Some((end, patience)) => {
            sleep_until(end.into()).await;
            patience
        }
        None => std::future::pending().await,
    }
}

/// Waits until the reader of standard output closes it, if that is a pipe.
async fn unread(watched: bool) {
    let is_pipe = fstat(io::stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if !(watched && is_pipe) {
        return std::future::pending().await;
    }
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let stdout = io::stdout();
        // Asks for nothing: errors are always reported.
        let polled = poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None);
        if polled.is_ok() {
            tell.send(()).ok();
        }
    });
    if told.await.is_err() {
        std::future::pending().await
    }
}

/// How long a command that is to end may wait for what is on its way.
const ANSWERS: Duration = Duration::from_millis(1_500);
/// How long the relay may take to hear of the end.
const GOODBYE: Duration = Duration::from_secs(1);
