//! Messages that a sender has under way, as far as its peer answers them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Result, anyhow};
use tokio::sync::Semaphore;

/// A limit of unanswered messages; the reader of answers returns permits.
#[derive(Clone)]
pub(crate) struct Window(Arc<Shared>);

struct Shared {
    room: Semaphore,
    answered: AtomicU64,
    failure: OnceLock<String>,
}

impl Window {
    pub(super) fn new(messages: usize) -> Self {
        let room = Semaphore::new(messages);
        Self(Arc::new(Shared { room, answered: AtomicU64::new(0), failure: OnceLock::new() }))
    }

    /// Waits for room for one message.
    ///
    /// # Errors
    /// A message failed before.
    pub(super) async fn enter(&self) -> Result<()> {
        match self.0.room.acquire().await {
            Ok(room) => {
                room.forget();
                Ok(())
            }
            Err(_) => Err(anyhow!("{}", self.0.failure.get().map_or("the connection ended", String::as_str))),
        }
    }

    /// Takes room for one more message if there is some.
    pub(super) fn try_enter(&self) -> bool {
        let room = self.0.room.try_acquire();
        room.map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// One message was accepted, or not, which ends the sender.
    pub(super) fn settle<T, E: std::fmt::Display>(&self, answer: Result<T, E>) {
        match answer {
            Ok(_) => {
                self.0.answered.fetch_add(1, Relaxed);
                self.0.room.add_permits(1);
            }
            Err(error) => {
                // Only the first failure is reported.
                let _ = self.0.failure.set(format!("a message was refused: {error}"));
                self.0.room.close();
            }
        }
    }

    /// Messages that were accepted so far.
    pub(super) fn answered(&self) -> u64 {
        self.0.answered.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_window_is_bounded_and_only_what_was_accepted_counts() {
        let window = Window::new(2);
        window.enter().await.unwrap();
        assert!(window.try_enter() && !window.try_enter());
        window.settle(Ok::<_, String>(()));
        assert!(window.try_enter() && !window.try_enter());
        assert_eq!(window.answered(), 1);
        window.settle(Err::<(), _>("full"));
        assert!(window.enter().await.unwrap_err().to_string().ends_with("full"));
        assert_eq!(window.answered(), 1);
    }
}
