//! Latency histograms within a run, and medians with spread across runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Maximum recorded latency; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(120);
/// Significant digits of recorded values.
const DIGITS: u8 = 3;

/// Durations of a run, in nanoseconds with three digits.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let highest = LONGEST.as_nanos() as u64;
        Self(Histogram::new_with_bounds(1, highest, DIGITS).expect("the bounds are constants"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The given quantile (0.0 to 1.0) in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    pub(crate) fn max_micros(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// A metric over all runs: median and range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn spread_is_median_min_max() {
        let odd = Spread::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 10.0));
        let even = Spread::of([4.0, 1.0, 2.0, 8.0]).unwrap();
        assert_eq!(even.median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn quantiles_come_back_in_microseconds() {
        let mut latencies = Latencies::new();
        for micros in 1..=1000 {
            latencies.record(Duration::from_micros(micros));
        }
        assert_eq!(latencies.count(), 1000);
        assert!((latencies.micros(0.5) - 500.0).abs() < 1.0);
        assert!((latencies.micros(0.99) - 990.0).abs() < 2.0);
        assert!((latencies.max_micros() - 1000.0).abs() < 2.0);
    }

    #[test]
    fn a_latency_beyond_the_bound_is_kept_as_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(LONGEST * 2);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.max_micros() >= LONGEST.as_micros() as f64);
    }
}
