//! Everything sent and received, in memory independent of the number of deliveries.
//!
//! A full run has ten million deliveries of about a hundred thousand events. Each is checked on arrival and not kept:
//!
//! * **Order and count.** A membership knows the next seq. A higher one leaves a gap, whose events are lost, or reordered if
//!   they arrive later. A lower one that fills no gap is a duplicate.
//! * **Bytes.** For each seq the ledger keeps a 64-bit hash of the event as first received. All others must receive the same.
//!   At the end [`mod@super::check`] compares these hashes with the store, so that every delivery is compared with the store at
//!   a cost of eight bytes per event.
//! * **Lines.** For each sent line the ledger keeps its sender, a hash of its text, and the seq in its receipt. At the end each
//!   line must be stored at that seq, once, and the lines of a sender in the order of sending.
//! * **Latency** is from the due time of a line to its receipt by a member. The first receipt of a seq finds the sender's line
//!   by its text.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use quip_client::{OwnedEvent, UserId, kind};
use xxhash_rust::xxh3::Xxh3;

use super::follower::Follower;
use crate::{check::Seen, stats::Latencies};

/// The record of a run.
pub(crate) struct Ledger {
    /// The seq of the first slot.
    base: u64,
    slots: Vec<Slot>,
    users: HashMap<UserId, usize>,
    /// For each user the lines that nobody received yet.
    unreceived: Vec<VecDeque<Due>>,
    /// Every line, in the order of sending for each user.
    pub(crate) lines: Vec<Line>,
    /// Every membership, including past ones.
    pub(crate) followers: Vec<Follower>,
    /// Deliveries that differ from the first one of the event, or whose seq is out of range.
    pub(crate) altered: u64,
    /// From the due time of a line to its receipt by a member.
    pub(crate) latency: Latencies,
    /// From the due time of a line to the call of the library.
    pub(crate) lag: Latencies,
}

/// What is kept for each seq.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The hash of the event; 0 = nobody received it.
    hash: u64,
    /// Its due time in microseconds from the start of the run; `u64::MAX` = not a line of this run.
    due: u64,
}

/// A line that nobody received yet.
struct Due {
    text: u64,
    at: u64,
}

/// A line that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// The sender, see [`Ledger::user`].
    pub(crate) user: usize,
    /// Hash of the text.
    pub(crate) text: u64,
    /// The seq in its receipt; 0 = not accepted.
    pub(crate) seq: u64,
}

impl Ledger {
    /// An empty ledger for a run whose first event has at least this seq.
    pub(crate) fn new(base: u64) -> Self {
        Self {
            base,
            slots: Vec::new(),
            users: HashMap::new(),
            unreceived: Vec::new(),
            lines: Vec::new(),
            followers: Vec::new(),
            altered: 0,
            latency: Latencies::new(),
            lag: Latencies::new(),
        }
    }

    /// The number of a user, assigned on first use.
    pub(crate) fn enroll(&mut self, user: &UserId) -> usize {
        if let Some(number) = self.users.get(user) {
            return *number;
        }
        let number = self.users.len();
        self.users.insert(user.clone(), number);
        self.unreceived.push(VecDeque::new());
        number
    }

    /// The number of a user of this run.
    pub(crate) fn user(&self, user: &UserId) -> Option<usize> {
        self.users.get(user).copied()
    }

    /// Number of users.
    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }

    /// Records a line that is sent at `now` and was due at `at`, both in microseconds from the start of the run. Returns its
    /// index in [`Ledger::lines`].
    pub(crate) fn send(&mut self, user: usize, text: &str, at: u64, now: u64) -> usize {
        self.lag.record(Duration::from_micros(now.saturating_sub(at)));
        let text = hash_text(text.as_bytes());
        self.unreceived[user].push_back(Due { text, at });
        self.lines.push(Line { user, text, seq: 0 });
        self.lines.len() - 1
    }

    /// Records the seq in the receipt of a line.
    pub(crate) fn accept(&mut self, line: usize, seq: u64) {
        self.lines[line].seq = seq;
    }

    /// Begins a membership. Returns its index in [`Ledger::followers`].
    pub(crate) fn follow(&mut self, follower: Follower) -> usize {
        self.enroll(&follower.user);
        self.followers.push(follower);
        self.followers.len() - 1
    }

    /// Records a delivery at `now`, in microseconds from the start of the run.
    pub(crate) fn receive(&mut self, follower: usize, event: &OwnedEvent, now: u64) {
        let follower = &mut self.followers[follower];
        let seen = follower.arrive(event);
        let opened = follower.opened;
        let Some(place) = self.place(event.seq) else {
            self.altered += 1;
            return;
        };
        let hash = hash_event(event);
        if self.slots[place].hash == 0 {
            let due = self.claim(event);
            self.slots[place] = Slot { hash, due };
        }
        let slot = self.slots[place];
        if slot.hash != hash {
            self.altered += 1;
        } else if slot.due != u64::MAX && slot.due >= opened && seen == Seen::InOrder {
            self.latency.record(Duration::from_micros(now.saturating_sub(slot.due)));
        }
    }

    /// The hash of the event received at this seq, if any.
    pub(crate) fn received(&self, seq: u64) -> Option<u64> {
        let place = seq.checked_sub(self.base)? as usize;
        self.slots.get(place).map(|slot| slot.hash).filter(|hash| *hash != 0)
    }

    /// The slot of a seq, created if new; `None` if the seq is out of range.
    fn place(&mut self, seq: u64) -> Option<usize> {
        let place = seq.checked_sub(self.base)? as usize;
        if place >= MOST_EVENTS {
            return None;
        }
        if place >= self.slots.len() {
            self.slots.resize(place + 1, Slot::default());
        }
        Some(place)
    }

    /// The due time of the line that a newly received event is. Equal texts of one user are taken in order.
    fn claim(&mut self, event: &OwnedEvent) -> u64 {
        let lines = match self.users.get(&event.user) {
            Some(user) if event.kind == kind::TEXT => &mut self.unreceived[*user],
            _ => return u64::MAX,
        };
        let text = hash_text(&event.body);
        let place = lines.iter().position(|due| due.text == text);
        place.and_then(|place| lines.remove(place)).map_or(u64::MAX, |due| due.at)
    }
}

/// Hashes a text.
pub(crate) fn hash_text(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text)
}

/// Hashes all fields of an event; never 0.
pub(crate) fn hash_event(event: &OwnedEvent) -> u64 {
    let mut hasher = Xxh3::new();
    for number in [event.seq, event.number, event.at, event.kind, event.user.as_str().len() as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(event.user.as_str().as_bytes());
    hasher.update(&event.body);
    hasher.digest().max(1)
}

/// Ten times the events of all logs; bounds memory if a seq is nonsense.
const MOST_EVENTS: usize = 1 << 21;
