//! What one user may see of a conversation's events. Pure.

use std::{collections::VecDeque, ops::RangeInclusive};

use quip_core::{ConversationRecord, Interval, MemberRecord};

/// The events that a user may see and that are kept.
#[derive(Debug)]
pub(super) struct Sight {
    /// Oldest first, none empty, with events between them that are not for the user.
    intervals: Vec<Interval>,
    last: u64,
}

impl Sight {
    /// What the rows of a conversation and a membership say.
    pub(super) fn new(conversation: &ConversationRecord, member: &MemberRecord) -> Self {
        let mut intervals: Vec<Interval> = Vec::new();
        let kept = member.visible().map(|found| Interval { from: found.from.max(conversation.first_kept), ..found });
        for interval in kept.filter(|interval| interval.from <= interval.to) {
            match intervals.last_mut() {
                Some(before) if before.to + 1 == interval.from => before.to = interval.to,
                _ => intervals.push(interval),
            }
        }
        // The latest membership may have no event of its own.
        let last = intervals.last().map_or(member.to, |interval| interval.to).min(conversation.head);
        Self { intervals, last }
    }

    /// The first visible event; of a former member to whom nothing is left, the one behind the last.
    pub(super) fn first(&self) -> u64 {
        self.intervals.first().map_or(self.last + 1, |interval| interval.from)
    }

    /// The newest visible event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The first visible event from `seq` on. When there is none, `seq` itself, but not before the one behind the last.
    pub(super) fn from(&self, seq: u64) -> u64 {
        let found = self.intervals.iter().find(|interval| interval.to >= seq);
        found.map_or(self.last + 1, |interval| interval.from).max(seq)
    }

    /// The first of the last `count` visible events.
    pub(super) fn last_events(&self, count: u64) -> u64 {
        let (mut first, mut left) = (self.last + 1, count);
        for interval in self.intervals.iter().rev().filter(|interval| interval.from <= self.last) {
            if left == 0 {
                break;
            }
            let end = interval.to.min(self.last) + 1;
            first = interval.from.max(end.saturating_sub(left));
            left -= end - first;
        }
        first
    }

    /// The events behind `seq` that are not for the user, between those that are.
    pub(super) fn holes(&self, seq: u64) -> VecDeque<Interval> {
        let pairs = self.intervals.windows(2).filter(|pair| pair[1].from > seq + 1);
        pairs.map(|pair| Interval { from: pair[0].to.max(seq) + 1, to: pair[1].from - 1 }).collect()
    }

    /// The nearest visible events behind `seq`, up to a hole.
    pub(super) fn after(&self, seq: u64) -> Option<RangeInclusive<u64>> {
        let mut there = self.intervals.iter().filter(|interval| interval.from <= self.last);
        let found = there.find(|interval| interval.to.min(self.last) > seq)?;
        Some(found.from.max(seq + 1)..=found.to.min(self.last))
    }

    /// The nearest visible events before `seq`, down to a hole.
    pub(super) fn before(&self, seq: u64) -> Option<RangeInclusive<u64>> {
        let mut there = self.intervals.iter().rev().filter(|interval| interval.from <= self.last);
        let found = there.find(|interval| interval.from < seq)?;
        Some(found.from..=found.to.min(self.last).min(seq - 1))
    }
}

#[cfg(test)]
mod tests {
    use quip_core::{MemberState, Naming, Parting, Policy};

    use super::*;

    fn sight(first_kept: u64, head: u64, visible: &[(u64, u64)]) -> Sight {
        let conversation = ConversationRecord {
            created_at: 0,
            head,
            number: 0,
            first_kept,
            last_at: 0,
            members: 1,
            owners: 1,
            reverted: 0,
            policy: Policy::default(),
            naming: Naming::Group(String::new()),
            deleted: Vec::new(),
        };
        let intervals: Vec<_> = visible.iter().map(|(from, to)| Interval { from: *from, to: *to }).collect();
        let (latest, earlier) = intervals.split_last().unwrap();
        let (state, parting) = (MemberState::Member, Parting::default());
        let (from, to, earlier) = (latest.from, latest.to, earlier.to_vec());
        Sight::new(&conversation, &MemberRecord { state, role: 1, from, to, number: 0, at: 0, parting, earlier })
    }

    const ALWAYS: u64 = u64::MAX;

    #[test]
    fn one_who_was_out_twice_sees_three_intervals() {
        let sight = sight(1, 30, &[(2, 4), (8, 8), (20, ALWAYS)]);
        assert_eq!((sight.first(), sight.last()), (2, 30));
        let from: Vec<_> = [0, 2, 4, 5, 8, 9, 20, 31, 40].iter().map(|seq| sight.from(*seq)).collect();
        assert_eq!(from, [2, 2, 4, 8, 8, 20, 20, 31, 40]);
        let last: Vec<_> = [0, 1, 11, 12, 13, 14, 15, 99, ALWAYS].iter().map(|of| sight.last_events(*of)).collect();
        assert_eq!(last, [31, 30, 20, 8, 4, 3, 2, 2, 2]);
        let hole = |from, to| Interval { from, to };
        assert_eq!(sight.holes(1), [hole(5, 7), hole(9, 19)]);
        assert_eq!(sight.holes(4), [hole(5, 7), hole(9, 19)]);
        assert_eq!(sight.holes(7), [hole(9, 19)]);
        assert_eq!(sight.holes(12), [hole(13, 19)]);
        assert_eq!(sight.holes(19), []);
    }

    #[test]
    fn pages_end_at_a_hole_and_go_on_behind_it() {
        let sight = sight(1, 30, &[(2, 4), (8, 8), (20, ALWAYS)]);
        let after: Vec<_> = [0, 2, 4, 6, 8, 19, 29].iter().map(|seq| sight.after(*seq).unwrap()).collect();
        assert_eq!(after, [2..=4, 3..=4, 8..=8, 8..=8, 20..=30, 20..=30, 30..=30]);
        assert_eq!((sight.after(30), sight.after(ALWAYS)), (None, None));
        let before: Vec<_> = [ALWAYS, 31, 25, 20, 9, 8, 3].iter().map(|seq| sight.before(*seq).unwrap()).collect();
        assert_eq!(before, [20..=30, 20..=30, 20..=24, 8..=8, 8..=8, 2..=4, 2..=2]);
        assert_eq!(sight.before(2), None);
    }

    #[test]
    fn what_was_trimmed_is_nobodys() {
        let middle = sight(8, 30, &[(2, 4), (7, 9), (20, 25)]);
        assert_eq!((middle.first(), middle.last(), middle.after(0)), (8, 25, Some(8..=9)));
        let nothing = sight(28, 30, &[(2, 4), (20, 25)]);
        assert_eq!((nothing.first(), nothing.last()), (26, 25), "a former member does not learn how much was trimmed");
        assert_eq!((nothing.from(3), nothing.last_events(9), nothing.before(ALWAYS)), (26, 26, None));
    }

    #[test]
    fn one_who_has_just_come_sees_nothing_yet() {
        let sight = sight(1, 30, &[(2, 4), (31, ALWAYS)]);
        assert_eq!((sight.last_events(1), sight.before(ALWAYS), sight.after(4)), (4, Some(2..=4), None));
        assert_eq!(sight.holes(3), [Interval { from: 5, to: 30 }]);
    }

    #[test]
    fn a_last_membership_without_an_event_shows_nothing() {
        let sight = sight(1, 30, &[(2, 4), (9, 8)]);
        assert_eq!((sight.first(), sight.last(), sight.from(5)), (2, 4, 5));
        assert_eq!((sight.last_events(2), sight.after(4), sight.before(ALWAYS)), (3, None, Some(2..=4)));
    }

    #[test]
    fn memberships_without_an_event_between_them_leave_no_hole() {
        let sight = sight(1, 30, &[(2, 4), (5, ALWAYS)]);
        assert_eq!((sight.holes(0), sight.before(9)), (VecDeque::new(), Some(2..=8)));
    }
}
