//! The wall clock, which comes from outside so that tests and the simulation can set it, and its jumps, which are held back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quip_core::Timestamp;

/// Reads the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The [`steady_clock`] of the operating system.
pub fn system_clock() -> Clock {
    let started = Instant::now();
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    steady_clock(wall, move || started.elapsed())
}

/// A clock that goes on evenly when the `wall` clock jumps by more than [`JUMP`], until that has shown its new time for
/// [`BELIEVED_AFTER`]. `uptime` is a monotonic clock. At the start the wall clock is believed.
///
/// Time in a conversation never goes back. One wrong reading would give all that follows its time, until that has come.
pub fn steady_clock(
    wall: impl Fn() -> Timestamp + Send + Sync + 'static,
    uptime: impl Fn() -> Duration + Send + Sync + 'static,
) -> Clock {
    let steady = Mutex::new(Steady::new(wall(), uptime()));
    Arc::new(move || {
        let (time, turn) = steady.lock().unwrap_or_else(PoisonError::into_inner).read(wall(), uptime());
        match turn {
            None => {}
            Some(Turn::HeldBack { ahead: true, by }) => tracing::warn!(
                "the system clock jumped ahead by {by:?}; the relay keeps its time until the clock has kept the new one for \
                 {BELIEVED_AFTER:?}; check the clock"
            ),
            Some(Turn::HeldBack { ahead: false, by }) => tracing::warn!(
                "the system clock jumped back by {by:?}; the relay keeps its time until the clock has kept the earlier one for \
                 {BELIEVED_AFTER:?}; check the clock"
            ),
            Some(Turn::Back) => tracing::warn!("the system clock is right again; the relay follows it"),
            Some(Turn::Believed) => tracing::warn!("the system clock has kept its new time; the relay follows it"),
        }
        time
    })
}

/// A larger difference to a monotonic clock is a jump.
pub const JUMP: Duration = Duration::from_secs(60);
/// How long a wall clock must keep the time that it jumped to.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(300);

/// Decides which time it is. Pure.
#[derive(Debug)]
struct Steady {
    /// The latest reading that was believed.
    believed: Reading,
    /// The first reading of another time, which the wall clock has kept since.
    other: Option<Reading>,
}

/// What a wall clock said when a monotonic clock said what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    wall: Timestamp,
    uptime: Duration,
}

/// What a log says of a wall clock.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It jumped, and is not believed.
    HeldBack { ahead: bool, by: Duration },
    /// It shows the time again that it would without the jump.
    Back,
    /// It kept the time that it jumped to.
    Believed,
}

impl Steady {
    fn new(wall: Timestamp, uptime: Duration) -> Self {
        Self { believed: Reading { wall, uptime }, other: None }
    }

    fn read(&mut self, wall: Timestamp, uptime: Duration) -> (Timestamp, Option<Turn>) {
        let now = Reading { wall, uptime };
        if now.agrees_with(self.believed) {
            self.believed = now;
            return (wall, self.other.take().map(|_| Turn::Back));
        }
        let expected = self.believed.later(uptime);
        match self.other {
            Some(other) if !now.agrees_with(other) => {
                self.other = Some(now);
                (expected, None)
            }
            Some(other) if uptime.saturating_sub(other.uptime) < BELIEVED_AFTER => (expected, None),
            Some(_) => {
                *self = Self { believed: now, other: None };
                (wall, Some(Turn::Believed))
            }
            None => {
                self.other = Some(now);
                let by = Duration::from_millis(wall.abs_diff(expected));
                (expected, Some(Turn::HeldBack { ahead: wall > expected, by }))
            }
        }
    }
}

impl Reading {
    /// The time at `uptime`, if the wall clock goes on evenly.
    fn later(self, uptime: Duration) -> Timestamp {
        self.wall.saturating_add(uptime.saturating_sub(self.uptime).as_millis() as u64)
    }

    fn agrees_with(self, earlier: Self) -> bool {
        self.wall.abs_diff(earlier.later(self.uptime)) <= JUMP.as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const START: Timestamp = 1_800_000_000_000;
    const DAYS: i64 = 24 * 3_600_000;

    /// A clock that is read at some seconds, with the wall clock off by some milliseconds. Gives how far the time is off.
    fn off(readings: &[(u64, i64)]) -> Vec<i64> {
        let mut steady = Steady::new(START.saturating_add_signed(readings[0].1), Duration::ZERO);
        let off = |(seconds, off): &(u64, i64)| {
            let right = START + seconds * 1000;
            let (time, _) = steady.read(right.saturating_add_signed(*off), Duration::from_secs(*seconds));
            time as i64 - right as i64
        };
        readings.iter().map(off).collect()
    }

    #[test]
    fn a_jump_that_does_not_last_changes_nothing() {
        for jump in [40 * DAYS, -40 * DAYS, 61_000, -61_000, -(START as i64)] {
            assert_eq!(off(&[(0, 0), (1, jump), (200, jump), (250, 0), (251, jump), (500, jump), (501, 0)]), [0; 7]);
        }
    }

    #[test]
    fn a_jump_that_lasts_is_believed() {
        for jump in [40 * DAYS, -40 * DAYS] {
            let found = off(&[(0, 0), (10, jump), (309, jump), (310, jump), (311, jump), (312, 0), (700, 0)]);
            assert_eq!(found, [0, 0, 0, jump, jump, jump, 0]);
        }
    }

    #[test]
    fn small_corrections_are_followed() {
        assert_eq!(
            off(&[(0, 0), (10, 500), (20, 60_000), (30, 110_000), (40, 51_000)]),
            [0, 500, 60_000, 110_000, 51_000]
        );
    }

    #[test]
    fn a_clock_that_wanders_is_believed_only_once_it_keeps_a_time() {
        let wandering: Vec<_> = (0..100).map(|step| (step * 10, (step as i64) * 100_000)).collect();
        assert_eq!(off(&wandering), [0; 100]);
        assert_eq!(
            off(&[(0, 0), (10, DAYS), (200, 2 * DAYS), (311, 2 * DAYS), (500, 2 * DAYS)]),
            [0, 0, 0, 0, 2 * DAYS]
        );
    }

    #[test]
    fn a_wrong_clock_at_the_start_is_believed_until_it_was_corrected_for_a_while() {
        assert_eq!(off(&[(0, DAYS), (10, 0), (400, 0)]), [DAYS, DAYS, 0]);
    }

    #[test]
    fn each_jump_is_said_once() {
        let mut steady = Steady::new(START, Duration::ZERO);
        let mut turn =
            |seconds: u64, off: u64| steady.read(START + seconds * 1000 + off, Duration::from_secs(seconds)).1;
        let hour = 3_600_000;
        assert_eq!(turn(0, 0), None);
        let by = Duration::from_secs(3600);
        assert_eq!(turn(1, hour), Some(Turn::HeldBack { ahead: true, by }));
        assert_eq!((turn(2, hour), turn(3, 2 * hour)), (None, None));
        assert_eq!((turn(4, 0), turn(5, 0)), (Some(Turn::Back), None));
        assert_eq!(turn(6, hour), Some(Turn::HeldBack { ahead: true, by }));
        assert_eq!((turn(306, hour), turn(307, hour)), (Some(Turn::Believed), None));
        assert_eq!(turn(308, 0), Some(Turn::HeldBack { ahead: false, by }));
    }

    #[test]
    fn a_steady_clock_reads_both_clocks() {
        let [wall, uptime] = [START, 0].map(|at| Arc::new(AtomicU64::new(at)));
        let (on_the_wall, up) = (wall.clone(), uptime.clone());
        let clock = steady_clock(
            move || on_the_wall.load(Ordering::Relaxed),
            move || Duration::from_millis(up.load(Ordering::Relaxed)),
        );
        wall.fetch_add(40 * DAYS as u64, Ordering::Relaxed);
        uptime.fetch_add(7, Ordering::Relaxed);
        assert_eq!(clock(), START + 7);
    }
}
