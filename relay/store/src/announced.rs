//! Batches that sinks know of before the engine has them.
//!
//! A durable batch is announced first and committed to the engine after, so that nobody waits for the engine to get a message.
//! A read waits until the engine has what was announced before the read began. One that follows from an announcement sees at
//! least what was announced.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::ReadError;

/// What readers wait for.
#[derive(Default)]
pub(crate) struct Announced {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    announced: u64,
    stored: u64,
    /// Readers that wait.
    waiting: usize,
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
    pub(crate) fn store(&self) {
        let mut state = self.lock();
        state.stored = state.announced;
        self.wake(state);
    }

    /// Nothing more is stored. Unless everything announced is, readers cannot see it in this process any more.
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
    ///
    /// # Errors
    /// When it never will.
    pub(crate) fn wait(&self) -> Result<(), ReadError> {
        let mut state = self.lock();
        let announced = state.announced;
        while state.stored < announced {
            if state.ended {
                return Err(ReadError::Stopped);
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn waiting(announced: &Arc<Announced>) -> thread::JoinHandle<Result<(), ReadError>> {
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
        announced.wait().unwrap();
        announced.announce();
        let reader = waiting(&announced);
        announced.store();
        reader.join().unwrap().unwrap();
        announced.wait().unwrap();
        announced.end();
        announced.wait().unwrap();
    }

    #[test]
    fn a_read_fails_when_what_was_announced_is_never_stored() {
        let announced = Arc::new(Announced::default());
        announced.announce();
        let reader = waiting(&announced);
        announced.end();
        reader.join().unwrap().unwrap_err();
        announced.wait().unwrap_err();
    }
}
