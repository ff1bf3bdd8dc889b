//! What a link did.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Maximum recorded lateness; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(10);

/// What happened to the packets of one direction.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Packets that arrived at the link.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets that were handed to the other side; duplicates count.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost by chance while the link was bad.
    pub lost_in_burst: u64,
    /// Dropped because the bottleneck's queue was full.
    pub queue_full: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Held back, so that later ones could overtake.
    pub held_back: u64,
    /// Dropped because more than [`UNDER_WAY`](crate::UNDER_WAY) would have been under way. Nobody asked
    /// for that: the figures of such a run say less than they seem to.
    pub too_many_under_way: u64,
    /// Dropped by a kernel before or behind the link. Nobody asked for that either.
    pub kernel_dropped: u64,
    /// How much later than due packets were handed over.
    pub lateness: Lateness,
}

/// Times between when packets were due and when they were delivered.
#[derive(Clone, Debug)]
pub struct Lateness(Histogram<u64>);

impl Default for Lateness {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 2).expect("the bounds are constants"))
    }
}

impl Lateness {
    pub(crate) fn record(&mut self, late: Duration) {
        self.0.saturating_record(late.as_nanos() as u64);
    }

    /// The given quantile, from 0 to 1.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}
