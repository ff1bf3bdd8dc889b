//! Lines on their way to a file that may take them slowly, or never.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A bounded queue of lines, and a thread that writes them. A line that finds no room is lost, and counted.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that may wait.
    room: usize,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Of all lines, with the one that is being written.
    bytes: usize,
    /// Not reported yet.
    lost: u64,
    /// The last write did not succeed.
    failing: bool,
}

/// How often the thread reports while there is nothing to write.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Lines {
    /// Starts the thread, which also calls `report` from time to time.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        room: usize,
        report: impl Fn(&Self) + Send + 'static,
    ) -> io::Result<Self> {
        let lines = Self(Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), room }));
        let writing = lines.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_to(out, report))?;
        Ok(lines)
    }

    /// Puts a line into the queue. Never waits for the file.
    pub(super) fn put(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.bytes + line.len() > self.0.room {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until every line is written, but no longer than `within`. True when every line is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), within, |state| state.bytes > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// How many lines were lost, once that can be said, and only once.
    pub(super) fn take_lost(&self) -> u64 {
        let mut state = self.0.lock();
        if state.failing || state.bytes > self.0.room / 2 { 0 } else { std::mem::take(&mut state.lost) }
    }

    fn write_to(&self, mut out: impl Write, report: impl Fn(&Self)) {
        let mut reported = Instant::now();
        loop {
            if let Some(line) = self.0.next() {
                let written = out.write_all(&line).is_ok();
                self.0.done(line.len(), written);
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                report(self);
            }
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    /// Poisoning is ignored: nothing here can panic halfway through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a line, but not longer than until the next report.
    fn next(&self) -> Option<Vec<u8>> {
        let waited = self.changed.wait_timeout_while(self.lock(), REPORT_EVERY, |state| state.lines.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.lines.pop_front()
    }

    fn done(&self, bytes: usize, written: bool) {
        let mut state = self.lock();
        state.bytes -= bytes;
        state.lost += u64::from(!written);
        state.failing = !written;
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A file that takes a line whenever the test says so, and says which.
    struct Slow {
        go: Receiver<bool>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            match self.go.recv() {
                Ok(true) => {
                    self.written.send(line.to_vec()).unwrap();
                    Ok(line.len())
                }
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow(room: usize) -> (Lines, Sender<bool>, Receiver<Vec<u8>>) {
        let ((goes, go), (written, writes)) = (channel(), channel());
        (Lines::start(Slow { go, written }, room, |_| ()).unwrap(), goes, writes)
    }

    /// Long enough for what has to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn what_finds_no_room_is_lost_and_counted_once_there_is_room_again() {
        let (lines, go, written) = slow(40);
        (0..7).for_each(|i| lines.put(format!("line {i}...").as_bytes()));
        assert_eq!(lines.take_lost(), 0, "there is no room to say so");
        assert!(!lines.flush(Duration::from_millis(1)));
        (0..4).for_each(|_| go.send(true).unwrap());
        assert!(lines.flush(PATIENCE));
        let written: Vec<_> = written.try_iter().collect();
        assert_eq!(written, ["line 0...", "line 1...", "line 2...", "line 3..."].map(|line| line.as_bytes().to_vec()));
        assert_eq!((lines.take_lost(), lines.take_lost()), (3, 0));
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted_once_it_can_again() {
        let (lines, go, written) = slow(1000);
        for (line, goes) in [("one", false), ("two", false), ("three", true)] {
            assert_eq!(lines.take_lost(), 0);
            lines.put(line.as_bytes());
            go.send(goes).unwrap();
            assert!(lines.flush(PATIENCE));
        }
        assert_eq!((written.recv().unwrap(), lines.take_lost()), (b"three".to_vec(), 2));
    }
}
