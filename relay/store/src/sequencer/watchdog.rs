//! Notices a commit that does not end.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// A thread that looks at what its owner is doing. Ends with it.
pub(super) struct Watchdog {
    begun: Instant,
    /// Since when the work lasts, in milliseconds after `begun` plus 1; 0 = no work.
    since: Arc<AtomicU64>,
    _stop: mpsc::Sender<()>,
}

impl Watchdog {
    /// Calls `on_stuck` once when some work takes longer than `timeout`, give or take a quarter.
    pub(super) fn start(timeout: Duration, on_stuck: Box<dyn FnOnce() + Send>) -> io::Result<Self> {
        let (begun, since) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = mpsc::channel();
        let watched = since.clone();
        let look = move || {
            let pause = (timeout / 4).max(Duration::from_millis(1));
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let since = watched.load(Ordering::Relaxed);
                if since > 0 && begun.elapsed() > Duration::from_millis(since) + timeout {
                    return on_stuck();
                }
            }
        };
        thread::Builder::new().name("quip-watchdog".to_owned()).spawn(look)?;
        Ok(Self { begun, since, _stop: stop })
    }

    /// Does some work under its eyes.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since.store(self.begun.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let result = work();
        self.since.store(0, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_stuck_work_and_only_of_that() {
        let (told, tells) = mpsc::channel();
        let start = |timeout| {
            let told = told.clone();
            Watchdog::start(timeout, Box::new(move || told.send(timeout).unwrap())).unwrap()
        };
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let patient = start(long);
        let stuck = start(short);
        patient.watch(|| stuck.watch(|| assert_eq!(tells.recv(), Ok(short), "told while the work lasts")));
        drop((patient, stuck));
        drop(told);
        assert!(tells.recv().is_err(), "told once, and the threads are gone");
    }

    #[test]
    fn finished_work_is_not_stuck() {
        let (told, tells) = mpsc::channel();
        let dog = Watchdog::start(Duration::from_millis(20), Box::new(move || told.send(()).unwrap())).unwrap();
        dog.watch(|| ());
        assert_eq!(tells.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
    }
}
