//! The events of one membership.

use quip_client::{OwnedEvent, UserId, kind};

use crate::check::{Faults, Seen, Sequence};

/// A membership, from join to leave.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The member.
    pub(crate) user: UserId,
    /// When the conversation was opened, in microseconds from the start of the run. Lines due earlier have no latency.
    pub(crate) opened: u64,
    /// The start of delivery, exclusive; it precedes the join.
    pub(crate) after: u64,
    /// The first expected event: the join, once received.
    pub(crate) from: u64,
    /// Distinct events received since then.
    pub(crate) got: u64,
    /// Seq of the accepted leave; 0 = it has no event.
    pub(crate) left: Option<u64>,
    /// The end of a skip before the first event.
    pub(crate) skipped: Option<u64>,
    /// The first violation, as text.
    pub(crate) problem: Option<String>,
    /// The received seqs.
    seqs: Sequence,
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
            left: None,
            skipped: None,
            problem: None,
            seqs: Sequence::from(after + 1),
        }
    }

    /// Records an event.
    pub(crate) fn arrive(&mut self, event: &OwnedEvent) -> Seen {
        let seen = self.seqs.record(event.seq);
        if seen != Seen::Duplicate {
            self.got += 1;
        }
        let joined = event.kind == kind::JOINED && event.user == self.user;
        if joined && seen == Seen::InOrder {
            (self.from, self.got) = (event.seq, 1);
        }
        seen
    }

    /// Records a skip up to `to`.
    pub(crate) fn skip(&mut self, to: u64) {
        if self.got > 0 || self.skipped.is_some() {
            self.trouble(format!("events up to {to} were skipped during the membership"));
        } else {
            self.skipped = Some(to);
            self.from = to + 1;
            self.seqs.skip_to(to + 1);
        }
    }

    /// Records a violation; the first is kept.
    pub(crate) fn trouble(&mut self, what: String) {
        self.problem.get_or_insert(what);
    }

    /// The next seq.
    pub(crate) fn next(&self) -> u64 {
        self.seqs.next()
    }

    /// The faults in the events up to `last`.
    pub(crate) fn faults(&self, last: u64) -> Faults {
        self.seqs.faults(last + 1)
    }
}
