//! The report of a run.

use std::fmt;

use serde::Serialize;

use super::check::Verdict;
use crate::stats::Latencies;

/// The result of a run. Fields that end in `_us` are in microseconds, those in `_s` in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Connections; a reconnect is not counted.
    pub(crate) connections: u64,
    /// Lines handed to the library.
    pub(crate) sent: u64,
    /// Accepted lines.
    pub(crate) accepted: u64,
    /// What the checker found.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// From the due time of a line to its receipt by a member.
    pub(crate) latency_us: Percentiles,
    /// From the due time of a line to the call of the library.
    pub(crate) lag_us: Percentiles,
    /// Duration of all files.
    pub(crate) wall_s: f64,
    /// CPU time of this process: all clients, and the checker.
    pub(crate) cpu_s: f64,
    /// Files played.
    pub(crate) files: usize,
    /// Factor over real time.
    pub(crate) speed: f64,
    /// Users, including observers.
    pub(crate) users: usize,
    /// Members that stay for the whole run.
    pub(crate) observers: u16,
    /// Maximum members at once.
    pub(crate) members_max: u64,
    /// Stays of users in the room, from join to leave.
    pub(crate) memberships: usize,
    /// How often a client reopened the room after a disconnect.
    pub(crate) reopened: u64,
    /// Stored events of the run.
    pub(crate) stored: usize,
    /// Whether nothing is wrong.
    pub(crate) good: bool,
}

/// Percentiles in microseconds.
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let rate = verdict.delivered as f64 / self.wall_s.max(f64::MIN_POSITIVE);
        writeln!(f, "played      {} files at {} times real time in {:.1} s", self.files, self.speed, self.wall_s)?;
        writeln!(f, "clients     {} connections, at most {} members at once", self.connections, self.members_max)?;
        writeln!(f, "lines       {} sent, {} accepted", self.sent, self.accepted)?;
        writeln!(f, "deliveries  {} of {} ({rate:.0}/s)", verdict.delivered, verdict.expected)?;
        writeln!(f, "latency     {}", self.latency_us)?;
        writeln!(
            f,
            "wrong       {} lost, {} duplicated, {} reordered, {} altered, {} not accepted",
            verdict.lost, verdict.duplicated, verdict.reordered, verdict.altered, verdict.unaccepted
        )?;
        verdict.problems.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))?;
        f.write_str(if self.good {
            "verdict     good: every member received every event once, in order"
        } else {
            "verdict     BAD"
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
    fn the_keys_are_fixed() {
        let mut times = Latencies::new();
        (1..=1000).for_each(|time| times.record(Duration::from_micros(time)));
        let json = serde_json::to_value(Percentiles::of(&times)).unwrap();
        assert_eq!(json, serde_json::json!({"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000}));
    }
}
