//! Batches that sinks know of before the engine has them.
//!
//! A durable batch is announced first and committed to the engine after, so that nobody waits for the engine to get a message.
//! A read waits until the engine has what was announced before the read began: whoever asks because of an announcement sees at
//! least what it announced.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What readers wait for.
#[derive(Default)]
pub(crate) struct Announced {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    announced: u64,
    committed: u64,
    /// Readers that wait.
    waiting: usize,
    /// Nothing more is committed: what was announced last may never be.
    ended: bool,
}

impl Announced {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch is about to be announced.
    pub(crate) fn announce(&self) {
        self.lock().announced += 1;
    }

    /// The engine has every batch that was announced.
    pub(crate) fn commit(&self) {
        let mut state = self.lock();
        state.committed = state.announced;
        self.wake(state);
    }

    /// The sequencer is gone. The process ends too, unless it had nothing left to commit.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(state);
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Waits until the engine has what was announced before the call.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        let announced = state.announced;
        while state.committed < announced && !state.ended {
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn waiting(announced: &Arc<Announced>) -> thread::JoinHandle<()> {
        let waiting = announced.clone();
        let reader = thread::spawn(move || waiting.wait());
        while announced.lock().waiting == 0 {
            thread::yield_now();
        }
        reader
    }

    #[test]
    fn a_read_waits_for_what_was_announced_before_it() {
        let announced = Arc::new(Announced::default());
        announced.wait();
        announced.announce();
        let reader = waiting(&announced);
        announced.commit();
        reader.join().unwrap();
        announced.wait();
    }

    #[test]
    fn nobody_waits_for_a_sequencer_that_is_gone() {
        let announced = Arc::new(Announced::default());
        announced.announce();
        let reader = waiting(&announced);
        announced.end();
        reader.join().unwrap();
        announced.wait();
    }
}
