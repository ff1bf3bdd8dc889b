//! Wakers that put a stream's key on a ready list, so that no stream needs a task.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use tokio::sync::Notify;

use crate::hub::StreamKey;

/// What there is to do for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
    /// To look whether the client reads it no longer.
    Stop,
}

/// Streams that can go on since the network thread last looked.
///
/// Wakers must be `Send`, so the list has a lock; it is only ever taken on that thread.
#[derive(Debug)]
pub(super) struct Ready {
    list: Mutex<Vec<Arc<StreamWaker>>>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct StreamWaker {
    pub(super) key: StreamKey,
    pub(super) side: Side,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    /// An empty list that notifies `wake`.
    pub(super) fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), wake })
    }

    /// A waker for one side of a stream.
    pub(super) fn waker(self: &Arc<Self>, key: StreamKey, side: Side) -> Waker {
        Arc::new(StreamWaker { key, side, queued: AtomicBool::new(false), ready: Arc::clone(self) }).into()
    }

    /// Moves what is ready into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut Vec<Arc<StreamWaker>>) {
        std::mem::swap(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner), into);
        into.iter().for_each(|waker| waker.queued.store(false, Ordering::Relaxed));
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let ready = Arc::clone(&self.ready);
        let mut list = ready.list.lock().unwrap_or_else(PoisonError::into_inner);
        let first = list.is_empty();
        list.push(self);
        drop(list);
        if first {
            ready.wake.notify_one();
        }
    }
}
