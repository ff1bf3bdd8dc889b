//! Notices work that does not end.

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

/// A thread that looks at what its [`Watch`]es are doing. Ends with it.
pub struct Watchdog {
    watch: Watch,
    _stop: mpsc::Sender<()>,
}

/// Where the work of one thread at a time is noted. The default one is looked at by nobody.
#[derive(Debug, Clone, Default)]
pub struct Watch(Option<Arc<Noted>>);

#[derive(Debug)]
struct Noted {
    begun: Instant,
    /// Since when the work lasts, in milliseconds after `begun` plus 1; 0 = no work.
    since: AtomicU64,
}

impl Watchdog {
    /// Calls `on_stuck` once when some work takes longer than `timeout`, give or take a quarter.
    ///
    /// # Errors
    /// When no thread could be started.
    pub fn start(timeout: Duration, on_stuck: Box<dyn FnOnce() + Send>) -> io::Result<Self> {
        let noted = Arc::new(Noted { begun: Instant::now(), since: AtomicU64::new(0) });
        let (stop, stopped) = mpsc::channel();
        let watched = noted.clone();
        let look = move || {
            let pause = (timeout / 4).max(Duration::from_millis(1));
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let since = watched.since.load(Ordering::Relaxed);
                if since > 0 && watched.begun.elapsed() > Duration::from_millis(since) + timeout {
                    return on_stuck();
                }
            }
        };
        thread::Builder::new().name("quip-watchdog".to_owned()).spawn(look)?;
        Ok(Self { watch: Watch(Some(noted)), _stop: stop })
    }

    /// For the thread whose work is looked at.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Watch {
    /// Does some work that must end.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(noted) = &self.0 else { return work() };
        noted.since.store(noted.begun.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let result = work();
        noted.since.store(0, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_stuck_work_once_and_only_that() {
        let (reports, reported) = mpsc::channel();
        let start = |timeout| {
            let reports = reports.clone();
            Watchdog::start(timeout, Box::new(move || reports.send(timeout).unwrap())).unwrap()
        };
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        let patient = start(long);
        let stuck = start(short);
        patient.watch().during(|| stuck.watch().during(|| assert_eq!(reported.recv(), Ok(short))));
        drop((patient, stuck));
        drop(reports);
        assert!(reported.recv().is_err(), "reported once, and the threads are gone");
    }

    #[test]
    fn finished_work_is_not_stuck() {
        let (reports, reported) = mpsc::channel();
        let dog = Watchdog::start(Duration::from_millis(20), Box::new(move || reports.send(()).unwrap())).unwrap();
        dog.watch().during(|| ());
        assert_eq!(reported.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
    }
}
