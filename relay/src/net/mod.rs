//! The network: the QUIC endpoint, its connections and streams, and the loop that drives the hub.
//!
//! Nothing else names quinn. One turn of the loop takes what arrived, the mail, what became readable or writable, and a
//! share of the followers that are behind; then everything else on the thread has its turn.
//!
//! The clock is tokio's, so that a relay runs in virtual time where its runtime does.

mod driver;
mod endpoint;
mod live_first;
mod quic;
mod ready;
mod stream;

use std::{sync::Arc, time::Duration};

use quip_order::Submit;
use quip_protocol::Code;
use quip_store::{Busy, Job, Readers};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use endpoint::{Credentials, EndpointError, Randomness, bind, start, start_on};

use crate::hub::{Mailbox, Phase, Setup};
use driver::Driver;

/// What a network thread is given.
pub struct Parts {
    /// What its hub is made with.
    pub setup: Arc<Setup>,
    /// Takes commands.
    pub submit: Arc<dyn Submit>,
    /// Read the store.
    pub readers: Arc<dyn RunReads>,
}

/// Runs reads of the store: on threads of their own, or at once where nothing has to wait.
pub trait RunReads: Send + Sync {
    /// Queues a job.
    ///
    /// # Errors
    /// When too many are waiting.
    fn run(&self, job: Job) -> Result<(), Busy>;
}

impl RunReads for Readers {
    fn run(&self, job: Job) -> Result<(), Busy> {
        Self::run(self, job)
    }
}

/// Turns before the end, however much there is still to do.
const LAST_TURNS: usize = 10_000;
/// Time for the last answers to leave.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Time for clients to confirm the end. One that is gone must not hold it up.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves `endpoint` until the phase is [`Phase::Stopping`]. The mailbox is the one whose other end the sequencer has.
///
/// Runs on the ambient tokio runtime, which is to have one thread.
pub async fn run(parts: Arc<Parts>, mailbox: Mailbox, endpoint: quinn::Endpoint, mut phases: watch::Receiver<Phase>) {
    let (arrivals, queue) = endpoint::Arrivals::new(Arc::clone(mailbox.wake()));
    let limits = parts.setup.config.limits.clone();
    let accept = tokio::spawn(endpoint::accept(endpoint.clone(), arrivals, limits));
    let wake = Arc::clone(mailbox.wake());
    let mut driver = Driver::new(&parts, mailbox, queue);
    let mut failed = true;
    while driver.phase() != Phase::Stopping {
        if driver.turn(Instant::now()) {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = sleep_until(driver.next_deadline()) => {}
                // Without a sender the phase stays as it is.
                Ok(()) = phases.changed() => {}
            }
        }
        let phase = *phases.borrow_and_update();
        if phase != driver.phase() {
            // A relay that nothing has failed in has its answers given first.
            failed = phase == Phase::Stopping && driver.phase() != Phase::Draining;
            driver.enter(phase);
        }
    }
    flush(&mut driver).await;
    accept.abort();
    let (code, why) =
        if failed { (Code::INTERNAL, "the relay failed") } else { (Code::SHUTDOWN, "the relay is shutting down") };
    endpoint.close(stream::varint(code), why.as_bytes());
    // Clients that are still sending learn of the end from this packet.
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
}

/// Hands the last answers to QUIC and lets it send them. A client that misses one asks again elsewhere.
async fn flush(driver: &mut Driver) {
    for _ in 0..LAST_TURNS {
        if !driver.turn(Instant::now()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    sleep(LAST_WORDS).await;
}
