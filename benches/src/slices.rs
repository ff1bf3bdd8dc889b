//! Latency over time: the worst message of each tenth of a second, and how many were slow.

use std::time::{Duration, Instant};

/// Length of a slice; a message belongs to that of its intended send time.
pub(crate) const WIDTH: Duration = Duration::from_millis(100);
/// Latency above which a message counts as slow.
const SLOW: Duration = Duration::from_millis(10);

/// Slices from an origin on.
#[derive(Clone)]
pub(crate) struct Slices {
    origin: Instant,
    slices: Vec<Slice>,
}

/// The content of a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Slice {
    /// Intended send time of the slowest message, from the origin.
    pub(crate) due: Duration,
    /// Its latency.
    pub(crate) worst: Duration,
    pub(crate) messages: u64,
    /// Messages that took more than 10 ms.
    pub(crate) slow: u64,
}

impl Slices {
    /// Slices with capacity for this time; later ones are kept too.
    pub(crate) fn new(origin: Instant, length: Duration) -> Self {
        let count = length.as_nanos().div_ceil(WIDTH.as_nanos());
        Self { origin, slices: Vec::with_capacity(count as usize) }
    }

    pub(crate) fn record(&mut self, intended: Instant, latency: Duration) {
        let due = intended.saturating_duration_since(self.origin);
        let one = Slice { due, worst: latency, messages: 1, slow: u64::from(latency > SLOW) };
        self.slice(index(due)).add(&one);
    }

    /// Adds slices of the same origin.
    pub(crate) fn merge(&mut self, other: &Self) {
        assert_eq!(self.origin, other.origin, "slices of different times cannot be merged");
        for (index, slice) in other.slices.iter().enumerate() {
            self.slice(index).add(slice);
        }
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// The slices with messages, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter(|slice| slice.messages > 0)
    }

    /// The slice of a time from the origin.
    pub(crate) fn at(&self, time: Duration) -> Option<&Slice> {
        self.slices.get(index(time)).filter(|slice| slice.messages > 0)
    }

    fn slice(&mut self, index: usize) -> &mut Slice {
        if index >= self.slices.len() {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }
}

impl Slice {
    /// Arrival time of the slowest message, from the origin.
    pub(crate) fn until(&self) -> Duration {
        self.due + self.worst
    }

    fn add(&mut self, other: &Self) {
        if other.worst >= self.worst {
            (self.due, self.worst) = (other.due, other.worst);
        }
        self.messages += other.messages;
        self.slow += other.slow;
    }
}

fn index(time: Duration) -> usize {
    (time.as_nanos() / WIDTH.as_nanos()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_keeps_its_slowest_message() {
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let mut slices = Slices::new(origin, WIDTH);
        for (due, latency) in [(0, 2), (10, 30), (99, 11), (250, 1)] {
            slices.record(at(due), Duration::from_millis(latency));
        }
        let mut other = Slices::new(origin, WIDTH);
        other.record(at(260), Duration::from_millis(7));
        slices.merge(&other);
        let millis = Duration::from_millis;
        let expected = [
            Slice { due: millis(10), worst: millis(30), messages: 3, slow: 2 },
            Slice { due: millis(260), worst: millis(7), messages: 2, slow: 0 },
        ];
        assert!(slices.iter().eq(&expected), "{:?}", slices.slices);
        assert_eq!(expected[0].until(), millis(40));
        assert_eq!(
            [5, 199, 299, 900].map(|at| slices.at(millis(at)).map(|slice| slice.due)),
            [Some(millis(10)), None, Some(millis(260)), None]
        );
    }
}
