//! "Every message once, in order", held against what receivers saw; and faults to plant, which show that it is.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::report::Sample;

/// A fault that the harness makes itself, once, in what a receiver got.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Plant {
    Loss,
    Duplicate,
    /// Two messages that follow each other change places.
    Swap,
}

/// The fault that is still to be made; the first receiver that gets so far takes it.
static PLANTED: Mutex<Option<Plant>> = Mutex::new(None);
/// The message that is lost, comes twice, or comes after the next; any but the first and the last.
const AT: u64 = 1;

/// From now on the first receiver of a second message gets it with this fault.
pub(crate) fn plant(fault: Option<Plant>) {
    *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) = fault;
}

/// Between one receiver and its checker: nothing, unless a fault was planted.
#[derive(Default)]
pub(crate) struct Tamper {
    seen: u64,
    held: Option<u64>,
}

impl Tamper {
    /// What the checker is told instead of `number`, in this order.
    pub(crate) fn pass(&mut self, number: u64) -> impl Iterator<Item = u64> + use<> {
        let fault = if self.seen == AT { PLANTED.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None };
        self.seen += 1;
        let (first, second) = match fault {
            None => (Some(number), self.held.take()),
            Some(Plant::Loss) => (None, None),
            Some(Plant::Duplicate) => (Some(number), Some(number)),
            Some(Plant::Swap) => {
                self.held = Some(number);
                (None, None)
            }
        };
        first.into_iter().chain(second)
    }
}

/// What one receiver saw of messages that are numbered from 0 without holes.
#[derive(Default)]
pub(crate) struct Sequence {
    next: u64,
    missing: BTreeSet<u64>,
    faults: Faults,
}

/// How often the promise was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
}

impl Sequence {
    /// Takes note of a message; false if it had come before.
    pub(crate) fn record(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.faults.reordered += 1;
        } else {
            self.faults.duplicated += 1;
            return false;
        }
        true
    }

    /// One more than the highest number so far.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether the first `total` messages are all there.
    pub(crate) fn is_complete(&self, total: u64) -> bool {
        self.next >= total && self.missing.is_empty()
    }

    /// The verdict, when nothing more comes, on a sequence of `total` messages.
    pub(crate) fn faults(&self, total: u64) -> Faults {
        let lost = self.missing.len() as u64 + total.saturating_sub(self.next);
        Faults { lost, ..self.faults }
    }
}

impl Faults {
    /// The metrics that make a report unsound, see [`crate::report::Report::is_sound`].
    pub(crate) const METRICS: [&'static str; 3] = ["lost", "duplicated", "reordered"];

    pub(crate) fn add_to(self, sample: &mut Sample) {
        for (metric, count) in Self::METRICS.into_iter().zip([self.lost, self.duplicated, self.reordered]) {
            sample.push(metric, count as f64);
        }
        sample.promised();
    }
}

impl std::iter::Sum for Faults {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            lost: sum.lost + one.lost,
            duplicated: sum.duplicated + one.duplicated,
            reordered: sum.reordered + one.reordered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(numbers: &[u64], total: u64) -> (u64, u64, u64) {
        let mut sequence = Sequence::default();
        for number in numbers {
            sequence.record(*number);
        }
        let Faults { lost, duplicated, reordered } = sequence.faults(total);
        assert_eq!(sequence.is_complete(total), lost == 0);
        (lost, duplicated, reordered)
    }

    #[test]
    fn every_fault_is_counted_once() {
        assert_eq!(faults_of(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(faults_of(&[0, 2, 3], 4), (1, 0, 0));
        assert_eq!(faults_of(&[0, 1], 4), (2, 0, 0));
        assert_eq!(faults_of(&[0, 1, 1, 2, 3], 4), (0, 1, 0));
        assert_eq!(faults_of(&[0, 2, 1, 3], 4), (0, 0, 1));
        assert_eq!(faults_of(&[3, 1, 1, 0], 4), (1, 1, 2));
        assert_eq!(faults_of(&[], 0), (0, 0, 0));
    }

    /// One test, since what is planted is the process's.
    #[test]
    fn a_planted_fault_is_made_once() {
        for (fault, expected) in [
            (None, vec![0, 1, 2, 3]),
            (Some(Plant::Loss), vec![0, 2, 3]),
            (Some(Plant::Duplicate), vec![0, 1, 1, 2, 3]),
            (Some(Plant::Swap), vec![0, 2, 1, 3]),
        ] {
            plant(fault);
            let (mut first, mut second) = (Tamper::default(), Tamper::default());
            let numbers: Vec<u64> = (0..4).flat_map(|number| first.pass(number)).collect();
            assert_eq!(numbers, expected, "{fault:?}");
            assert!((0..4).flat_map(|number| second.pass(number)).eq(0..4));
        }
    }
}
