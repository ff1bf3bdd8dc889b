//! Many clients that come at once, and what is seen of it from outside.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    meter::{Meter, Usage},
    proc,
};

/// From a client's first packet to its welcome, as in the client library.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The least bound of a second pause: half that of the client library, so that no jitter is no endless loop.
const SECOND: Duration = Duration::from_millis(100);
/// The longest pause of all, as in the client library.
const MOST: Duration = Duration::from_secs(10);
/// How long a storm may last.
const PATIENCE: Duration = Duration::from_secs(120);

/// When all come, and the bound of a client's first pause.
#[derive(Clone, Copy)]
pub(super) struct Storm {
    pub(super) start: Instant,
    pub(super) jitter: Duration,
}

/// A client that is back.
pub(super) struct Back<T> {
    pub(super) value: T,
    /// Since the start of the storm.
    pub(super) after: Duration,
    pub(super) failed: u32,
}

impl Storm {
    /// A client's way back: pauses as the client library makes them, anything up to a bound that doubles.
    pub(super) async fn come<T, F>(self, mut connect: impl FnMut() -> F) -> Result<Back<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let (mut bound, mut failed) = (self.jitter, 0);
        sleep_until(self.start.into()).await;
        loop {
            sleep(bound.mul_f64(rand::random())).await;
            bound = MOST.min(SECOND.max(bound * 2));
            let error = match timeout(ATTEMPT, connect()).await {
                Ok(Ok(value)) => return Ok(Back { value, after: self.start.elapsed(), failed }),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {ATTEMPT:?}"),
            };
            failed += 1;
            ensure!(self.start.elapsed() < PATIENCE, error.context("a client does not come back"));
        }
    }
}

/// What the server and the kernel show of a storm.
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

    /// What was used, and datagrams that did not fit the server's receive buffer.
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

/// As [`all`], a few at a time.
pub(super) async fn in_turn<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    /// Handshakes under way at once.
    const AT_ONCE: usize = 32;
    let (mut set, mut results) = (JoinSet::new(), Vec::new());
    for task in tasks {
        if set.len() >= AT_ONCE {
            results.push(set.join_next().await.context("tasks are under way")???);
        }
        set.spawn(task);
    }
    while let Some(result) = set.join_next().await {
        results.push(result??);
    }
    Ok(results)
}

/// The latest of these, and how many of them there were each second until then.
pub(super) fn rate(times: impl ExactSizeIterator<Item = Duration>) -> (Duration, f64) {
    let count = times.len() as f64;
    let last = times.max().unwrap_or_default();
    (last, count / last.as_secs_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn a_client_comes_back_in_spite_of_refusals() {
        let storm = Storm { start: Instant::now(), jitter: Duration::from_millis(1) };
        let mut attempts = 0;
        let back = storm
            .come(|| {
                attempts += 1;
                let refused = attempts < 4;
                async move { if refused { bail!("refused") } else { Ok(7) } }
            })
            .await
            .unwrap();
        assert_eq!((back.value, back.failed), (7, 3));
    }
}
