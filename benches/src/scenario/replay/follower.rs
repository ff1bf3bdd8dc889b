//! One membership: which events it must receive, and which it did.

use quip_client::{OwnedEvent, UserId, kind};

use crate::check::{Came, Faults, Sequence};

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
    /// Where the leaving stands, once it is accepted; 0 = rooms here do not show it.
    pub(crate) left: Option<u64>,
    /// What the relay left out with a word, before the first event.
    pub(crate) skipped: Option<u64>,
    /// What should never happen, said once.
    pub(crate) problem: Option<String>,
    /// The seqs that came.
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

    /// An event came.
    pub(crate) fn arrive(&mut self, event: &OwnedEvent) -> Came {
        let came = self.seqs.record(event.seq);
        if came != Came::Again {
            self.got += 1;
        }
        let joined = event.kind == kind::JOINED && event.user == self.user;
        if joined && came == Came::InOrder {
            (self.from, self.got) = (event.seq, 1);
        }
        came
    }

    /// The relay said that nothing up to `to` comes.
    pub(crate) fn skip(&mut self, to: u64) {
        if self.got > 0 || self.skipped.is_some() {
            self.trouble(format!("events up to {to} were skipped in the middle of a membership"));
        } else {
            self.skipped = Some(to);
            self.from = to + 1;
            self.seqs.skip_to(to + 1);
        }
    }

    /// Something that should never happen; the first is kept.
    pub(crate) fn trouble(&mut self, what: String) {
        self.problem.get_or_insert(what);
    }

    /// The seq that must come next.
    pub(crate) fn next(&self) -> u64 {
        self.seqs.next()
    }

    /// What was wrong with the events up to `last`.
    pub(crate) fn faults(&self, last: u64) -> Faults {
        self.seqs.faults(last + 1)
    }
}
