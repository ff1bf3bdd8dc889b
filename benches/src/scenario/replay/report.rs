//! What a run comes to.

use std::fmt;

use serde::Serialize;

use super::check::Verdict;
use crate::stats::Latencies;

/// The result of a run. Times are in microseconds where the name says so, otherwise in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Connections that were made; one that was lost and came back counts once.
    pub(crate) connections: u64,
    /// Lines handed to the library.
    pub(crate) sent: u64,
    /// Lines that the relay accepted.
    pub(crate) accepted: u64,
    /// For each membership, the events from its join to its leave.
    pub(crate) expected: u64,
    /// Those that were delivered.
    pub(crate) delivered: u64,
    /// Deliveries and lines that are missing.
    pub(crate) lost: u64,
    /// Deliveries and lines that are there once too often.
    pub(crate) duplicated: u64,
    /// Deliveries and lines that come after a later one.
    pub(crate) reordered: u64,
    /// Deliveries and lines with other bytes than they should have.
    pub(crate) altered: u64,
    /// Lines that were not accepted.
    pub(crate) unaccepted: u64,
    /// From when a line was due to when a member had it.
    pub(crate) latency_us: Percentiles,
    /// From when a line was due to when it was handed to the library.
    pub(crate) lag_us: Percentiles,
    /// How long the files took.
    pub(crate) wall_s: f64,
    /// CPU time of this process, all clients and the checking together.
    pub(crate) cpu_s: f64,
    /// Files played.
    pub(crate) files: usize,
    /// How many times faster than it happened.
    pub(crate) speed: f64,
    /// Users, observers among them.
    pub(crate) users: usize,
    /// Members that were there for the whole run.
    pub(crate) observers: u16,
    /// The most members at once.
    pub(crate) members_max: u64,
    /// Times that someone was in the room, from a join to a leave.
    pub(crate) memberships: usize,
    /// Times that a room was open again after a lost connection.
    pub(crate) reopened: u64,
    /// Events of the run in the store.
    pub(crate) stored: usize,
    /// Whether nothing is wrong.
    pub(crate) good: bool,
    /// The first few problems, for people.
    pub(crate) problems: Vec<String>,
}

/// How times are distributed, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Percentiles {
    pub(crate) fn of(times: &Latencies) -> Self {
        let at = |quantile| times.micros(quantile).round() as u64;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: times.max_micros().round() as u64 }
    }
}

impl Report {
    /// Takes over the verdict.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        self.good = verdict.is_good();
        let Verdict { expected, delivered, lost, duplicated, reordered, altered, unaccepted, problems } = verdict;
        (self.expected, self.delivered, self.lost) = (expected, delivered, lost);
        (self.duplicated, self.reordered, self.altered) = (duplicated, reordered, altered);
        (self.unaccepted, self.problems) = (unaccepted, problems);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.delivered as f64 / self.wall_s.max(f64::MIN_POSITIVE);
        writeln!(f, "played      {} files at {} times their speed in {:.1} s", self.files, self.speed, self.wall_s)?;
        writeln!(f, "clients     {} connections, at most {} members at once", self.connections, self.members_max)?;
        writeln!(f, "lines       {} sent, {} accepted", self.sent, self.accepted)?;
        writeln!(f, "deliveries  {} of {} ({rate:.0}/s)", self.delivered, self.expected)?;
        writeln!(f, "latency     {}", self.latency_us)?;
        writeln!(
            f,
            "wrong       {} lost, {} duplicated, {} reordered, {} altered, {} not accepted",
            self.lost, self.duplicated, self.reordered, self.altered, self.unaccepted
        )?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))?;
        f.write_str(if self.good {
            "verdict     every event came to every member once, in order"
        } else {
            "verdict     NOT GOOD"
        })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, max] = [self.p50, self.p99, self.p999, self.max].map(|time| time as f64 / 1_000.0);
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn the_keys_are_those_that_others_read() {
        let mut times = Latencies::new();
        (1..=1000).for_each(|time| times.record(Duration::from_micros(time)));
        let json = serde_json::to_value(Percentiles::of(&times)).unwrap();
        assert_eq!(json, serde_json::json!({"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000}));
    }
}
