//! The checker: compares what members received with the store.

use quip_client::{OwnedEvent, kind};
use serde::Serialize;

use super::{
    follower::Follower,
    ledger::{self, Ledger},
};
use crate::check::Faults;

/// The result of a check.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Expected deliveries: for each membership, the events from join to leave.
    pub(crate) expected: u64,
    /// Expected deliveries that were made.
    pub(crate) delivered: u64,
    /// Missing deliveries and accepted lines.
    pub(crate) lost: u64,
    /// Duplicate deliveries and stored lines.
    pub(crate) duplicated: u64,
    /// Deliveries and stored lines after a later one.
    pub(crate) reordered: u64,
    /// Deliveries and stored lines with wrong bytes.
    pub(crate) altered: u64,
    /// Lines without a receipt.
    pub(crate) unaccepted: u64,
    /// The first problems, as text.
    pub(crate) problems: Vec<String>,
}

/// The stored events of the run, as an observer reads them at the end.
pub(crate) struct Store {
    /// The seq of the first event.
    first: u64,
    events: Vec<Stored>,
    /// Events missing in between, out of order, or duplicate.
    disorder: u64,
}

/// A stored event.
#[derive(Clone, Copy)]
struct Stored {
    hash: u64,
    /// Hash of the text of a line.
    text: u64,
    user: Option<usize>,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Missing,
    Line,
    Joined,
    Left,
    Other,
}

impl Store {
    /// An empty store whose first event has this seq.
    pub(crate) fn from(first: u64) -> Self {
        Self { first, events: Vec::new(), disorder: 0 }
    }

    /// The next seq.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds the next event read from the relay.
    pub(crate) fn add(&mut self, event: &OwnedEvent, ledger: &Ledger) {
        if event.seq < self.next() || event.seq - self.next() > MOST_MISSING {
            self.disorder += 1;
            return;
        }
        let missing = event.seq - self.next();
        self.disorder += missing;
        self.events.resize(self.events.len() + missing as usize, MISSING);
        let what = match event.kind {
            kind::TEXT => What::Line,
            kind::JOINED => What::Joined,
            kind::LEFT => What::Left,
            _ => What::Other,
        };
        let text = ledger::hash_text(&event.body);
        self.events.push(Stored { hash: ledger::hash_event(event), text, user: ledger.user(&event.user), what });
    }

    /// Number of events.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    fn get(&self, seq: u64) -> Option<&Stored> {
        self.events.get(seq.checked_sub(self.first)? as usize).filter(|event| event.what != What::Missing)
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Stored)> {
        (self.first..).zip(&self.events)
    }

    /// The first event of this kind and user in a range of seqs.
    fn find(&self, user: Option<usize>, what: What, from: u64, to: u64) -> Option<u64> {
        let from = from.max(self.first);
        let events = self.events.get((from - self.first) as usize..)?;
        let place = events.iter().position(|event| event.what == what && event.user == user)?;
        Some(from + place as u64).filter(|seq| *seq <= to)
    }
}

/// Compares everything sent and received with the store.
pub(crate) fn check(ledger: &Ledger, store: &Store) -> Verdict {
    let mut verdict = Verdict { altered: ledger.altered, ..Verdict::default() };
    if ledger.altered > 0 {
        verdict.say(|| format!("{} deliveries differ from the first delivery of the same event", ledger.altered));
    }
    if store.disorder > 0 {
        verdict.lost += store.disorder;
        verdict.say(|| format!("{} events are missing or out of order in the store", store.disorder));
    }
    bytes(ledger, store, &mut verdict);
    lines(ledger, store, &mut verdict);
    for follower in &ledger.followers {
        membership(follower, ledger.user(&follower.user), store, &mut verdict);
    }
    verdict
}

/// Every event was received with its stored bytes.
fn bytes(ledger: &Ledger, store: &Store, verdict: &mut Verdict) {
    for (seq, event) in store.numbered() {
        if event.what != What::Missing && ledger.received(seq).is_some_and(|received| received != event.hash) {
            verdict.altered += 1;
            verdict.say(|| format!("event {seq} differs from its deliveries"));
        }
    }
}

/// Every line is stored once, with its bytes, and the lines of a sender are in order.
fn lines(ledger: &Ledger, store: &Store, verdict: &mut Verdict) {
    let mut taken = vec![false; store.len()];
    let mut last = vec![0; ledger.users()];
    for line in &ledger.lines {
        if line.seq == 0 {
            verdict.unaccepted += 1;
            continue;
        }
        match store.get(line.seq) {
            None => {
                verdict.lost += 1;
                verdict.say(|| format!("a line was accepted as event {}, which is not stored", line.seq));
                continue;
            }
            Some(event) if (event.what, event.user, event.text) != (What::Line, Some(line.user), line.text) => {
                verdict.altered += 1;
                verdict.say(|| format!("a line was accepted as event {}, which has other content", line.seq));
            }
            Some(_) if line.seq < last[line.user] => {
                verdict.reordered += 1;
                verdict.say(|| format!("event {} was sent after event {} by the same user", line.seq, last[line.user]));
            }
            Some(_) => {}
        }
        last[line.user] = last[line.user].max(line.seq);
        if std::mem::replace(&mut taken[(line.seq - store.first) as usize], true) {
            verdict.lost += 1;
            verdict.say(|| format!("two lines were accepted as event {}", line.seq));
        }
    }
    if verdict.unaccepted > 0 {
        let unaccepted = verdict.unaccepted;
        verdict.say(|| format!("{unaccepted} lines were not accepted"));
    }
    extra_lines(ledger, store, &taken, verdict);
}

/// A stored line without a receipt is a duplicate, unless its receipt never arrived.
fn extra_lines(ledger: &Ledger, store: &Store, taken: &[bool], verdict: &mut Verdict) {
    let mut unknown: Vec<_> = ledger.lines.iter().filter(|line| line.seq == 0).collect();
    for ((seq, event), taken) in store.numbered().zip(taken) {
        let (What::Line, Some(user), false) = (event.what, event.user, *taken) else { continue };
        match unknown.iter().position(|line| line.user == user && line.text == event.text) {
            Some(place) => {
                unknown.swap_remove(place);
            }
            None => {
                verdict.duplicated += 1;
                verdict.say(|| format!("event {seq} is a duplicate line"));
            }
        }
    }
}

/// A member received every event from join to leave, once and in order.
fn membership(follower: &Follower, user: Option<usize>, store: &Store, verdict: &mut Verdict) {
    let head = store.next() - 1;
    let last = match follower.left {
        Some(0) => (follower.next() - 1).max(follower.after),
        Some(seq) => seq,
        None => store.find(user, What::Left, follower.from + 1, head).unwrap_or(head),
    };
    let hidden = hidden(follower, user, store);
    let Faults { lost, duplicated, reordered } = follower.faults(last);
    let lost = lost + hidden;
    let expected = (last + 1).saturating_sub(follower.from) + hidden;
    verdict.expected += expected;
    verdict.delivered += follower.got.min(expected);
    verdict.lost += lost;
    verdict.duplicated += duplicated;
    verdict.reordered += reordered;
    let name = || format!("{} (member from event {} to {last})", follower.user, follower.from);
    if lost > 0 {
        verdict.say(|| format!("{} never received {lost} events", name()));
    }
    if duplicated > 0 {
        verdict.say(|| format!("{} received {duplicated} events twice", name()));
    }
    if reordered > 0 {
        verdict.say(|| format!("{} received {reordered} events after a later one", name()));
    }
    if follower.next() > last + 1 {
        verdict.say(|| format!("{} received events after the end, up to {}", name(), follower.next() - 1));
    }
    if let Some(problem) = &follower.problem {
        verdict.say(|| format!("{}: {problem}", name()));
    }
}

/// Skipped events after the join.
fn hidden(follower: &Follower, user: Option<usize>, store: &Store) -> u64 {
    let Some(to) = follower.skipped else { return 0 };
    let joined = store.find(user, What::Joined, follower.after + 1, to);
    joined.map_or(0, |joined| to + 1 - joined)
}

impl Verdict {
    /// Whether the check passed.
    pub(crate) fn is_good(&self) -> bool {
        let wrong = [self.lost, self.duplicated, self.reordered, self.altered, self.unaccepted];
        wrong == [0; 5] && self.problems.is_empty() && self.expected == self.delivered
    }

    /// Adds a problem as text.
    pub(crate) fn say(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem());
        }
    }
}

const MISSING: Stored = Stored { hash: 0, text: 0, user: None, what: What::Missing };
/// Maximum problems kept as text.
const MOST_PROBLEMS: usize = 20;
/// The largest gap in the store; bounds memory if a seq is nonsense.
const MOST_MISSING: u64 = 1 << 21;

#[cfg(test)]
mod tests;
