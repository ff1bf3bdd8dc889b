//! Closed-loop load: each sender keeps a window of unanswered messages, to find the maximum throughput of a server. Its
//! latencies hide stalls by construction and are reported as such.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quinn::Connection;
use tokio::time::sleep_until;

use crate::{
    check::Tamper,
    meter::Usage,
    report::{Report, Sample},
    stats::Latencies,
};

/// Senders, window and duration.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Load {
    /// Senders, each on its own connection.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) senders: u32,
    /// Unanswered messages of each sender.
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
}

impl Load {
    pub(crate) fn span(&self, start: Instant) -> Span {
        let from = start + Duration::from_secs_f64(self.warmup);
        Span { from, to: from + Duration::from_secs_f64(self.seconds) }
    }

    pub(crate) fn describe(&self, report: &mut Report) {
        report.setting("senders", self.senders);
        report.setting("window", self.window);
        report.setting("seconds", self.seconds);
        report.setting("payload_bytes", crate::load::PAYLOAD);
        report.note("closed loop: ack_* times hide stalls; read them as the window's turnaround");
    }
}

/// The measured part of a run.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// The messages of one sender: those unanswered, and the number answered within the span.
pub(crate) struct Tally {
    span: Span,
    sent: u64,
    under_way: VecDeque<Instant>,
    turnaround: Latencies,
    /// The first unanswered message that was refused for now, and the number of refusals.
    refused: Option<(u64, usize)>,
    refusals: u64,
    tamper: Tamper,
}

impl Tally {
    pub(crate) fn new(span: Span) -> Self {
        let (under_way, turnaround) = (VecDeque::new(), Latencies::new());
        Self { span, sent: 0, under_way, turnaround, refused: None, refusals: 0, tamper: Tamper::default() }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.span.to
    }

    /// Whether the window has room; false while refused messages are pending.
    pub(crate) fn may_send(&self, window: usize) -> bool {
        self.refused.is_none() && self.under_way.len() < window
    }

    /// Records a message that is sent now; returns its number, from 1.
    pub(crate) fn send(&mut self) -> u64 {
        self.under_way.push_back(Instant::now());
        self.sent += 1;
        self.sent
    }

    /// Records the answer to message `number`. Answers come once and in order; anything else is an error.
    pub(crate) fn answered(&mut self, number: u64) -> Result<()> {
        self.tamper.pass(number).try_for_each(|number| self.count(number))
    }

    fn count(&mut self, number: u64) -> Result<()> {
        let due = self.sent - self.under_way.len() as u64 + 1;
        ensure!(number == due, "expected the answer to message {due}, got number {number}");
        let sent_at = self.under_way.pop_front().context("unexpected answer")?;
        let now = Instant::now();
        if now >= self.span.from && now < self.span.to {
            self.turnaround.record(now - sent_at);
        }
        Ok(())
    }

    /// Records a refusal of message `number`, which may be resent.
    pub(crate) fn refused(&mut self, number: u64) {
        let (first, count) = self.refused.unwrap_or((number, 0));
        self.refused = Some((first.min(number), count + 1));
        self.refusals += 1;
    }

    /// Goes back to the first refused message once all others are answered; returns whether it did.
    pub(crate) fn rewind(&mut self) -> bool {
        match self.refused {
            Some((first, count)) if count == self.under_way.len() => {
                self.under_way.clear();
                self.sent = first - 1;
                self.refused = None;
                true
            }
            _ => false,
        }
    }
}

/// UDP datagrams of all clients within a span.
pub(crate) struct Datagrams {
    sent: u64,
    received: u64,
}

impl Datagrams {
    pub(crate) async fn between(span: &Span, connections: &[Connection]) -> Self {
        let count = || {
            let stats = connections.iter().map(Connection::stats);
            stats.fold((0, 0), |(sent, received), stats| {
                (sent + stats.udp_tx.datagrams, received + stats.udp_rx.datagrams)
            })
        };
        sleep_until(span.from.into()).await;
        let before = count();
        sleep_until(span.to.into()).await;
        let after = count();
        Self { sent: after.0 - before.0, received: after.1 - before.1 }
    }
}

/// The sample of a closed-loop run.
pub(crate) fn summarise(span: &Span, tallies: &[Tally], usage: &Usage, datagrams: &Datagrams) -> Sample {
    let mut turnaround = Latencies::new();
    for tally in tallies {
        turnaround.merge(&tally.turnaround);
    }
    let accepted = turnaround.count();
    let per = |datagrams: u64| accepted as f64 / datagrams.max(1) as f64;
    let mut sample = Sample::default();
    sample.push("accepted_per_s", accepted as f64 / (span.to - span.from).as_secs_f64());
    sample.push("refusals", tallies.iter().map(|tally| tally.refusals).sum::<u64>() as f64);
    sample.push("messages_per_datagram_to_server", per(datagrams.sent));
    sample.push("answers_per_datagram_to_client", per(datagrams.received));
    sample.push("ack_p50_us", turnaround.micros(0.5));
    sample.push("ack_p99_us", turnaround.micros(0.99));
    sample.push("ack_max_us", turnaround.max_micros());
    usage.add_to(&mut sample, accepted);
    sample
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn answers_outside_the_span_are_not_counted() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut early = Tally::new(Span { from: now + hour, to: now + 2 * hour });
        let mut within = Tally::new(Span { from: now, to: now + hour });
        for tally in [&mut early, &mut within] {
            assert_eq!((tally.send(), tally.send()), (1, 2));
            tally.answered(1).unwrap();
            assert!(tally.may_send(2) && !tally.may_send(1));
        }
        assert_eq!((early.turnaround.count(), within.turnaround.count()), (0, 1));
    }

    #[test]
    fn a_repeated_or_missing_answer_is_an_error() {
        let now = Instant::now();
        let mut tally = Tally::new(Span { from: now, to: now });
        assert!(tally.answered(1).is_err());
        tally.send();
        tally.send();
        assert!(tally.answered(2).is_err());
        tally.answered(1).unwrap();
        assert!(tally.answered(1).is_err());
    }

    #[test]
    fn what_is_refused_is_sent_again_after_the_rest_is_answered() {
        let now = Instant::now();
        let mut tally = Tally::new(Span { from: now, to: now });
        for _ in 0..4 {
            tally.send();
        }
        tally.refused(4);
        tally.refused(3);
        assert!(!tally.may_send(64) && !tally.rewind());
        tally.answered(1).unwrap();
        tally.answered(2).unwrap();
        assert!(tally.rewind());
        assert_eq!((tally.send(), tally.refusals), (3, 2));
        tally.answered(3).unwrap();
    }
}
