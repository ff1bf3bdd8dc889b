//! The thread that carries packets between the two devices.

use std::{
    io,
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    process::setpriority_process,
    thread::{gettid, set_current_timer_slack},
};
use tun_rs::SyncDevice;

use crate::{line::Line, namespace::MTU, wire::Direction};

/// Packets read from one device before the other side gets a turn.
const TURN: usize = 64;
/// The priority of the thread: packets are due when they are due, however busy the machine is.
const NICE: i32 = -20;

/// Both directions, shared by the thread and its users.
pub(crate) type Lines = Arc<Mutex<[Line; 2]>>;

/// A running thread; it ends with this value.
#[derive(Debug)]
pub(crate) struct Forwarder {
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Forwarder {
    /// Carries packets between `near` and `far` until it is dropped.
    pub(crate) fn start(near: SyncDevice, far: SyncDevice, lines: Lines) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let carrier = Carrier { ends: [near, far], lines, stop: Arc::clone(&stop), start: Instant::now() };
        let thread = thread::Builder::new().name("link".to_owned()).spawn(move || carrier.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Whether the thread gave up, which it does only when a device failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

impl std::ops::Drop for Forwarder {
    fn drop(&mut self) {
        // An event counter takes this write unless it was written 2^64 times.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(Ok(Err(error))) = self.thread.take().map(thread::JoinHandle::join) {
            eprintln!("the link broke: {error}");
        }
    }
}

pub(crate) fn lock(lines: &Lines) -> MutexGuard<'_, [Line; 2]> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Carrier {
    ends: [SyncDevice; 2],
    lines: Lines,
    stop: Arc<OwnedFd>,
    start: Instant,
}

impl Carrier {
    fn run(self) -> io::Result<()> {
        // The kernel may otherwise join timers that are less than 50 µs apart.
        set_current_timer_slack(NonZeroU64::new(1))?;
        setpriority_process(Some(gettid()), NICE)?;
        let mut buffer = vec![0; usize::from(MTU)];
        let mut next_due = None;
        loop {
            let Some(readable) = self.wait(next_due)? else { return Ok(()) };
            let mut lines = lock(&self.lines);
            for direction in Direction::BOTH {
                let from = direction as usize;
                if readable[from] {
                    self.read(&self.ends[from], &mut lines[from], &mut buffer)?;
                }
            }
            for direction in Direction::BOTH {
                self.deliver(&self.ends[1 - direction as usize], &mut lines[direction as usize])?;
            }
            next_due = lines.iter().filter_map(Line::next_due).min();
        }
    }

    /// Sleeps until there is something to do; which devices have packets, or `None` to end.
    fn wait(&self, due: Option<Duration>) -> io::Result<Option<[bool; 2]>> {
        let mut polled = [
            PollFd::from_borrowed_fd(self.ends[0].as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ends[1].as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
        ];
        let left = due.map(|due| due.saturating_sub(self.start.elapsed()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [near, far, stop] = polled.map(|polled| !polled.revents().is_empty());
        Ok((!stop).then_some([near, far]))
    }

    fn read(&self, device: &SyncDevice, line: &mut Line, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..TURN {
            match device.recv(buffer) {
                Ok(length) => line.take(self.start.elapsed(), Bytes::copy_from_slice(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn deliver(&self, device: &SyncDevice, line: &mut Line) -> io::Result<()> {
        while let Some((due, packet)) = line.give(self.start.elapsed()) {
            match device.send(&packet) {
                Ok(_) => {
                    line.counts.delivered += 1;
                    line.counts.delivered_bytes += packet.len() as u64;
                    line.counts.lateness.record(self.start.elapsed().saturating_sub(due));
                }
                // The kernel has no memory for it, which it counts.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
