//! A test engine: it does everything that the contract of [`Order`] allows, by seed.
//!
//! It refuses, drops, duplicates, reorders and delays submits and moves its clock back and forth. The same seed and
//! the same calls give the same order. Whatever works on it works on every engine. Not for production: it loses commands.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use quip_core::{Command, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{BatchLimit, Durability, Order, Ordered, Submit, SubmitError};

/// How often what goes wrong, in percent of the submits, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Refused as full.
    pub refused: u32,
    /// Taken and never seen again.
    pub dropped: u32,
    /// Seen twice or more often.
    pub duplicated: u32,
    /// Seen much later, up to `delay` submits.
    pub delayed: u32,
    /// How many later submits may overtake a delayed one; any other is overtaken by at most `reorder`.
    pub delay: u64,
    /// See `delay`; 0 keeps the order of the others.
    pub reorder: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { refused: 5, dropped: 10, duplicated: 15, delayed: 5, delay: 200, reorder: 8 }
    }
}

/// Makes an order and the side that submits to it.
pub fn faulty(seed: u64, faults: Faults) -> (Arc<Faulty>, Box<dyn Order>) {
    let state = State {
        random: StdRng::seed_from_u64(seed),
        faults,
        due: BTreeMap::new(),
        submits: 0,
        copies: 0,
        position: 0,
        closed: false,
    };
    let queue = Arc::new(Queue { state: Mutex::new(state), filled: Condvar::new() });
    (Arc::new(Faulty { queue: queue.clone() }), Box::new(Consumer { queue }))
}

/// The submitting side of a faulty order. Dropping the last one closes it.
#[derive(Debug)]
pub struct Faulty {
    queue: Arc<Queue>,
}

impl Submit for Faulty {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        self.queue.lock().push(command)?;
        self.queue.filled.notify_one();
        Ok(())
    }

    fn close(&self) {
        self.queue.close();
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Consumer {
    queue: Arc<Queue>,
}

impl Order for Consumer {
    fn durability(&self) -> Durability {
        Durability::View
    }

    fn start(&mut self, positions: &[u64]) {
        self.queue.lock().position = positions.first().copied().unwrap_or(0);
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> bool {
        let mut state = self.queue.lock();
        while state.due.is_empty() {
            if state.closed {
                return false;
            }
            state = self.queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.take(limit, into);
        true
    }

    fn synced(&mut self, _positions: &[u64]) {}
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }
}

#[derive(Debug)]
struct State {
    random: StdRng,
    faults: Faults,
    /// What will be seen, by the number of submits at which it is due and the number of the copy.
    due: BTreeMap<(u64, u64), Command>,
    submits: u64,
    copies: u64,
    position: u64,
    closed: bool,
}

impl State {
    fn push(&mut self, command: Command) -> Result<(), SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        self.submits += 1;
        if self.happens(self.faults.refused) {
            return Err(SubmitError::Full { retry_after_ms: 1 });
        }
        if self.happens(self.faults.dropped) {
            return Ok(());
        }
        let copies = if self.happens(self.faults.duplicated) { self.random.random_range(2..=4) } else { 1 };
        for _ in 0..copies {
            let late = if self.happens(self.faults.delayed) { self.faults.delay } else { self.faults.reorder };
            let due = self.submits + self.random.random_range(0..=late);
            self.copies += 1;
            self.due.insert((due, self.copies), command.clone());
        }
        Ok(())
    }

    /// Takes what is due, or else what is due next, at least one command and sometimes fewer than would fit.
    fn take(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) {
        let most = self.random.random_range(1..=limit.commands.max(1));
        let mut bytes = 0;
        for taken in 0..most {
            let Some(next) = self.due.first_entry() else { return };
            bytes += next.get().weight();
            if taken > 0 && (next.key().0 > self.submits || bytes > limit.bytes) {
                return;
            }
            let command = next.remove();
            self.position += 1;
            let at = self.time();
            into.push(Ordered { partition: 0, position: self.position, at, command });
        }
    }

    /// A clock that runs with the submits and stumbles.
    fn time(&mut self) -> Timestamp {
        START + self.submits * 10 - self.random.random_range(0..50)
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}

/// Milliseconds since the Unix epoch, some time in 2025.
const START: Timestamp = 1_750_000_000_000;
