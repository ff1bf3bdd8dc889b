//! Pauses between connection attempts.

use std::time::Duration;

use quip_protocol::Retry;

use crate::ConnectionLost;

/// The longest first pause.
const BASE: Duration = Duration::from_millis(100);
/// The longest pause of all.
const MOST: Duration = Duration::from_secs(10);

/// The least pause after a relay said "later".
const LATER: Duration = Duration::from_secs(1);

/// Exponential backoff with full jitter, so that the clients of a lost relay do not reconnect at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// The pause before the next attempt to connect: longer if the relay asked for that.
    pub(crate) fn pause_after(&mut self, lost: &ConnectionLost, share: f64) -> Duration {
        let later = matches!(lost, ConnectionLost::Closed { code, .. } if code.retry() == Retry::Later);
        self.pause(share).max(if later { LATER } else { Duration::ZERO })
    }

    /// The pause before the next attempt: this random share of the bound.
    pub(crate) fn pause(&mut self, share: f64) -> Duration {
        let most = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        most.mul_f64(share)
    }

    /// Starts again with the shortest pause.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    fn bound(&self) -> Duration {
        MOST.min(BASE.saturating_mul(1 << self.attempt.min(16)))
    }
}

#[cfg(test)]
mod tests {
    use quip_protocol::Code;

    use super::*;

    #[test]
    fn later_is_a_second_at_least() {
        let mut backoff = Backoff::default();
        let closed = |code| ConnectionLost::Closed { code, text: String::new() };
        assert_eq!(backoff.pause_after(&closed(Code::KEY_PENDING), 0.0), LATER);
        assert_eq!(backoff.pause_after(&closed(Code::OVERLOADED), 0.5), BASE);
        let mut pauses = (0..9).map(|_| backoff.pause_after(&closed(Code::KEY_PENDING), 0.999));
        assert!(pauses.next() == Some(LATER) && pauses.last().is_some_and(|pause| pause > LATER));
    }

    #[test]
    fn pauses_double_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..9 {
            bounds.push(backoff.bound().as_millis());
            let bound = backoff.bound();
            assert_eq!(backoff.pause(0.5), bound / 2);
        }
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.bound(), BASE);
    }
}
