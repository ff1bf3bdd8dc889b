//! Threads that read the store for those who may not wait for the disk.

use thiserror::Error;

use crate::View;

/// A read to be done on a reader thread; it sends its answer wherever it likes.
pub type Job = Box<dyn FnOnce(&View) + Send>;

/// Too many reads are waiting. The job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the relay is busy reading; try again in a moment")]
pub struct Busy;

/// A pool of reader threads with a bounded queue. Dropping it ends them after their current job.
#[derive(Debug)]
pub struct Readers {}

/// How much a pool does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadersConfig {
    /// Threads.
    pub threads: usize,
    /// Jobs that may wait.
    pub waiting: usize,
}

impl Default for ReadersConfig {
    fn default() -> Self {
        Self { threads: 2, waiting: 4096 }
    }
}

impl Readers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(view: View, config: ReadersConfig) -> std::io::Result<Self> {
        let _ = (view, config);
        unimplemented!()
    }

    /// Queues a job.
    ///
    /// # Errors
    /// When too many are waiting.
    pub fn run(&self, job: Job) -> Result<(), Busy> {
        let _ = job;
        unimplemented!()
    }
}
