//! Checks that receivers got every message once and in order; and planted faults, which test the check.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use crate::report::Sample;

/// A fault that the harness plants, once, in the messages of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Plant {
    Loss,
    Duplicate,
    /// Two consecutive messages are swapped.
    Swap,
}

/// The fault to plant; taken by the first receiver of a second message.
static PLANTED: Mutex<Option<Plant>> = Mutex::new(None);
/// The message to lose, duplicate or swap; any but the first and the last.
const AT: u64 = 1;

/// Maximum gaps kept for a receiver, to tell late from lost. Messages in further gaps count as lost, and as duplicates if late.
const MOST_GAPS: usize = 256;

/// Plants a fault, for the first receiver of a second message.
pub(crate) fn plant(fault: Option<Plant>) {
    *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) = fault;
}

/// Stands between a receiver and its checker, and makes a planted fault. Passes on messages, or their numbers.
pub(crate) struct Tamper<T = u64> {
    seen: u64,
    held: Option<T>,
}

impl<T> Default for Tamper<T> {
    fn default() -> Self {
        Self { seen: 0, held: None }
    }
}

impl<T: Clone> Tamper<T> {
    /// The messages that the checker gets instead of `message`, in order.
    pub(crate) fn pass(&mut self, message: T) -> impl Iterator<Item = T> + use<T> {
        let fault = if self.seen == AT { PLANTED.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None };
        self.seen += 1;
        let (first, second) = match fault {
            None => (Some(message), self.held.take()),
            Some(Plant::Loss) => (None, None),
            Some(Plant::Duplicate) => (Some(message.clone()), Some(message)),
            Some(Plant::Swap) => {
                self.held = Some(message);
                (None, None)
            }
        };
        first.into_iter().chain(second)
    }
}

/// The messages that one receiver got, numbered without gaps.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    next: u64,
    /// Missing numbers.
    gaps: Vec<Range<u64>>,
    /// Number of missing messages in gaps that are not kept.
    forgotten: u64,
    duplicated: u64,
    reordered: u64,
}

/// How a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// For the first time, in order.
    InOrder,
    /// For the first time, after a later one.
    Late,
    /// Not for the first time.
    Duplicate,
}

/// Numbers of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Messages after a later one.
    pub(crate) reordered: u64,
}

impl Sequence {
    /// A sequence whose first message has this number.
    pub(crate) fn from(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Records a message.
    pub(crate) fn record(&mut self, number: u64) -> Seen {
        if number >= self.next {
            self.gap(self.next..number);
            self.next = number + 1;
            return Seen::InOrder;
        }
        match self.gaps.iter().position(|gap| gap.contains(&number)) {
            Some(place) => {
                let gap = self.gaps.swap_remove(place);
                self.gap(gap.start..number);
                self.gap(number + 1..gap.end);
                self.reordered += 1;
                Seen::Late
            }
            None => {
                self.duplicated += 1;
                Seen::Duplicate
            }
        }
    }

    /// Messages before `number` are not expected.
    pub(crate) fn skip_to(&mut self, number: u64) {
        self.next = self.next.max(number);
    }

    /// One more than the highest number so far.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether every message before `end` arrived.
    pub(crate) fn is_complete(&self, end: u64) -> bool {
        self.next >= end && self.gaps.is_empty() && self.forgotten == 0
    }

    /// The faults in the messages before `end`, if no more arrive.
    pub(crate) fn faults(&self, end: u64) -> Faults {
        let gaps: u64 = self.gaps.iter().map(|gap| gap.end - gap.start).sum();
        let lost = gaps + self.forgotten + end.saturating_sub(self.next);
        Faults { lost, duplicated: self.duplicated, reordered: self.reordered }
    }

    /// Records missing numbers.
    fn gap(&mut self, gap: Range<u64>) {
        if gap.is_empty() {
            return;
        }
        if self.gaps.len() < MOST_GAPS { self.gaps.push(gap) } else { self.forgotten += gap.end - gap.start }
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

    #[test]
    fn what_is_skipped_is_not_missed() {
        let mut sequence = Sequence::from(5);
        sequence.skip_to(8);
        sequence.skip_to(3);
        assert_eq!((sequence.record(8), sequence.record(7)), (Seen::InOrder, Seen::Duplicate));
        assert_eq!(sequence.faults(9), Faults { duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn beyond_the_gaps_that_are_kept_all_is_lost() {
        let mut sequence = Sequence::default();
        let gaps = MOST_GAPS as u64 + 2;
        (1..=gaps).for_each(|gap| _ = sequence.record(2 * gap));
        assert!((1..gaps).all(|gap| sequence.record(2 * gap) == Seen::Duplicate));
        assert_eq!((sequence.record(1), sequence.record(2 * gaps - 1)), (Seen::Late, Seen::Duplicate));
        assert_eq!(sequence.faults(2 * gaps + 1).lost, gaps);
        assert!(!sequence.is_complete(0));
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
