//! Commands from the stream on their way to the sequencer.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quip_order::{BatchLimit, Next, Ordered};
use tokio::sync::Notify;

use crate::ClusterError;

/// A bounded queue: the engine reads on from the stream when there is room.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    filled: Condvar,
    /// Wakes the engine.
    pub(crate) has_room: Notify,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Ordered>,
    bytes: usize,
    /// The sequencer waits for a wake-up.
    sleeping: bool,
    /// The engine waits for room.
    waits_for_room: bool,
    end: Option<Result<(), ClusterError>>,
}

impl Outlet {
    /// Poisoning is ignored: nothing here can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends commands. They are few: the engine asks [`Self::is_full`] before it reads on.
    pub(crate) fn push(&self, commands: &mut Vec<Ordered>) {
        let mut state = self.lock();
        state.bytes += commands.iter().map(|ordered| ordered.command.weight()).sum::<usize>();
        state.commands.extend(commands.drain(..));
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Whether to read no more; `has_room` then says when to ask again.
    pub(crate) fn is_full(&self) -> bool {
        let mut state = self.lock();
        let full = state.commands.len() >= WAITING.commands || state.bytes >= WAITING.bytes;
        state.waits_for_room = full;
        full
    }

    /// Nothing more comes. Only the first end counts.
    pub(crate) fn end(&self, end: Result<(), ClusterError>) {
        self.lock().end.get_or_insert(end);
        self.filled.notify_one();
    }

    /// Moves commands to `into`, which is empty, and waits a short while for some.
    pub(crate) fn take(&self, limit: BatchLimit, into: &mut Vec<Ordered>) -> Result<Next, ClusterError> {
        let mut state = self.lock();
        if state.commands.is_empty() && state.end.is_none() {
            state.sleeping = true;
            let waited = self.filled.wait_timeout_while(state, WAIT, |state| state.sleeping && state.end.is_none());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleeping = false;
        }
        let mut bytes = 0;
        while let Some(next) = state.commands.front() {
            bytes += next.command.weight();
            if !into.is_empty() && (into.len() >= limit.commands || bytes > limit.bytes) {
                break;
            }
            state.bytes -= next.command.weight();
            into.extend(state.commands.pop_front());
        }
        if !into.is_empty() {
            let wake = std::mem::take(&mut state.waits_for_room);
            drop(state);
            if wake {
                self.has_room.notify_one();
            }
            return Ok(Next::Batch);
        }
        match &mut state.end {
            None => Ok(Next::Idle),
            Some(end) => std::mem::replace(end, Ok(())).map(|()| Next::Ended),
        }
    }
}

/// What may wait for the sequencer, and a pull more.
const WAITING: BatchLimit = BatchLimit { commands: 8192, bytes: 4 << 20 };
/// How long the sequencer waits before it looks around.
const WAIT: Duration = Duration::from_millis(250);
