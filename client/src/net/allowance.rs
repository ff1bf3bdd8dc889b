//! What one connection may send: bytes of unanswered commands, and how much a second.

use std::{pin::Pin, time::Duration};

use quip_protocol::cost;
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, sleep_until},
};

/// Shared by the conversations and the requests of a connection. Bytes and turns go to them in the order in which they ask.
pub(super) struct Allowance {
    /// Free bytes.
    bytes: Semaphore,
    /// Held by the one whose turn is next. It takes its turn only when the time has come, so that one that gives up has taken
    /// nothing.
    rate: Mutex<Rate>,
    /// Held by the request that waits among the conversations. All others wait behind it, not before a message.
    request: Mutex<()>,
}

/// A rate: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
pub(super) struct Rate {
    next: Instant,
    /// For a tenth of a command.
    each: Duration,
    burst: Duration,
}

impl Allowance {
    /// `rate` commands a second, or any number if that is 0, `burst` of them at once.
    pub(super) fn new(bytes: u64, rate: u64, burst: u64, now: Instant) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(LEAST, Semaphore::MAX_PERMITS);
        let rate = Mutex::new(Rate::new(rate, burst, now));
        Self { bytes: Semaphore::new(bytes), rate, request: Mutex::new(()) }
    }

    /// Waits for the turn of a message or an opening of this [`cost`], and takes it. Others wait behind it, so that it must be
    /// polled or dropped.
    pub(super) async fn turn(&self, cost: u32) {
        let mut rate = self.rate.lock().await;
        while let Err(at) = rate.take(cost, Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// The same for a request.
    pub(super) async fn turn_of_request(&self) {
        let _next = self.request.lock().await;
        self.turn(cost::REQUEST).await;
    }

    /// Takes a turn if it has come and nobody waits for one.
    fn try_turn(&self, cost: u32, now: Instant) -> bool {
        self.rate.try_lock().is_ok_and(|mut rate| rate.take(cost, now).is_ok())
    }
}

impl Rate {
    /// `rate` commands a second, or any number if that is 0, `burst` of them at once.
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let count = |commands: u64| u32::try_from(commands.saturating_mul(cost::COMMAND.into())).unwrap_or(u32::MAX);
        let each = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / count(rate) };
        // Packets arrive closer together than they were sent, and then a whole burst would be too much.
        Self { next: now, each, burst: each * count(burst - burst / 8) }
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// The time when it comes.
    pub(super) fn take(&mut self, cost: u32, now: Instant) -> Result<(), Instant> {
        let whole = self.each * cost;
        let next = self.next.max(now) + whole;
        // What costs more than the burst goes when nothing else is owed.
        match next.checked_sub(self.burst.max(whole)).filter(|at| *at > now) {
            Some(at) => Err(at),
            None => {
                self.next = next;
                Ok(())
            }
        }
    }
}

/// One stream's part of an allowance, given back when it is dropped.
pub(super) struct Share<'a> {
    allowance: &'a Allowance,
    /// What the next message waits for. It is kept until it comes, since another one would be last in the queue.
    waits: Option<Pin<Box<dyn Future<Output = Granted> + Send + 'a>>>,
    /// Whether the next message has its turn.
    turn: bool,
    /// Bytes for the next command.
    granted: usize,
    /// Bytes of unanswered commands.
    used: usize,
}

enum Granted {
    Turn,
    Bytes(usize),
}

impl<'a> Share<'a> {
    pub(super) fn new(allowance: &'a Allowance) -> Self {
        Self { allowance, waits: None, turn: false, granted: 0, used: 0 }
    }

    /// Whether a message of this [`cost`] may be sent, with this many bytes that are unanswered then. If not, [`Self::wait`]
    /// waits until it may.
    pub(super) fn permit(&mut self, cost: u32, size: usize, now: Instant) -> bool {
        if self.waits.is_some() {
            return false;
        }
        let allowance = self.allowance;
        self.turn = self.turn || allowance.try_turn(cost, now);
        if !self.turn {
            self.waits = Some(Box::pin(async move {
                allowance.turn(cost).await;
                Granted::Turn
            }));
            return false;
        }
        if self.granted < size {
            let more = size - self.granted;
            let Ok(permit) = allowance.bytes.try_acquire_many(permits(more)) else {
                self.waits = Some(Box::pin(async move {
                    // It is never closed.
                    if let Ok(permit) = allowance.bytes.acquire_many(permits(more)).await {
                        permit.forget();
                    }
                    Granted::Bytes(more)
                }));
                return false;
            };
            permit.forget();
            self.granted = size;
        }
        self.turn = false;
        self.granted -= size;
        self.used += size;
        true
    }

    /// Waits until what the next message waits for has come; for ever if it waits for nothing. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        let Some(waits) = &mut self.waits else { return std::future::pending().await };
        match waits.await {
            Granted::Turn => self.turn = true,
            Granted::Bytes(bytes) => self.granted += bytes,
        }
        self.waits = None;
    }

    /// This many bytes are unanswered now: the others are free.
    pub(super) fn unanswered(&mut self, bytes: usize) {
        let free = self.used.saturating_sub(bytes);
        if free > 0 {
            self.used -= free;
            self.allowance.bytes.add_permits(free);
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.allowance.bytes.add_permits(self.used + self.granted);
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The largest frame: a command must fit, whatever a relay says.
const LEAST: usize = quip_protocol::limit::FRAME;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn allowance(rate: u64, burst: u64) -> Allowance {
        Allowance::new(0, rate, burst, Instant::now())
    }

    /// How long the turns of these costs take, one after the other, in milliseconds from now.
    async fn turns(allowance: &Allowance, costs: impl IntoIterator<Item = u32>) -> Vec<u128> {
        let begun = Instant::now();
        let mut times = Vec::new();
        for cost in costs {
            allowance.turn(cost).await;
            times.push(begun.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn commands_have_turns_at_the_rate_after_a_burst() {
        let allowance = allowance(10, 8);
        assert_eq!(turns(&allowance, [cost::COMMAND; 9]).await, [0, 0, 0, 0, 0, 0, 0, 100, 200]);
        assert_eq!(turns(&allowance, [cost::OPEN, cost::OPEN, cost::REQUEST]).await, [10, 20, 120]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(turns(&allowance, [cost::COMMAND]).await, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn conversations_are_opened_at_once() {
        assert_eq!(turns(&allowance(50, 100), vec![cost::OPEN; 1000]).await[999], 240);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_every_turn_is_now() {
        assert_eq!(turns(&allowance(0, 0), vec![cost::COMMAND; 10_000]).await[9999], 0);
    }

    #[tokio::test]
    async fn a_large_message_keeps_its_place_in_the_queue() {
        let (allowance, now) = (allowance(0, 0), Instant::now());
        let [mut early, mut large, mut small] = [(); 3].map(|()| Share::new(&allowance));
        assert!(early.permit(cost::COMMAND, LEAST, now));
        assert!(!large.permit(cost::COMMAND, 1000, now) && large.wait().now_or_never().is_none());
        // Each looks again and again whether there is something else to do.
        for _ in 0..3 {
            assert!(!small.permit(cost::COMMAND, 10, now) && small.wait().now_or_never().is_none());
            assert!(!large.permit(cost::COMMAND, 1000, now) && large.wait().now_or_never().is_none());
        }
        early.unanswered(LEAST - 1000);
        assert!(small.wait().now_or_never().is_none(), "the large one came first");
        assert!(large.wait().now_or_never().is_some() && large.permit(cost::COMMAND, 1000, now));
        drop(early);
        assert!(small.wait().now_or_never().is_some() && small.permit(cost::COMMAND, 10, now));
        drop((large, small));
        assert_eq!(allowance.bytes.available_permits(), LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_up_leaves_its_place_to_the_next() {
        let allowance = allowance(10, 1);
        let mut share = Share::new(&allowance);
        assert!(share.permit(cost::COMMAND, 0, Instant::now()));
        let (begun, mut given_up) = (Instant::now(), Box::pin(allowance.turn_of_request()));
        assert!(given_up.as_mut().now_or_never().is_none());
        assert!(!share.permit(cost::COMMAND, 0, Instant::now()));
        assert!(share.wait().now_or_never().is_none());
        drop(given_up);
        share.wait().await;
        assert_eq!(begun.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_more_than_the_burst_has_its_turn_too() {
        for burst in [0, 1] {
            let openings = [cost::OPEN + cost::COMMAND; 3];
            assert_eq!(turns(&allowance(10, burst), openings).await, [0, 110, 220], "burst {burst}");
        }
    }
}
