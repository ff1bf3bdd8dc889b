//! The slowest moments, with the store's activity at that time. Pure.

use std::time::{Duration, Instant};

use super::watch::{Event, Kind};
use crate::slices::{Slice, Slices};

/// An activity that ended up to this long before a message was due still counts.
const BEFORE: Duration = Duration::from_millis(150);

/// The slowest messages of all slices, slowest first. Of overlapping ones only the slowest is listed, since one stall delays
/// many slices.
pub(super) fn slowest(slices: &Slices, most: usize) -> Vec<Slice> {
    let mut all: Vec<Slice> = slices.iter().copied().collect();
    all.sort_by_key(|slice| std::cmp::Reverse(slice.worst));
    let mut moments: Vec<Slice> = Vec::new();
    for slice in all {
        if moments.len() == most {
            break;
        }
        if moments.iter().all(|known| slice.until() < known.due || known.until() < slice.due) {
            moments.push(slice);
        }
    }
    moments
}

/// The time in which an activity could have delayed the slowest message of a slice.
pub(super) fn window(origin: Instant, slice: &Slice) -> (Instant, Instant) {
    let due = origin + slice.due;
    (due.checked_sub(BEFORE).unwrap_or(due), origin + slice.until())
}

/// The store's activities in a window.
pub(super) fn beside(window: (Instant, Instant), events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(move |event| event.from <= window.1 && event.to >= window.0)
}

/// As text.
pub(super) fn describe(window: (Instant, Instant), events: &[Event]) -> String {
    let mut words: Vec<String> = beside(window, events).map(|event| event.describe(window)).collect();
    words.dedup();
    if words.is_empty() { NOTHING.to_owned() } else { words.join(", ") }
}

impl Event {
    fn describe(&self, window: (Instant, Instant)) -> String {
        let stage = match (self.from >= window.0, self.to <= window.1) {
            (_, true) => "ended",
            (true, false) => "began",
            (false, false) => "under way",
        };
        let Self { keyspace, bytes, .. } = self;
        let size = *bytes as f64 / 1e6;
        match self.kind {
            Kind::Rotation => "journal rotated".to_owned(),
            Kind::Move => format!("tables of {keyspace} moved"),
            Kind::Flush => format!("flush of {keyspace} ({size:.1} MB) {stage}"),
            Kind::Compaction => format!("compaction of {keyspace} ({size:.1} MB) {stage}"),
        }
    }
}

/// Statistics of the slices with an activity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub(super) slices: u64,
    /// Messages that took more than 10 ms.
    pub(super) slow: u64,
    pub(super) worst: Duration,
}

/// All slices with this activity of the store, or with none.
pub(super) fn group(slices: &Slices, events: &[Event], kind: Option<Kind>) -> Group {
    let mut group = Group::default();
    for slice in slices.iter() {
        let mut found = beside(window(slices.origin(), slice), events).peekable();
        let belongs = match kind {
            Some(kind) => found.any(|event| event.kind == kind),
            None => found.peek().is_none(),
        };
        if belongs {
            group.slices += 1;
            group.slow += slice.slow;
            group.worst = group.worst.max(slice.worst);
        }
    }
    group
}

/// The text for a window without activity.
pub(super) const NOTHING: &str = "nothing in the store";

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn slices(origin: Instant, messages: &[(u64, u64)]) -> Slices {
        let mut slices = Slices::new(origin, millis(1000));
        messages.iter().for_each(|(due, took)| slices.record(origin + millis(*due), millis(*took)));
        slices
    }

    fn event(kind: Kind, origin: Instant, from: u64, to: u64) -> Event {
        let keyspace = "events".to_owned();
        Event { kind, keyspace, from: origin + millis(from), to: origin + millis(to), bytes: 2_500_000 }
    }

    #[test]
    fn one_stall_is_one_moment() {
        let origin = Instant::now();
        let slices = slices(origin, &[(0, 1), (150, 300), (250, 200), (350, 100), (500, 20), (900, 40)]);
        let found: Vec<u64> = slowest(&slices, 3).iter().map(|slice| slice.due.as_millis() as u64).collect();
        assert_eq!(found, [150, 900, 500]);
    }

    #[test]
    fn what_overlaps_the_window_stands_beside_it() {
        let origin = Instant::now();
        let slices = slices(origin, &[(1000, 50)]);
        let Some(slice) = slices.iter().next() else { panic!("no slice") };
        let of = |kind, from, to| describe(window(origin, slice), &[event(kind, origin, from, to)]);
        assert_eq!(of(Kind::Rotation, 849, 849), NOTHING);
        assert_eq!(of(Kind::Rotation, 850, 850), "journal rotated");
        assert_eq!(of(Kind::Rotation, 1051, 1051), NOTHING);
        assert_eq!(of(Kind::Flush, 100, 900), "flush of events (2.5 MB) ended");
        assert_eq!(of(Kind::Flush, 1010, 1900), "flush of events (2.5 MB) began");
        assert_eq!(of(Kind::Compaction, 100, 1900), "compaction of events (2.5 MB) under way");
        assert_eq!(of(Kind::Move, 1000, 1000), "tables of events moved");
    }

    #[test]
    fn slices_are_grouped_by_what_was_beside_them() {
        let origin = Instant::now();
        let slices = slices(origin, &[(0, 1), (500, 20), (1000, 30), (2000, 12)]);
        let events = [event(Kind::Flush, origin, 400, 1010), event(Kind::Rotation, origin, 1000, 1000)];
        let of = |kind| group(&slices, &events, kind);
        assert_eq!(of(Some(Kind::Flush)), Group { slices: 2, slow: 2, worst: millis(30) });
        assert_eq!(of(Some(Kind::Rotation)), Group { slices: 1, slow: 1, worst: millis(30) });
        assert_eq!(of(Some(Kind::Compaction)), Group::default());
        assert_eq!(of(None), Group { slices: 2, slow: 1, worst: millis(12) });
    }
}
