//! The end of a relay, in order.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{hub::Phase, net::Parts};

/// How long the end waits for the last-seen times of connected users.
const LAST_SEEN_WITHIN: Duration = Duration::from_secs(2);

/// Lets clients go elsewhere, unless `at_once` is ready. Then has the commands that were taken answered, and no more taken.
/// When the last one is answered the order ends, and the sequencer and the network thread with it.
pub async fn shut_down(parts: &Parts, phase: &watch::Sender<Phase>, at_once: impl Future<Output = ()>) {
    let setup = &parts.setup;
    let mut phases = phase.subscribe();
    go_on(phase, Phase::GoingAway);
    tokio::select! {
        biased;
        () = at_once => {}
        () = setup.everyone_left.notified() => {}
        () = tokio::time::sleep(setup.config.limits.go_away_within) => {}
        _ = phases.wait_for(|phase| *phase == Phase::Stopping) => {}
    }
    go_on(phase, Phase::Draining);
    if timeout(LAST_SEEN_WITHIN, setup.last_seen_submitted.notified()).await.is_err() {
        tracing::warn!("some last-seen times were not written within {LAST_SEEN_WITHIN:?}");
    }
    parts.submit.close();
}

/// Goes on to another phase, unless the relay has stopped already.
fn go_on(phase: &watch::Sender<Phase>, next: Phase) {
    phase.send_if_modified(|phase| {
        let goes_on = *phase != Phase::Stopping;
        if goes_on {
            *phase = next;
        }
        goes_on
    });
}
