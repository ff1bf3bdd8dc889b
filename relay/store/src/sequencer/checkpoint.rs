//! Checkpoints: the view is written to the disk while commits go on, and then the log may drop what it has.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
};

use quip_order::Positions;

use crate::{EngineError, engine::Engine, store::Inner};

/// Makes one checkpoint at a time.
pub(super) struct Checkpoints {
    inner: Arc<Inner>,
    /// The thread that makes them, with a disk.
    thread: Option<Thread>,
    /// Up to where the one goes that is under way or has just ended.
    upto: Option<Positions>,
    /// Bytes of records that were committed since the last one began.
    bytes: u64,
}

struct Thread {
    /// Taken when it is to end.
    requests: Option<Sender<()>>,
    ends: Receiver<Result<(), EngineError>>,
    handle: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts the thread, where one is needed.
    pub(super) fn new(inner: Arc<Inner>) -> io::Result<Self> {
        let thread = match &inner.engine {
            Engine::Memory(_) => None,
            Engine::Disk(_) => Some(Self::start(Arc::clone(&inner))?),
        };
        Ok(Self { inner, thread, upto: None, bytes: 0 })
    }

    fn start(inner: Arc<Inner>) -> io::Result<Thread> {
        let ((requests, requested), (end, ends)) = (mpsc::channel(), mpsc::channel());
        let work = move || {
            for () in requested {
                let ended = inner.engine.checkpoint();
                if end.send(ended).is_err() {
                    return;
                }
            }
        };
        let handle = thread::Builder::new().name("quip-checkpoint".to_owned()).spawn(work)?;
        Ok(Thread { requests: Some(requests), ends, handle })
    }

    /// Notes what a commit wrote.
    pub(super) fn committed(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether so much was committed since the last one began that it is time for the next.
    pub(super) fn is_due(&self) -> bool {
        self.bytes >= self.inner.memtable_bytes
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.upto.is_some()
    }

    /// Begins one of what was committed up to here. None may be under way.
    pub(super) fn begin(&mut self, upto: Positions) {
        debug_assert!(self.upto.is_none(), "one at a time");
        (self.upto, self.bytes) = (Some(upto), 0);
        if let Some(requests) = self.thread.as_ref().and_then(|thread| thread.requests.as_ref()) {
            // A thread that is gone shows when its answer is asked for.
            _ = requests.send(());
        }
    }

    /// Up to where the one goes that has ended since the last call.
    ///
    /// # Errors
    /// When it failed.
    pub(super) fn ended(&mut self) -> Result<Option<Positions>, EngineError> {
        match (&self.upto, &self.thread) {
            (None, _) => return Ok(None),
            (Some(_), None) => self.inner.engine.checkpoint()?,
            (Some(_), Some(thread)) => match thread.ends.try_recv() {
                Ok(ended) => ended?,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(fjall::Error::Poisoned.into()),
            },
        }
        Ok(self.upto.take())
    }

    /// Waits for the one that is under way.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn wait(&mut self) -> Result<Option<Positions>, EngineError> {
        match (&self.upto, &self.thread) {
            (Some(_), Some(thread)) => {
                thread.ends.recv().unwrap_or_else(|_| Err(fjall::Error::Poisoned.into()))?;
                Ok(self.upto.take())
            }
            _ => self.ended(),
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        let Some(mut thread) = self.thread.take() else { return };
        thread.requests = None;
        // One that is under way may never end, when the engine has failed.
        if self.upto.is_none() {
            // A panic of it has been reported.
            _ = thread.handle.join();
        }
    }
}
