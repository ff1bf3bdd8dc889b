//! Threads that read the store for callers that must not block on the disk.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use thiserror::Error;

use crate::View;

/// A read to run on a reader thread. It delivers its own result.
pub type Job = Box<dyn FnOnce(&View) + Send>;

/// The queue is full. The job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the relay is busy reading; try again in a moment")]
pub struct Busy;

/// The size of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadersConfig {
    /// Number of threads.
    pub threads: usize,
    /// Maximum queued jobs.
    pub waiting: usize,
}

impl Default for ReadersConfig {
    fn default() -> Self {
        Self { threads: 2, waiting: 4096 }
    }
}

/// A pool of reader threads with a bounded queue. Dropping it drops the waiting jobs and waits for the running ones.
pub struct Readers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread could not be started.
    pub fn start(view: View, config: ReadersConfig) -> io::Result<Self> {
        let queue = Arc::new(Queue { waiting: config.waiting, state: Mutex::default(), filled: Condvar::new() });
        let mut readers = Self { queue, threads: Vec::new() };
        for i in 0..config.threads {
            let (queue, view) = (readers.queue.clone(), view.clone());
            let thread = thread::Builder::new().name(format!("quip-read-{i}"));
            readers.threads.push(thread.spawn(move || queue.work(&view))?);
        }
        Ok(readers)
    }

    /// Queues a job.
    ///
    /// # Errors
    /// If the queue is full.
    pub fn run(&self, job: Job) -> Result<(), Busy> {
        let mut state = self.queue.lock();
        if state.jobs.len() >= self.queue.waiting {
            return Err(Busy);
        }
        state.jobs.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.queue.filled.notify_one();
        }
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let jobs = {
            let mut state = self.queue.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(jobs);
        self.queue.filled.notify_all();
        for thread in self.threads.drain(..) {
            // A thread whose job panicked has reported it already.
            _ = thread.join();
        }
    }
}

struct Queue {
    waiting: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads waiting for a job.
    idle: usize,
    closed: bool,
}

impl Queue {
    /// Poisoning is ignored: jobs run outside the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, view: &View) {
        while let Some(job) = self.next() {
            job(view);
        }
    }

    /// Waits for a job; `None` once closed.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}
