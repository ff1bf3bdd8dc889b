//! One membership: which events it must receive, and which it did.

use quip_client::{OwnedEvent, UserId, kind};

/// A membership, from a join to the leave.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Whose.
    pub(crate) user: UserId,
    /// When the conversation was open, in microseconds from the start of the run: earlier lines say nothing about latency.
    pub(crate) opened: u64,
    /// Everything after this seq was asked for. It is from before the join.
    pub(crate) after: u64,
    /// The first event that counts: the join itself, as soon as it is seen.
    pub(crate) from: u64,
    /// Distinct events since then.
    pub(crate) got: u64,
    /// The seq that must come next.
    pub(crate) next: u64,
    /// Where the leaving stands, once it is accepted; 0 = rooms here do not show it.
    pub(crate) left: Option<u64>,
    /// Events that came twice.
    pub(crate) duplicated: u64,
    /// Events that came after a later one.
    pub(crate) reordered: u64,
    /// What the relay left out with a word, before the first event.
    pub(crate) skipped: Option<u64>,
    /// What should never happen, said once.
    pub(crate) problem: Option<String>,
    /// Gaps: seqs that were passed over, first and last.
    gaps: Vec<(u64, u64)>,
    /// Passed over, in gaps that are no longer kept.
    forgotten: u64,
}

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// For the first time, and after all before it.
    New,
    /// For the first time, after a later one.
    Late,
    /// Once more.
    Again,
}

impl Follower {
    /// A membership that must receive everything after `after`.
    pub(crate) fn new(user: UserId, after: u64, opened: u64) -> Self {
        Self {
            user,
            opened,
            after,
            from: after + 1,
            got: 0,
            next: after + 1,
            left: None,
            duplicated: 0,
            reordered: 0,
            skipped: None,
            problem: None,
            gaps: Vec::new(),
            forgotten: 0,
        }
    }

    /// An event came.
    pub(crate) fn arrive(&mut self, event: &OwnedEvent) -> Arrival {
        let arrival = self.order(event.seq);
        match arrival {
            Arrival::New => self.got += 1,
            Arrival::Late => (self.got, self.reordered) = (self.got + 1, self.reordered + 1),
            Arrival::Again => self.duplicated += 1,
        }
        let joined = event.kind == kind::JOINED && event.user == self.user;
        if joined && arrival == Arrival::New {
            (self.from, self.got) = (event.seq, 1);
        }
        arrival
    }

    /// The relay said that nothing up to `to` comes.
    pub(crate) fn skip(&mut self, to: u64) {
        if self.got > 0 || self.skipped.is_some() {
            self.trouble(format!("events up to {to} were skipped in the middle of a membership"));
        } else {
            self.skipped = Some(to);
            (self.from, self.next) = (to + 1, (to + 1).max(self.next));
        }
    }

    /// Something that should never happen; the first is kept.
    pub(crate) fn trouble(&mut self, what: String) {
        self.problem.get_or_insert(what);
    }

    /// Events up to `last` that never came.
    pub(crate) fn lost(&self, last: u64) -> u64 {
        let gaps: u64 = self.gaps.iter().map(|(first, last)| last - first + 1).sum();
        gaps + self.forgotten + (last + 1).saturating_sub(self.next)
    }

    fn order(&mut self, seq: u64) -> Arrival {
        if seq >= self.next {
            if seq > self.next {
                self.gap(self.next, seq - 1);
            }
            self.next = seq + 1;
            return Arrival::New;
        }
        match self.gaps.iter().position(|(first, last)| (*first..=*last).contains(&seq)) {
            Some(place) => {
                self.fill(place, seq);
                Arrival::Late
            }
            None => Arrival::Again,
        }
    }

    fn gap(&mut self, first: u64, last: u64) {
        if self.gaps.len() < MOST_GAPS { self.gaps.push((first, last)) } else { self.forgotten += last - first + 1 }
    }

    fn fill(&mut self, place: usize, seq: u64) {
        let (first, last) = self.gaps.swap_remove(place);
        for (first, last) in [(first, seq - 1), (seq + 1, last)] {
            if first <= last {
                self.gap(first, last);
            }
        }
    }
}

/// Gaps of one membership that are kept, to tell late from lost. Beyond them all is lost, and late counts as duplicated.
const MOST_GAPS: usize = 256;
