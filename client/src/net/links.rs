//! Which connection there is, for conversations and requests.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::Link;
use crate::{ClosedReason, OpenError, RequestError, lock::lock};

/// Whether there is a connection.
#[derive(Clone)]
pub(crate) enum LinkState {
    /// Not now.
    Down,
    /// This one.
    Up(Arc<Link>),
    /// Never again.
    Closed(ClosedReason),
}

/// The present state. Those who wait are woken in the order in which they began to wait, which tokio's own `watch` does not
/// promise: a run in a simulation can be repeated.
pub(crate) struct Links {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    now: LinkState,
    /// Counts changes.
    version: u64,
}

/// One who follows the changes.
pub(crate) struct Follower {
    links: Arc<Links>,
    seen: u64,
}

impl Links {
    pub(super) fn new(now: LinkState) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { now, version: 0 }), changed: Notify::new() })
    }

    /// How it is now.
    pub(crate) fn now(&self) -> LinkState {
        lock(&self.state).now.clone()
    }

    pub(super) fn set(&self, now: LinkState) {
        let mut state = lock(&self.state);
        (state.now, state.version) = (now, state.version + 1);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Follows from now on.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        Follower { links: self.clone(), seen: lock(&self.state).version }
    }
}

impl Follower {
    /// How it is now; [`Self::changed`] waits for what comes after.
    pub(super) fn latest(&mut self) -> LinkState {
        let state = lock(&self.links.state);
        self.seen = state.version;
        state.now.clone()
    }

    /// Waits for a change since it was last looked at. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let mut changed = pin!(self.links.changed.notified());
            changed.as_mut().enable();
            let version = lock(&self.links.state).version;
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }
}

impl From<ClosedReason> for OpenError {
    fn from(reason: ClosedReason) -> Self {
        Self::Closed(reason)
    }
}

impl From<ClosedReason> for RequestError {
    fn from(reason: ClosedReason) -> Self {
        Self::Closed(reason)
    }
}
