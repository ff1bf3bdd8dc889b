//! What was sent and what everyone received, in memory that does not grow with the number of deliveries.
//!
//! A full run has ten million deliveries of some hundred thousand events. They are not kept; each is judged when it arrives:
//!
//! * **Order and number.** A membership knows the seq that must come next. One that is higher leaves a gap, which is remembered:
//!   lost, or reordered if it comes later. One that is lower and fills no gap is a duplicate.
//! * **Bytes.** For each seq the ledger keeps a 64-bit hash of the whole event as whoever got it first received it; everyone else
//!   must receive the same. At the end [`mod@super::check`] compares each of these hashes with the event that the store has. So every
//!   delivery is compared with the store, at eight bytes for each event.
//! * **Lines.** For each line that was sent, the ledger keeps its sender, a hash of its text, and the seq that its receipt told.
//!   At the end each must stand in the store at that seq, once, and a sender's lines in the order of sending.
//! * **Latency** is from when a line was due to when a member has it. Whoever gets a seq first looks up which of the sender's
//!   lines on their way it is, by its text.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use quip_client::{OwnedEvent, UserId, kind};
use xxhash_rust::xxh3::Xxh3;

use super::follower::Follower;
use crate::{check::Came, stats::Latencies};

/// All that is known about a run while it goes on.
pub(crate) struct Ledger {
    /// The seq of the first slot.
    base: u64,
    slots: Vec<Slot>,
    users: HashMap<UserId, usize>,
    /// For each user the lines that nobody received yet.
    on_their_way: Vec<VecDeque<Due>>,
    /// Every line, in the order of sending for each user.
    pub(crate) lines: Vec<Line>,
    /// Every membership, over or not.
    pub(crate) followers: Vec<Follower>,
    /// Deliveries whose bytes differ from what was received first, or that have no place in the run.
    pub(crate) altered: u64,
    /// From when a line was due to when a member had it.
    pub(crate) latency: Latencies,
    /// From when a line was due to when it was handed to the library.
    pub(crate) lag: Latencies,
}

/// What is kept of one seq.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The hash of the event; 0 = nobody received it.
    hash: u64,
    /// When it was due, in microseconds from the start of the run; `u64::MAX` = it is not a line of this run.
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
    /// Who sent it, see [`Ledger::user`].
    pub(crate) user: usize,
    /// The hash of its text.
    pub(crate) text: u64,
    /// Where its receipt says that it stands; 0 = it was not accepted.
    pub(crate) seq: u64,
}

impl Ledger {
    /// An empty one, for a run whose first event has this seq at least.
    pub(crate) fn new(base: u64) -> Self {
        Self {
            base,
            slots: Vec::new(),
            users: HashMap::new(),
            on_their_way: Vec::new(),
            lines: Vec::new(),
            followers: Vec::new(),
            altered: 0,
            latency: Latencies::new(),
            lag: Latencies::new(),
        }
    }

    /// A small number for a user of the run.
    pub(crate) fn enroll(&mut self, user: &UserId) -> usize {
        if let Some(number) = self.users.get(user) {
            return *number;
        }
        let number = self.users.len();
        self.users.insert(user.clone(), number);
        self.on_their_way.push(VecDeque::new());
        number
    }

    /// The number of a user, if one of this run.
    pub(crate) fn user(&self, user: &UserId) -> Option<usize> {
        self.users.get(user).copied()
    }

    /// How many users there are.
    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }

    /// A line is sent at `now` and was due at `at`, both in microseconds from the start of the run. Gives its place in
    /// [`Ledger::lines`].
    pub(crate) fn send(&mut self, user: usize, text: &str, at: u64, now: u64) -> usize {
        self.lag.record(Duration::from_micros(now.saturating_sub(at)));
        let text = hash_text(text.as_bytes());
        self.on_their_way[user].push_back(Due { text, at });
        self.lines.push(Line { user, text, seq: 0 });
        self.lines.len() - 1
    }

    /// The receipt of a line told its seq.
    pub(crate) fn accept(&mut self, line: usize, seq: u64) {
        self.lines[line].seq = seq;
    }

    /// A membership begins. Gives its place in [`Ledger::followers`].
    pub(crate) fn follow(&mut self, follower: Follower) -> usize {
        self.enroll(&follower.user);
        self.followers.push(follower);
        self.followers.len() - 1
    }

    /// A member received an event at `now`, in microseconds from the start of the run.
    pub(crate) fn receive(&mut self, follower: usize, event: &OwnedEvent, now: u64) {
        let follower = &mut self.followers[follower];
        let came = follower.arrive(event);
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
        } else if slot.due != u64::MAX && slot.due >= opened && came == Came::InOrder {
            self.latency.record(Duration::from_micros(now.saturating_sub(slot.due)));
        }
    }

    /// The hash of what was received at this seq, if anything was.
    pub(crate) fn received(&self, seq: u64) -> Option<u64> {
        let place = seq.checked_sub(self.base)? as usize;
        self.slots.get(place).map(|slot| slot.hash).filter(|hash| *hash != 0)
    }

    /// The place of a seq, made when it is new; `None` for one far beyond what a run can have.
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

    /// Finds out which line an event is that nobody received before. One user's equal texts may be taken for each other.
    fn claim(&mut self, event: &OwnedEvent) -> u64 {
        let lines = match self.users.get(&event.user) {
            Some(user) if event.kind == kind::TEXT => &mut self.on_their_way[*user],
            _ => return u64::MAX,
        };
        let text = hash_text(&event.body);
        let place = lines.iter().position(|due| due.text == text);
        place.and_then(|place| lines.remove(place)).map_or(u64::MAX, |due| due.at)
    }
}

/// A hash of a text.
pub(crate) fn hash_text(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text)
}

/// A hash of all that an event says; never 0.
pub(crate) fn hash_event(event: &OwnedEvent) -> u64 {
    let mut hasher = Xxh3::new();
    for number in [event.seq, event.number, event.at, event.kind, event.user.as_str().len() as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(event.user.as_str().as_bytes());
    hasher.update(&event.body);
    hasher.digest().max(1)
}

/// Ten times what all logs together have; keeps a nonsense seq from asking for all memory.
const MOST_EVENTS: usize = 1 << 21;
