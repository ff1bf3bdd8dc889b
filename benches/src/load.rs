//! Open-loop load: intended send times, and what was received.

use std::{
    future::poll_fn,
    os::fd::OwnedFd,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::{
    check::{Faults, Seen, Sequence, Tamper},
    framing::Framing,
    report::{Report, Sample},
    slices::Slices,
    stats::Latencies,
};

/// Bytes of text in every message.
pub(crate) const PAYLOAD: usize = 32;
/// Between connecting and the first message.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);
/// How long after the last send to wait for messages.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait for messages after the last one arrived; streams keep their order, so none should follow.
const LATE: Duration = Duration::from_millis(500);
/// Lag of the generator at p99 above which it counts as the limit.
const LAG_LIMIT: Duration = Duration::from_millis(1);
/// Share of the offered rate that must be achieved.
const ACHIEVED_LIMIT: f64 = 0.99;
/// Messages sent in a row when late, before yielding to the connection's task.
const BURST: u32 = 32;

/// Rate and length of an open-loop run.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages per second, all senders together.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
}

impl Pace {
    /// Messages of all senders, including the warmup.
    pub(crate) fn messages(&self) -> u64 {
        let count = |seconds: f64| (seconds * self.rate).round() as u64;
        count(self.warmup) + count(self.seconds)
    }

    pub(crate) fn describe(&self, report: &mut Report) {
        report.setting("rate", self.rate);
        report.setting("seconds", self.seconds);
        report.setting("payload_bytes", PAYLOAD);
    }
}

/// The due time of each message of a load, from number 0 on.
pub(crate) trait Schedule {
    /// All messages, including the warmup.
    fn total(&self) -> u64;
    fn intended(&self, number: u64) -> Instant;
    fn is_measured(&self, number: u64) -> bool;
    fn measured_from(&self) -> Instant;
    fn end(&self) -> Instant;
}

/// The intended send times of one sender among `lanes`.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    start: Instant,
    gap: Duration,
    /// Messages of the warmup.
    warm: u64,
    total: u64,
}

impl Plan {
    /// Shares the rate evenly; lanes are staggered so that all together are evenly spaced.
    pub(crate) fn lane(pace: &Pace, start: Instant, lane: u32, lanes: u32) -> Self {
        let gap = Duration::from_secs_f64(f64::from(lanes) / pace.rate);
        let count = |seconds: f64| (seconds / gap.as_secs_f64()).round() as u64;
        Self {
            start: start + Duration::from_secs_f64(f64::from(lane) / pace.rate),
            gap,
            warm: count(pace.warmup),
            total: count(pace.warmup) + count(pace.seconds),
        }
    }

    pub(crate) fn intended(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(self.gap.as_nanos() as u64 * number)
    }

    /// Between two messages.
    pub(crate) fn gap(&self) -> Duration {
        self.gap
    }

    /// Measured messages.
    pub(crate) fn measured(&self) -> u64 {
        self.total - self.warm
    }

    pub(crate) fn measured_from(&self) -> Instant {
        self.intended(self.warm)
    }

    pub(crate) fn end(&self) -> Instant {
        self.intended(self.total)
    }
}

impl Schedule for Plan {
    fn total(&self) -> u64 {
        self.total
    }

    fn intended(&self, number: u64) -> Instant {
        self.intended(number)
    }

    fn is_measured(&self, number: u64) -> bool {
        number >= self.warm
    }

    fn measured_from(&self) -> Instant {
        self.measured_from()
    }

    fn end(&self) -> Instant {
        self.end()
    }
}

/// The timing of the sender.
pub(crate) struct Sent {
    /// Actual minus intended send time, without time spent waiting for the peer's credit.
    pub(crate) lag: Latencies,
    /// Messages whose write waited for the peer.
    pub(crate) blocked: u64,
    /// The written frames, if counted.
    pub(crate) framing: Framing,
}

/// A destination of messages. Not an async closure, whose future cannot be proven `Send`.
pub(crate) trait Outlet: Send {
    /// Sends a message; pending only while the peer gives no credit.
    fn send(&mut self, payload: [u8; PAYLOAD]) -> impl Future<Output = Result<()>> + Send;
}

/// Sends every message of a schedule at its intended time, never earlier.
pub(crate) async fn drive(plan: impl Schedule, outlet: &mut impl Outlet) -> Result<Sent> {
    let timer = Timer::new()?;
    let mut sent = Sent { lag: Latencies::new(), blocked: 0, framing: Framing::default() };
    // A delay caused by the peer counts in the latency, which runs from the intended time, and not in the generator's lag.
    let mut excused_until = plan.intended(0);
    let mut burst = 0;
    for number in 0..plan.total() {
        let intended = plan.intended(number);
        if Instant::now() < intended {
            timer.sleep_until(intended).await?;
            burst = 0;
        } else {
            burst += 1;
            if burst % BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
        if plan.is_measured(number) {
            sent.lag.record(Instant::now().saturating_duration_since(intended.max(excused_until)));
        }
        let mut waited = false;
        let mut sending = pin!(outlet.send(payload(number)));
        poll_fn(|context| {
            let state = sending.as_mut().poll(context);
            waited |= state.is_pending();
            state
        })
        .await?;
        if waited {
            sent.blocked += u64::from(plan.is_measured(number));
            excused_until = Instant::now();
        }
    }
    Ok(sent)
}

/// The messages of one receiver; checks that they arrive once and in order.
pub(crate) struct Received {
    pub(crate) latency: Latencies,
    /// The received frames, if counted.
    pub(crate) framing: Framing,
    tamper: Tamper,
    sequence: Sequence,
    last: Instant,
    /// Every message with its arrival time, if asked for.
    trace: Option<Vec<(u64, Instant)>>,
    /// Latency over time, if asked for.
    slices: Option<Slices>,
}

impl Received {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (tamper, sequence) = (Tamper::default(), Sequence::default());
        Self {
            latency: Latencies::new(),
            framing: Framing::default(),
            tamper,
            sequence,
            last: plan.start,
            trace: None,
            slices: None,
        }
    }

    /// As [`Received::new`], recording the arrival time of each message.
    pub(crate) fn traced(plan: &Plan) -> Self {
        Self { trace: Some(Vec::new()), ..Self::new(plan) }
    }

    /// As [`Received::new`], recording latency over time.
    pub(crate) fn sliced(plan: &Plan, slices: Slices) -> Self {
        Self { slices: Some(slices), ..Self::new(plan) }
    }

    /// Records a message that arrived now.
    pub(crate) fn record(&mut self, plan: &Plan, payload: &[u8]) -> Result<()> {
        for number in self.tamper.pass(number(payload)?) {
            self.record_number(plan, number)?;
        }
        Ok(())
    }

    /// Records message `number`, from 0, which arrived now.
    pub(crate) fn record_number(&mut self, plan: &Plan, number: u64) -> Result<()> {
        self.record_at(plan, number, Instant::now())
    }

    /// Records message `number`, from 0, which arrived at `now`.
    pub(crate) fn record_at(&mut self, plan: &Plan, number: u64, now: Instant) -> Result<()> {
        ensure!(number < plan.total, "message {number} arrived, but only {} were sent", plan.total);
        self.last = now;
        let is_new = self.sequence.record(number) != Seen::Duplicate;
        if is_new && number >= plan.warm {
            let intended = plan.intended(number);
            let latency = now.saturating_duration_since(intended);
            self.latency.record(latency);
            self.slices.iter_mut().for_each(|slices| slices.record(intended, latency));
        }
        self.trace.iter_mut().for_each(|trace| trace.push((number, now)));
        Ok(())
    }

    /// One more than the highest number so far.
    pub(crate) fn next(&self) -> u64 {
        self.sequence.next()
    }

    pub(crate) fn is_complete(&self, plan: &Plan) -> bool {
        self.sequence.is_complete(plan.total)
    }

    /// When missing messages count as lost.
    pub(crate) fn give_up_at(&self, plan: &Plan) -> Instant {
        let latest = plan.end() + DRAIN;
        if self.next() < plan.total { latest } else { latest.min(self.last + LATE) }
    }

    /// The faults, if no more messages arrive.
    pub(crate) fn faults(&self, plan: &Plan) -> Faults {
        self.sequence.faults(plan.total)
    }

    /// Every message with its arrival time, if recorded.
    pub(crate) fn trace(&self) -> &[(u64, Instant)] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Latency over time, if recorded.
    pub(crate) fn slices(&self) -> Option<&Slices> {
        self.slices.as_ref()
    }
}

/// Measured messages of all lanes.
pub(crate) fn measured(lanes: &[(Plan, Sent, Received)]) -> u64 {
    lanes.iter().map(|(plan, ..)| plan.measured()).sum()
}

/// The sample of an open-loop run.
pub(crate) fn summarise(pace: &Pace, lanes: &[(Plan, Sent, Received)]) -> Sample {
    let (mut latency, mut lag) = (Latencies::new(), Latencies::new());
    let mut blocked = 0;
    for (_, sent, received) in lanes {
        latency.merge(&received.latency);
        lag.merge(&sent.lag);
        blocked += sent.blocked;
    }
    let from = lanes.iter().map(|(plan, ..)| plan.measured_from()).min();
    let to = lanes.iter().map(|(.., received)| received.last).max();
    let span = from.zip(to).map_or(0.0, |(from, to)| (to - from).as_secs_f64());
    // A run that keeps up ends one interval after the due time of its last message.
    let achieved = latency.count() as f64 / span.max(pace.seconds);
    let faults = lanes.iter().map(|(plan, _, received)| received.faults(plan)).sum();
    Outcome { latency: &latency, lag: &lag, blocked, faults, offered: pace.rate, achieved }.sample()
}

/// The result of an open-loop run.
pub(crate) struct Outcome<'a> {
    pub(crate) latency: &'a Latencies,
    pub(crate) lag: &'a Latencies,
    pub(crate) blocked: u64,
    pub(crate) faults: Faults,
    /// Messages a second.
    pub(crate) offered: f64,
    pub(crate) achieved: f64,
}

impl Outcome<'_> {
    pub(crate) fn sample(&self) -> Sample {
        let Self { latency, lag, blocked, faults, offered, achieved } = *self;
        let mut sample = Sample::default();
        sample.push_latency(latency);
        sample.push("offered_per_s", offered);
        sample.push("achieved_per_s", achieved);
        faults.add_to(&mut sample);
        sample.push("blocked_writes", blocked as f64);
        sample.push("generator_lag_p50_us", lag.micros(0.5));
        sample.push("generator_lag_p99_us", lag.micros(0.99));
        if lag.micros(0.99) > LAG_LIMIT.as_micros() as f64 {
            sample.generator_was_limit(format!("it sent {:.0} µs late at p99", lag.micros(0.99)));
        }
        if faults.lost > 0 {
            sample.doubt(format!("{} messages had not arrived {DRAIN:?} after the last one was due", faults.lost));
        }
        if achieved < offered * ACHIEVED_LIMIT {
            sample.doubt(format!("{achieved:.0}/s achieved of {offered:.0}/s offered"));
        }
        sample
    }
}

/// The text of a message: its number, padded.
pub(crate) fn payload(number: u64) -> [u8; PAYLOAD] {
    let mut text = [b'.'; PAYLOAD];
    let digits = format!("{number:016x}");
    text[..digits.len()].copy_from_slice(digits.as_bytes());
    text
}

/// The number in the text of a message.
pub(crate) fn number(payload: &[u8]) -> Result<u64> {
    let digits = payload.get(..16).unwrap_or_default();
    Ok(u64::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}

/// A timer of the kernel: those of tokio have a resolution of 1 ms, which is a whole interval here.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(deprecated, reason = "an owned descriptor stays open while registered")]
    fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    async fn sleep_until(&self, at: Instant) -> Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
            if let Ok(read) = read {
                read?;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PACE: Pace = Pace { rate: 100.0, seconds: 0.5, warmup: 0.1 };

    #[test]
    fn lanes_share_the_rate_and_are_staggered() {
        let start = Instant::now();
        let second = Plan::lane(&PACE, start, 1, 2);
        assert_eq!(second.intended(0) - start, Duration::from_millis(10));
        assert_eq!(second.intended(1) - start, Duration::from_millis(30));
        assert_eq!((second.warm, second.total), (5, 30));
    }

    #[test]
    fn payloads_carry_their_number() {
        for value in [0, 1, u64::MAX] {
            assert_eq!(number(&payload(value)).unwrap(), value);
        }
        assert!(number(b"short").is_err());
    }

    #[test]
    fn repeated_and_missing_messages_are_counted_and_strange_ones_an_error() {
        let plan = Plan::lane(&PACE, Instant::now(), 0, 1);
        let mut received = Received::traced(&plan);
        for number in (0..plan.total).filter(|number| *number != 20).chain([30]) {
            received.record(&plan, &payload(number)).unwrap();
        }
        assert!(!received.is_complete(&plan));
        assert_eq!(received.faults(&plan), Faults { lost: 1, duplicated: 1, reordered: 0 });
        assert_eq!(received.latency.count(), plan.measured() - 1);
        assert_eq!(received.trace().len() as u64, plan.total);
        assert!(received.record(&plan, &payload(plan.total)).is_err());
    }

    /// Notes when each message left, and blocks at message 20 for the given time.
    struct Probe(Vec<Instant>, Duration);

    impl Outlet for Probe {
        async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
            assert_eq!(number(&payload)?, self.0.len() as u64);
            self.0.push(Instant::now());
            if self.0.len() == 20 && !self.1.is_zero() {
                tokio::time::sleep(self.1).await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn messages_leave_at_their_time_and_never_before() {
        let plan = Plan::lane(&PACE, Instant::now(), 0, 1);
        let mut probe = Probe(Vec::new(), Duration::ZERO);
        let sent = drive(plan, &mut probe).await.unwrap();
        assert_eq!((probe.0.len(), sent.lag.count(), sent.blocked), (60, 50, 0));
        let early = (0..).zip(&probe.0).find(|(number, left)| **left < plan.intended(*number));
        assert_eq!(early, None);
    }

    #[tokio::test]
    async fn waiting_for_the_peer_is_not_the_generators_lag() {
        let plan = Plan::lane(&PACE, Instant::now(), 0, 1);
        let blocked = Duration::from_millis(200);
        let sent = drive(plan, &mut Probe(Vec::new(), blocked)).await.unwrap();
        assert_eq!(sent.blocked, 1);
        assert!(sent.lag.max_micros() < blocked.as_micros() as f64 / 2.0);
    }
}
