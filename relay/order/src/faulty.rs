//! Wraps an engine for tests: it does everything that the contract of the seam allows, by seed.
//!
//! On the submitting side it refuses, drops, duplicates, reorders and delays. On the consuming side it hands positions out
//! again and, if asked to, leaves one out. The same seed and the same calls give the same order. Whatever works on it works on
//! every engine. Not for production: it loses commands.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quip_core::Command;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{Batch, BatchLimit, Next, Order, OrderError, Ordered, Positions, Submit, SubmitError};

/// How often what goes wrong, in percent, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Submits refused as full.
    pub refused: u32,
    /// Submits taken and never seen again.
    pub dropped: u32,
    /// Submits seen twice or more often.
    pub duplicated: u32,
    /// Submits seen much later, up to `delay` submits.
    pub delayed: u32,
    /// How many later submits may overtake a delayed one; any other is overtaken by at most `reorder`.
    pub delay: u64,
    /// See `delay`; 0 keeps the order of the others.
    pub reorder: u64,
    /// Batches that begin with positions that were handed out before.
    pub redelivered: u32,
    /// Batches that leave out a position, which the sequencer must not survive.
    pub gaps: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self { refused: 5, dropped: 10, duplicated: 15, delayed: 5, delay: 200, reorder: 8, redelivered: 10, gaps: 0 }
    }
}

/// Wraps the two ends of an engine.
pub fn faulty(
    (submit, order): (Arc<dyn Submit>, Box<dyn Order>),
    seed: u64,
    faults: Faults,
) -> (Arc<Faulty>, Box<dyn Order>) {
    let state = State {
        random: StdRng::seed_from_u64(seed),
        faults,
        held: BTreeMap::new(),
        submits: 0,
        copies: 0,
        is_waiting: false,
        closed: false,
    };
    let held = Arc::new(Held { inner: submit, state: Mutex::new(state) });
    let random = StdRng::seed_from_u64(seed ^ u64::MAX);
    let consumer = Consumer { held: held.clone(), order, random, faults, recent: VecDeque::new() };
    (Arc::new(Faulty(held)), Box::new(consumer))
}

/// The submitting side of a faulty order. Dropping the last one closes it.
pub struct Faulty(Arc<Held>);

/// What stands between the two sides and the engine.
struct Held {
    inner: Arc<dyn Submit>,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    faults: Faults,
    /// What the engine has not got yet, by the number of submits at which it is due and the number of the copy.
    held: BTreeMap<(u64, u64), Command>,
    submits: u64,
    copies: u64,
    /// The consumer has seen everything that the engine has.
    is_waiting: bool,
    closed: bool,
}

impl Submit for Faulty {
    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        let mut state = self.0.lock();
        state.take(command)?;
        self.0.pass_on(&mut state);
        Ok(())
    }

    fn close(&self) {
        self.0.close();
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        while let Some((_, command)) = state.held.pop_first() {
            // What the engine refuses is dropped, which the contract allows.
            _ = self.inner.submit(command);
        }
        self.inner.close();
    }

    /// Gives the engine what is due, or what is due next while the consumer has nothing else.
    fn pass_on(&self, state: &mut State) {
        while let Some(next) = state.held.first_entry().filter(|next| state.is_waiting || next.key().0 <= state.submits)
        {
            let command = next.remove();
            state.is_waiting = false;
            // What the engine refuses is dropped, which the contract allows.
            _ = self.inner.submit(command);
        }
    }

    fn consumer_waits(&self) {
        let mut state = self.lock();
        state.is_waiting = true;
        self.pass_on(&mut state);
    }
}

impl State {
    fn take(&mut self, command: Command) -> Result<(), SubmitError> {
        if self.closed {
            return Err(SubmitError::Closed);
        }
        self.submits += 1;
        if happens(&mut self.random, self.faults.refused) {
            return Err(SubmitError::Full { retry_after_ms: 1 });
        }
        if happens(&mut self.random, self.faults.dropped) {
            return Ok(());
        }
        let copies =
            if happens(&mut self.random, self.faults.duplicated) { self.random.random_range(2..=4) } else { 1 };
        for _ in 0..copies {
            let late =
                if happens(&mut self.random, self.faults.delayed) { self.faults.delay } else { self.faults.reorder };
            let due = self.submits + self.random.random_range(0..=late);
            self.copies += 1;
            self.held.insert((due, self.copies), command.clone());
        }
        Ok(())
    }
}

/// The consuming side.
struct Consumer {
    held: Arc<Held>,
    order: Box<dyn Order>,
    random: StdRng,
    faults: Faults,
    /// What was handed out last.
    recent: VecDeque<Ordered>,
}

impl Order for Consumer {
    fn generation(&self) -> u64 {
        self.order.generation()
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        self.order.start(after)
    }

    fn next_batch(&mut self, limit: BatchLimit, into: &mut Batch) -> Result<Next, OrderError> {
        self.held.consumer_waits();
        let commands = self.random.random_range(1..=limit.commands.max(1));
        let next = self.order.next_batch(BatchLimit { commands, ..limit }, into)?;
        if next == Next::Batch {
            let fresh = into.commands.clone();
            if happens(&mut self.random, self.faults.gaps) {
                into.commands.remove(self.random.random_range(0..into.commands.len()));
            }
            if happens(&mut self.random, self.faults.redelivered) {
                let again = self.recent.iter().skip(self.random.random_range(0..=self.recent.len())).cloned();
                into.commands.splice(0..0, again.collect::<Vec<_>>());
            }
            self.recent.extend(fresh);
            self.recent.drain(..self.recent.len().saturating_sub(RECENT));
        }
        Ok(next)
    }

    fn checkpoint(&mut self, upto: &Positions) -> Result<(), OrderError> {
        self.order.checkpoint(upto)
    }

    fn wants_checkpoint(&self) -> bool {
        self.order.wants_checkpoint()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.held.close();
    }
}

fn happens(random: &mut StdRng, percent: u32) -> bool {
    random.random_range(0..100) < percent
}

/// Positions that may be handed out again.
const RECENT: usize = 16;
