//! Many clients that connect at once, and what can be observed from outside.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quinn::{ConnectionError, TransportErrorCode};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    meter::{Meter, Usage},
    proc,
    report::Sample,
    stats::Latencies,
};

/// From a client's first packet to its welcome, as in the client library.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Minimum bound of a second pause: half that of the client library, so that zero jitter does not cause a busy loop.
const SECOND: Duration = Duration::from_millis(100);
/// Maximum pause, as in the client library.
const MOST: Duration = Duration::from_secs(10);
/// Maximum duration of a storm.
const PATIENCE: Duration = Duration::from_secs(120);

/// The start of a storm, and the bound of a client's first pause.
#[derive(Clone, Copy)]
pub(super) struct Storm {
    pub(super) start: Instant,
    pub(super) jitter: Duration,
}

/// A reconnected client.
pub(super) struct Back<T> {
    pub(super) value: T,
    /// Time since the start of the storm.
    pub(super) after: Duration,
    pub(super) failed: Failed,
}

/// Failed attempts of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Failed {
    /// The server's queue of handshakes was full.
    refused: u32,
    /// The handshake timed out.
    timed_out: u32,
    other: u32,
}

impl Failed {
    fn all(self) -> u32 {
        self.refused + self.timed_out + self.other
    }

    fn count(&mut self, error: &anyhow::Error) {
        match error.downcast_ref() {
            Some(ConnectionError::ConnectionClosed(closed))
                if closed.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                self.refused += 1;
            }
            Some(ConnectionError::TimedOut) => self.timed_out += 1,
            _ => self.other += 1,
        }
    }
}

impl Storm {
    /// Reconnects a client, with the pauses of the client library: random up to a bound that doubles.
    pub(super) async fn come<T, F>(self, mut connect: impl FnMut() -> F) -> Result<Back<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let (mut bound, mut failed) = (self.jitter, Failed::default());
        sleep_until(self.start.into()).await;
        loop {
            sleep(bound.mul_f64(rand::random())).await;
            bound = MOST.min(SECOND.max(bound * 2));
            let error = match timeout(ATTEMPT, connect()).await {
                Ok(Ok(value)) => return Ok(Back { value, after: self.start.elapsed(), failed }),
                Ok(Err(error)) => error,
                Err(_) => ConnectionError::TimedOut.into(),
            };
            failed.count(&error);
            ensure!(self.start.elapsed() < PATIENCE, error.context("a client does not reconnect"));
        }
    }
}

/// Figures of the server and the kernel during a storm.
pub(super) struct Watch {
    meter: Meter,
    port: u16,
    dropped: u64,
}

impl Watch {
    /// Waits until the storm begins.
    pub(super) async fn start(storm: Storm, pid: u32, port: u16) -> Result<Self> {
        sleep_until(storm.start.into()).await;
        Ok(Self { meter: Meter::start(pid)?, port, dropped: proc::udp_drops(port)? })
    }

    /// The usage, and the number of datagrams that the server's full receive buffer dropped.
    pub(super) fn finish(self) -> Result<(Usage, u64)> {
        Ok((self.meter.finish()?, proc::udp_drops(self.port)?.saturating_sub(self.dropped)))
    }
}

/// Runs a task for each client, and waits for all.
pub(super) async fn all<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let mut set: JoinSet<Result<T>> = tasks.into_iter().collect();
    let mut results = Vec::with_capacity(set.len());
    while let Some(result) = set.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

/// Adds when clients were back, and their number per second until the last one.
pub(super) fn push(sample: &mut Sample, per_s: &'static str, backs: impl Iterator<Item = (Duration, Failed)>) {
    let (mut latencies, mut last, mut failed) = (Latencies::new(), Duration::ZERO, Failed::default());
    for (after, Failed { refused, timed_out, other }) in backs {
        latencies.record(after);
        last = last.max(after);
        failed.refused += refused;
        failed.timed_out += timed_out;
        failed.other += other;
    }
    sample.push("half_back_ms", latencies.micros(0.5) / 1e3);
    sample.push("all_back_ms", last.as_secs_f64() * 1e3);
    sample.push(per_s, latencies.count() as f64 / last.as_secs_f64());
    sample.push("failed_attempts", f64::from(failed.all()));
    sample.push("refused_attempts", f64::from(failed.refused));
    sample.push("timed_out_attempts", f64::from(failed.timed_out));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use anyhow::Context;

    use super::*;

    #[tokio::test]
    async fn a_client_comes_back_in_spite_of_refusals() {
        let storm = Storm { start: Instant::now(), jitter: Duration::from_millis(1) };
        let mut attempts = 0;
        let back = storm
            .come(|| {
                attempts += 1;
                let refused = attempts < 4;
                async move { if refused { Err(ConnectionError::TimedOut).context("nobody there") } else { Ok(7) } }
            })
            .await
            .unwrap();
        assert_eq!((back.value, back.failed), (7, Failed { timed_out: 3, ..Failed::default() }));
    }
}
