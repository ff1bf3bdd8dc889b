//! How often something may be done. Pure.

use std::{collections::HashMap, time::Duration};

use quip_protocol::UserId;
use tokio::time::Instant;

use crate::config::MessageRate;

/// A rate limit: the generic cell rate algorithm (ITU-T I.371).
pub(super) struct Rate {
    next: Instant,
    each: Duration,
    ahead: Duration,
}

impl Rate {
    /// At most `rate.per_second` over time and `rate.burst` at once; `None` = no limit.
    pub(super) fn new(rate: Option<MessageRate>, now: Instant) -> Self {
        let each = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.per_second as u32);
        Self { next: now, each, ahead: rate.map_or(Duration::ZERO, |rate| each * (rate.burst as u32 - 1)) }
    }

    /// At most `count` a minute over time, and as many at once.
    pub(super) fn per_minute(count: usize, now: Instant) -> Self {
        let each = Duration::from_secs(60) / count as u32;
        Self { next: now, each, ahead: each * (count as u32 - 1) }
    }

    /// Takes one, or says how long to wait.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.each.is_zero() {
            return Ok(());
        }
        let earliest = self.next.max(now);
        match earliest.checked_duration_since(now + self.ahead) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.next = earliest + self.each;
                Ok(())
            }
        }
    }
}

/// One rate for each user, over all of their connections.
pub(super) struct UserRates {
    limit: Option<MessageRate>,
    /// Those who took something lately.
    users: HashMap<UserId, Rate>,
}

impl UserRates {
    /// The same `limit` for every user; `None` = no limit.
    pub(super) fn new(limit: Option<MessageRate>) -> Self {
        Self { limit, users: HashMap::new() }
    }

    /// Takes one for `user`, or says how long to wait.
    pub(super) fn take(&mut self, user: &UserId, now: Instant) -> Result<(), Duration> {
        if self.limit.is_none() {
            return Ok(());
        }
        match self.users.get_mut(user) {
            Some(rate) => rate.take(now),
            None => self.users.entry(user.clone()).or_insert(Rate::new(self.limit, now)).take(now),
        }
    }

    /// Forgets whose burst is whole again: they are as if they had never taken anything.
    pub(super) fn forget(&mut self, now: Instant) {
        self.users.retain(|_, rate| rate.next > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_its_burst_and_then_its_pace() {
        let start = Instant::now();
        let mut rate = Rate::new(Some(MessageRate { per_second: 10, burst: 3 }), start);
        assert!((0..3).all(|_| rate.take(start).is_ok()));
        assert_eq!(rate.take(start), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(start + Duration::from_millis(100)), Ok(()));
        assert!(rate.take(start + Duration::from_millis(100)).is_err());
        assert!((0..3).all(|_| rate.take(start + Duration::from_secs(60)).is_ok()));
    }

    #[test]
    fn a_rate_of_a_minute_allows_all_of_it_at_once() {
        let start = Instant::now();
        let mut rate = Rate::per_minute(20, start);
        assert!((0..20).all(|_| rate.take(start).is_ok()));
        assert_eq!(rate.take(start), Err(Duration::from_secs(3)));
        assert_eq!(rate.take(start + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let start = Instant::now();
        let mut rate = Rate::new(None, start);
        assert!((0..10_000).all(|_| rate.take(start).is_ok()));
    }

    #[test]
    fn each_user_has_one_rate() {
        let start = Instant::now();
        let (ann, ben) = (UserId::parse("ann").unwrap(), UserId::parse("ben").unwrap());
        let mut rates = UserRates::new(Some(MessageRate { per_second: 10, burst: 2 }));
        assert!((0..2).all(|_| rates.take(&ann, start).is_ok()));
        assert_eq!(rates.take(&ann, start), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(&ben, start), Ok(()));
    }

    #[test]
    fn who_owes_nothing_is_forgotten_and_who_does_is_not() {
        let start = Instant::now();
        let (ann, ben) = (UserId::parse("ann").unwrap(), UserId::parse("ben").unwrap());
        let mut rates = UserRates::new(Some(MessageRate { per_second: 10, burst: 2 }));
        let _ = (rates.take(&ann, start), rates.take(&ben, start), rates.take(&ben, start));
        rates.forget(start + Duration::from_millis(100));
        assert_eq!(rates.users.keys().collect::<Vec<_>>(), [&ben]);
        assert!(rates.take(&ben, start).is_err(), "leaving and coming back does not help");
        rates.forget(start + Duration::from_millis(200));
        assert!(rates.users.is_empty());
    }
}
