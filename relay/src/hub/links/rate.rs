//! How often something may be done, and what it costs. Pure.

use std::time::Duration;

use quip_protocol::cost;
use tokio::time::Instant;

use crate::config::MessageRate;

/// A rate limit: the generic cell rate algorithm (ITU-T I.371).
pub(super) struct Rate {
    next: Instant,
    /// What one unit takes; zero = no limit.
    each: Duration,
    burst: Duration,
}

/// What something takes of a user's rate, in tenths of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum Cost {
    /// A numbered command.
    Command,
    /// A read mark.
    Mark,
    /// A request.
    Request,
    /// Opening a conversation, perhaps with a join.
    Open { joins: bool },
}

impl Rate {
    /// At most `rate.per_second` over time and `rate.burst` at once.
    pub(super) fn new(rate: MessageRate, now: Instant) -> Self {
        Self::of(Duration::from_secs(1), rate.per_second, rate.burst, now)
    }

    /// As [`Rate::new`] where a unit is a tenth of what `rate` counts; `None` = no limit.
    pub(super) fn in_tenths(rate: Option<MessageRate>, now: Instant) -> Self {
        let MessageRate { per_second, burst } = rate.unwrap_or(MessageRate { per_second: 0, burst: 0 });
        Self::of(Duration::from_secs(1), per_second * 10, burst * 10, now)
    }

    /// At most `count` in each `period` over time, and as many at once; 0 = no limit.
    pub(super) fn per(period: Duration, count: usize, now: Instant) -> Self {
        Self::of(period, count, count, now)
    }

    fn of(period: Duration, count: usize, burst: usize, now: Instant) -> Self {
        let each = if count == 0 { Duration::ZERO } else { period / count as u32 };
        Self { next: now, each, burst: each * burst as u32 }
    }

    /// Takes one unit, or says how long to wait.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_units(1, now)
    }

    /// Takes some units, or says how long to wait.
    pub(super) fn take_units(&mut self, units: u32, now: Instant) -> Result<(), Duration> {
        self.has(units, now)?;
        self.owe(units, now);
        Ok(())
    }

    /// Whether the units are there, or how long to wait for them. A cost above the burst is allowed when nothing is owed.
    pub(super) fn has(&self, units: u32, now: Instant) -> Result<(), Duration> {
        let spare = self.burst.saturating_sub(self.each * units);
        match self.next.checked_duration_since(now + spare) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Takes some units, whether they are there or not.
    pub(super) fn owe(&mut self, units: u32, now: Instant) {
        self.next = self.next.max(now) + self.each * units;
    }

    /// Gives back units that were taken.
    pub(super) fn refund(&mut self, units: u32) {
        self.next = self.next.checked_sub(self.each * units).unwrap_or(self.next);
    }

    /// True when a whole burst may be taken again, as if nothing had ever been.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.next <= now
    }
}

impl Cost {
    /// In tenths of a command.
    pub(super) fn tenths(self) -> u32 {
        match self {
            Self::Command => cost::COMMAND,
            Self::Mark => cost::MARK,
            Self::Request => cost::REQUEST,
            Self::Open { joins } => cost::OPEN + if joins { cost::COMMAND } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_allows_its_burst_and_then_its_pace() {
        let start = Instant::now();
        let mut rate = Rate::new(MessageRate { per_second: 10, burst: 3 }, start);
        assert!((0..3).all(|_| rate.take(start).is_ok()));
        assert_eq!(rate.take(start), Err(SECOND / 10));
        assert_eq!(rate.take(start + SECOND / 10), Ok(()));
        assert!(rate.take(start + SECOND / 10).is_err());
        assert!((0..3).all(|_| rate.take(start + SECOND * 60).is_ok()));
    }

    #[test]
    fn a_rate_of_a_minute_allows_all_of_it_at_once() {
        let start = Instant::now();
        let mut rate = Rate::per(SECOND * 60, 20, start);
        assert!((0..20).all(|_| rate.take(start).is_ok()));
        assert_eq!(rate.take(start), Err(SECOND * 3));
        assert_eq!(rate.take(start + SECOND * 3), Ok(()));
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let start = Instant::now();
        for mut rate in [Rate::in_tenths(None, start), Rate::per(SECOND, 0, start)] {
            assert!((0..10_000).all(|_| rate.take_units(11, start).is_ok()));
            assert!(rate.is_whole(start));
        }
    }

    #[test]
    fn units_cost_what_they_cost() {
        let start = Instant::now();
        let mut rate = Rate::in_tenths(Some(MessageRate { per_second: 10, burst: 2 }), start);
        assert!((0..10).all(|_| rate.take_units(Cost::Open { joins: false }.tenths(), start).is_ok()));
        assert_eq!(rate.take_units(Cost::Command.tenths(), start), Ok(()));
        assert_eq!(rate.take_units(Cost::Request.tenths(), start), Err(SECOND / 10));
        assert_eq!(rate.take_units(Cost::Open { joins: false }.tenths(), start), Err(SECOND / 100));
    }

    #[test]
    fn what_costs_more_than_a_burst_passes_when_nothing_is_owed() {
        let start = Instant::now();
        let mut rate = Rate::in_tenths(Some(MessageRate { per_second: 1, burst: 1 }), start);
        let join = Cost::Open { joins: true }.tenths();
        assert_eq!(rate.take_units(join, start), Ok(()));
        assert_eq!(rate.take_units(1, start), Err(SECOND / 5), "and is paid back");
        assert_eq!(rate.take_units(join, start + SECOND), Err(SECOND / 10));
        assert_eq!(rate.take_units(join, start + SECOND * 11 / 10), Ok(()));
    }

    #[test]
    fn what_is_owed_is_paid_before_anything_else() {
        let start = Instant::now();
        let mut rate = Rate::in_tenths(Some(MessageRate { per_second: 10, burst: 2 }), start);
        (0..5).for_each(|_| rate.owe(10, start));
        assert_eq!(rate.has(10, start), Err(SECOND * 4 / 10));
        assert_eq!(rate.has(10, start + SECOND * 4 / 10), Ok(()));
        assert!(!rate.is_whole(start + SECOND * 4 / 10) && rate.is_whole(start + SECOND / 2));
        rate.refund(20);
        assert!(rate.is_whole(start + SECOND * 3 / 10));
    }
}
