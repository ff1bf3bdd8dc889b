//! The verdict: what members received, held against what the store has.

use quip_client::{OwnedEvent, kind};

use super::{
    follower::Follower,
    ledger::{self, Ledger},
};
use crate::check::Faults;

/// What is wrong, in numbers and in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Deliveries that there must be: for each membership the events from its join to its leave.
    pub(crate) expected: u64,
    /// Those of them that there were.
    pub(crate) delivered: u64,
    /// Deliveries, and accepted lines, that are missing.
    pub(crate) lost: u64,
    /// Deliveries, and stored lines, that are there once too often.
    pub(crate) duplicated: u64,
    /// Deliveries, and stored lines, that come after a later one.
    pub(crate) reordered: u64,
    /// Deliveries, and stored lines, with other bytes than they should have.
    pub(crate) altered: u64,
    /// Lines without a receipt that says where they stand.
    pub(crate) unaccepted: u64,
    /// The first few problems, for people.
    pub(crate) problems: Vec<String>,
}

/// What the store has of the room, from the start of the run, as an observer reads it at the end.
pub(crate) struct Store {
    /// The seq of the first event.
    first: u64,
    events: Vec<Stored>,
    /// Events that were missing between others, out of order, or there twice.
    disorder: u64,
}

/// What is kept of an event.
#[derive(Clone, Copy)]
struct Stored {
    hash: u64,
    /// A line's text.
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
    /// A store whose next event has this seq.
    pub(crate) fn from(first: u64) -> Self {
        Self { first, events: Vec::new(), disorder: 0 }
    }

    /// The seq that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Takes the next event that was read.
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

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    fn get(&self, seq: u64) -> Option<&Stored> {
        self.events.get(seq.checked_sub(self.first)? as usize).filter(|event| event.what != What::Missing)
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Stored)> {
        (self.first..).zip(&self.events)
    }

    /// The first such event of a user in a range of seqs.
    fn find(&self, user: Option<usize>, what: What, from: u64, to: u64) -> Option<u64> {
        let from = from.max(self.first);
        let events = self.events.get((from - self.first) as usize..)?;
        let place = events.iter().position(|event| event.what == what && event.user == user)?;
        Some(from + place as u64).filter(|seq| *seq <= to)
    }
}

/// Holds everything that was sent and received against the store.
pub(crate) fn check(ledger: &Ledger, store: &Store) -> Verdict {
    let mut verdict = Verdict { altered: ledger.altered, ..Verdict::default() };
    if ledger.altered > 0 {
        verdict.say(|| format!("{} deliveries had other bytes than the first one of the same event", ledger.altered));
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

/// Every event was received with the bytes that the store has.
fn bytes(ledger: &Ledger, store: &Store, verdict: &mut Verdict) {
    for (seq, event) in store.numbered() {
        if event.what != What::Missing && ledger.received(seq).is_some_and(|received| received != event.hash) {
            verdict.altered += 1;
            verdict.say(|| format!("event {seq} is stored with other bytes than it was delivered with"));
        }
    }
}

/// Every line that was sent is stored once, with its bytes, and a sender's lines in their order.
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
                verdict.say(|| format!("a line was accepted as event {}, which is something else", line.seq));
            }
            Some(_) if line.seq < last[line.user] => {
                verdict.reordered += 1;
                verdict.say(|| format!("event {} was sent after event {} of the same user", line.seq, last[line.user]));
            }
            Some(_) => {}
        }
        last[line.user] = last[line.user].max(line.seq);
        if std::mem::replace(&mut taken[(line.seq - store.first) as usize], true) {
            verdict.lost += 1;
            verdict.say(|| format!("two lines were accepted as the one event {}", line.seq));
        }
    }
    if verdict.unaccepted > 0 {
        let unaccepted = verdict.unaccepted;
        verdict.say(|| format!("{unaccepted} lines were not accepted"));
    }
    extra_lines(ledger, store, &taken, verdict);
}

/// A line of a user of this run that no receipt told of is there once too often, unless it is one whose receipt never came.
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
                verdict.say(|| format!("event {seq} is a line that is stored once too often"));
            }
        }
    }
}

/// A member received everything from its join to its leave, each once and in order.
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

/// Events after the join that the relay said it would leave out.
fn hidden(follower: &Follower, user: Option<usize>, store: &Store) -> u64 {
    let Some(to) = follower.skipped else { return 0 };
    let joined = store.find(user, What::Joined, follower.after + 1, to);
    joined.map_or(0, |joined| to + 1 - joined)
}

impl Verdict {
    /// Whether nothing is wrong.
    pub(crate) fn is_good(&self) -> bool {
        let wrong = [self.lost, self.duplicated, self.reordered, self.altered, self.unaccepted];
        wrong == [0; 5] && self.problems.is_empty() && self.expected == self.delivered
    }

    /// Adds a problem that was found elsewhere.
    pub(crate) fn say(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem());
        }
    }
}

const MISSING: Stored = Stored { hash: 0, text: 0, user: None, what: What::Missing };
/// Problems that are told in words.
const MOST_PROBLEMS: usize = 20;
/// A hole in the store that is believed; keeps a nonsense seq from asking for all memory.
const MOST_MISSING: u64 = 1 << 21;

#[cfg(test)]
mod tests;
