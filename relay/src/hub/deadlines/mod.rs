//! What is due when: ticks, sweeps, and streams that something is to be done for later. Pure.

mod paced_scan;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::keys::{ConnectionKey, StreamKey};
use crate::config::Config;
use paced_scan::PacedScan;

/// Deadlines, and what waits for the next tick.
pub(super) struct Deadlines {
    next_tick: Instant,
    next_sweep: Instant,
    sweep_every: Duration,
    answer_timeout: Duration,
    /// Connections that are still to be looked at before the next sweep.
    unswept: PacedScan<ConnectionKey>,
    /// Streams whose cursor is ahead of this relay.
    ahead: Vec<StreamKey>,
    /// Streams that wait for outcomes, each once, and when they were last looked at.
    unanswered: VecDeque<(Instant, StreamKey)>,
}

/// What waited for a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    /// Streams whose cursor was ahead of this relay.
    pub(super) ahead: Vec<StreamKey>,
    /// A sweep begins: [`Deadlines::begin_sweep`].
    pub(super) sweep: bool,
}

/// Time between two ticks.
pub(super) const TICK: Duration = Duration::from_millis(100);

impl Deadlines {
    /// Nothing is due at `now`.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self {
            next_tick: now + TICK,
            next_sweep: now + config.presence.sweep,
            sweep_every: config.presence.sweep,
            answer_timeout: config.limits.answer_timeout,
            unswept: PacedScan::new(),
            ahead: Vec::new(),
            unanswered: VecDeque::new(),
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Instant {
        self.next_tick
    }

    /// What is due in the tick at `now`, if it is time for one.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Tick> {
        if now < self.next_tick {
            return None;
        }
        self.next_tick = now + TICK;
        let sweep = now >= self.next_sweep;
        if sweep {
            self.next_sweep = now + self.sweep_every;
        }
        Some(Tick { ahead: std::mem::take(&mut self.ahead), sweep })
    }

    /// A stream's cursor is ahead: look again in the next tick.
    pub(super) fn look_again(&mut self, stream: StreamKey) {
        self.ahead.push(stream);
    }

    /// All connections are to be looked at, some in each tick until the next sweep.
    pub(super) fn begin_sweep(&mut self, connections: impl Iterator<Item = ConnectionKey>) {
        let ticks = self.sweep_every.as_millis() / TICK.as_millis();
        self.unswept.begin(connections, ticks as usize);
    }

    /// The connections to look at in this tick.
    pub(super) fn swept(&mut self) -> Vec<ConnectionKey> {
        self.unswept.next()
    }

    /// A stream waits for an outcome from now on, until [`Deadlines::unanswered`] has given it.
    pub(super) fn await_answer(&mut self, stream: StreamKey, now: Instant) {
        self.unanswered.push_back((now, stream));
    }

    /// A stream that was not looked at for the timeout, and the time since when a command of it is overdue.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<(StreamKey, Instant)> {
        let since = now.checked_sub(self.answer_timeout)?;
        let (_, stream) = self.unanswered.pop_front_if(|(looked, _)| *looked <= since)?;
        Some((stream, since))
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn deadlines() -> (Deadlines, Instant, [StreamKey; 2]) {
        let now = Instant::now();
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        (Deadlines::new(&Config::development(None, None), now), now, [(); 2].map(|()| keys.insert(())))
    }

    #[test]
    fn what_waits_comes_once_with_the_next_tick() {
        let (mut deadlines, start, [stream, _]) = deadlines();
        deadlines.look_again(stream);
        assert_eq!(deadlines.tick(start + TICK / 2), None);
        assert_eq!(deadlines.next(), start + TICK);
        let tick = deadlines.tick(start + TICK);
        assert_eq!(tick, Some(Tick { ahead: vec![stream], sweep: false }));
        assert_eq!(deadlines.tick(start + TICK), None);
        assert_eq!(deadlines.tick(start + TICK * 2), Some(Tick::default()));
    }

    #[test]
    fn a_sweep_looks_at_every_connection_before_the_next_one() {
        let (mut deadlines, start, _) = deadlines();
        let mut keys = SlotMap::<ConnectionKey, ()>::with_key();
        let connections: Vec<_> = (0..55).map(|_| keys.insert(())).collect();
        let mut now = start + deadlines.sweep_every;
        assert!(deadlines.tick(now).is_some_and(|tick| tick.sweep));
        deadlines.begin_sweep(connections.iter().copied());
        let mut seen = deadlines.swept();
        loop {
            now += TICK;
            if deadlines.tick(now).is_some_and(|tick| tick.sweep) {
                break;
            }
            let some = deadlines.swept();
            assert!(some.len() <= 3, "{}", some.len());
            seen.extend(some);
        }
        seen.sort_unstable();
        assert_eq!(seen, connections);
    }

    #[test]
    fn a_stream_is_looked_at_once_its_answers_may_be_overdue() {
        let (mut deadlines, start, [a, b]) = deadlines();
        let timeout = deadlines.answer_timeout;
        deadlines.await_answer(a, start);
        deadlines.await_answer(b, start + TICK);
        assert_eq!(deadlines.unanswered(start + timeout - TICK), None);
        assert_eq!(deadlines.unanswered(start + timeout), Some((a, start)));
        assert_eq!(deadlines.unanswered(start + timeout), None);
        assert_eq!(deadlines.unanswered(start + timeout * 2), Some((b, start + timeout)));
    }
}
