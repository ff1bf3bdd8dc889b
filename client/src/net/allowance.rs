//! What one connection may send: bytes of unanswered commands, and how much a second.

use std::{sync::Mutex, time::Duration};

use quip_protocol::cost;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::Link;
use crate::{core::Permit, lock::lock};

/// Shared by the conversations of a connection.
pub(super) struct Allowance {
    /// Free bytes. Who waits for some is served first.
    bytes: Semaphore,
    rate: Mutex<Rate>,
}

/// A rate: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
struct Rate {
    next: Instant,
    /// For a tenth of a command.
    each: Duration,
    burst: Duration,
}

impl Allowance {
    /// `rate` commands a second, or any number if that is 0, `burst` of them at once.
    pub(super) fn new(bytes: u64, rate: u64, burst: u64, now: Instant) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(LEAST, Semaphore::MAX_PERMITS);
        let count = |commands: u64| u32::try_from(commands.saturating_mul(cost::COMMAND.into())).unwrap_or(u32::MAX);
        let each = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / count(rate) };
        // Packets arrive closer together than they were sent, and then a whole burst would be too much.
        let burst = each * count(burst - burst / 8);
        Self { bytes: Semaphore::new(bytes), rate: Mutex::new(Rate { next: now, each, burst }) }
    }

    /// Takes the turn of something that costs so much (see [`cost`]): it may be sent at this time.
    pub(super) fn reserve(&self, cost: u32, now: Instant) -> Instant {
        let mut rate = lock(&self.rate);
        rate.next = rate.next.max(now) + rate.each * cost;
        rate.next.checked_sub(rate.burst).map_or(now, |at| at.max(now))
    }
}

/// One stream's part of an allowance, given back when it is dropped.
pub(super) struct Share<'a> {
    link: &'a Link,
    /// When the next command may be sent.
    turn: Option<Instant>,
    /// Bytes that the next command waits for.
    wanted: Option<usize>,
    /// Bytes for the next command.
    granted: usize,
    /// Bytes of unanswered commands.
    used: usize,
}

impl<'a> Share<'a> {
    pub(super) fn new(link: &'a Link) -> Self {
        Self { link, turn: None, wanted: None, granted: 0, used: 0 }
    }

    /// Whether a command of this size may be sent.
    pub(super) fn permit(&mut self, size: usize, now: Instant) -> Permit {
        let turn = *self.turn.get_or_insert_with(|| self.link.allowance.reserve(cost::COMMAND, now));
        if turn > now {
            return Permit::At(turn);
        }
        if self.granted < size {
            let more = size - self.granted;
            match self.link.allowance.bytes.try_acquire_many(permits(more)) {
                Ok(permit) => self.granted(permit, more),
                Err(_) => {
                    self.wanted = Some(more);
                    return Permit::Later;
                }
            }
        }
        (self.turn, self.wanted) = (None, None);
        self.granted -= size;
        self.used += size;
        Permit::Now
    }

    /// Waits until the bytes that a command waits for are free; for ever if none does.
    pub(super) async fn wait(&mut self) {
        let Some(more) = self.wanted else { return std::future::pending().await };
        // It is never closed.
        if let Ok(permit) = self.link.allowance.bytes.acquire_many(permits(more)).await {
            self.wanted = None;
            self.granted(permit, more);
        }
    }

    /// This many bytes are unanswered now: the others are free.
    pub(super) fn unanswered(&mut self, bytes: usize) {
        let free = self.used.saturating_sub(bytes);
        if free > 0 {
            self.used -= free;
            self.link.allowance.bytes.add_permits(free);
        }
    }

    fn granted(&mut self, permit: SemaphorePermit<'_>, bytes: usize) {
        permit.forget();
        self.granted += bytes;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.link.allowance.bytes.add_permits(self.used + self.granted);
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The largest frame: a command must fit, whatever a relay says.
const LEAST: usize = quip_protocol::limit::FRAME;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_turns_at_the_rate_after_a_burst() {
        let start = Instant::now();
        let allowance = Allowance::new(0, 10, 8, start);
        let turn = |cost| allowance.reserve(cost, start).duration_since(start).as_millis();
        let turns: Vec<_> = (0..9).map(|_| turn(cost::COMMAND)).collect();
        assert_eq!(turns, [0, 0, 0, 0, 0, 0, 0, 100, 200]);
        assert_eq!([cost::OPEN, cost::OPEN, cost::REQUEST].map(turn), [210, 220, 320]);
        let later = start + Duration::from_secs(60);
        assert_eq!(allowance.reserve(cost::COMMAND, later), later);
    }

    #[test]
    fn conversations_are_opened_at_once() {
        let start = Instant::now();
        let allowance = Allowance::new(0, 50, 100, start);
        let last = (0..1000).map(|_| allowance.reserve(cost::OPEN, start)).max();
        assert_eq!(last, Some(start + Duration::from_millis(240)));
    }

    #[test]
    fn without_a_rate_every_turn_is_now() {
        let start = Instant::now();
        let allowance = Allowance::new(0, 0, 0, start);
        assert!((0..10_000).all(|_| allowance.reserve(cost::COMMAND, start) == start));
    }
}
