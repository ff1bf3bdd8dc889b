//! Real UDP and TCP through a link, measured at its ends, which share a clock.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quip_link::{Link, Namespace};

use crate::stats::Latencies;

/// IP and UDP headers.
pub(super) const HEADERS: usize = 28;
/// Bytes of a numbered datagram, which contains its number and send time.
pub(super) const DATAGRAM: usize = 64;
/// Bytes of the datagrams that fill a bottleneck.
const FULL: usize = 1200;
/// How long to wait for another datagram after the last one.
const SILENCE: Duration = Duration::from_millis(500);
/// Bytes of one write of a TCP sender.
const CHUNK: usize = 64 * 1024;

/// The fate of numbered datagrams.
pub(super) struct Arrivals {
    pub(super) sent: u64,
    pub(super) delays: Latencies,
    /// How often each number arrived.
    times: Vec<u32>,
    overtaken: u64,
}

impl Arrivals {
    fn new(sent: u64) -> Self {
        Self { sent, delays: Latencies::new(), times: vec![0; sent as usize], overtaken: 0 }
    }

    fn record(&mut self, number: u64, delay: Duration, highest: &mut u64) -> Result<()> {
        let times = self.times.get_mut(number as usize).context("a number that was not sent")?;
        *times += 1;
        if *times == 1 {
            self.delays.record(delay);
            self.overtaken += u64::from(number < *highest);
            *highest = number.max(*highest);
        }
        Ok(())
    }

    pub(super) fn lost_percent(&self) -> f64 {
        percent(self.times.iter().filter(|times| **times == 0).count(), self.sent)
    }

    pub(super) fn duplicated_percent(&self) -> f64 {
        percent(self.times.iter().filter(|times| **times > 1).count(), self.delays.count())
    }

    pub(super) fn overtaken_percent(&self) -> f64 {
        percent(self.overtaken as usize, self.delays.count())
    }

    /// Mean number of datagrams lost in a row; `None` without loss.
    pub(super) fn mean_burst(&self) -> Option<f64> {
        let lost = self.times.iter().filter(|times| **times == 0).count();
        let runs = self.times.chunk_by(|a, b| (*a == 0) == (*b == 0)).filter(|run| run[0] == 0).count();
        (runs > 0).then(|| lost as f64 / runs as f64)
    }
}

fn percent(count: usize, of: u64) -> f64 {
    100.0 * count as f64 / of.max(1) as f64
}

fn socket(side: &Namespace) -> Result<UdpSocket> {
    Ok(side.run(|| UdpSocket::bind((side.address(), 0)))??)
}

/// Sends a datagram each `gap` for `span`.
pub(super) fn datagrams(from: &Namespace, to: &Namespace, gap: Duration, span: Duration) -> Result<Arrivals> {
    let (from, to) = (socket(from)?, socket(to)?);
    from.connect(to.local_addr()?)?;
    to.set_read_timeout(Some(SILENCE))?;
    let sent = (span.as_secs_f64() / gap.as_secs_f64()) as u64;
    let (mut arrivals, mut highest) = (Arrivals::new(sent), 0);
    let start = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            for number in 0..sent {
                thread::sleep((gap * number as u32).saturating_sub(start.elapsed()));
                let mut datagram = [0; DATAGRAM];
                datagram[..8].copy_from_slice(&number.to_be_bytes());
                datagram[8..16].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_be_bytes());
                from.send(&datagram)?;
            }
            Ok(())
        });
        let mut datagram = [0; DATAGRAM];
        while next(&to, &mut datagram, || sender.is_finished())? {
            let [number, nanos] = [0, 8].map(|at| datagram[at..at + 8].try_into().map(u64::from_be_bytes));
            let delay = start.elapsed().saturating_sub(Duration::from_nanos(nanos?));
            arrivals.record(number?, delay, &mut highest)?;
        }
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(arrivals)
}

/// Waits for a datagram; false after some silence when the sender is done.
fn next(socket: &UdpSocket, buffer: &mut [u8], sender_is_done: impl Fn() -> bool) -> Result<bool> {
    loop {
        // Read first, because the last datagrams may arrive until the silence is over.
        let done = sender_is_done();
        match socket.recv(buffer) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if done => return Ok(false),
            Err(_) => {}
        }
    }
}

/// Sends datagrams at `offered` bit/s for `span`; bits of IP packets per second that arrived.
pub(super) fn flood(from: &Namespace, to: &Namespace, offered: f64, span: Duration) -> Result<f64> {
    let (from, to) = (socket(from)?, socket(to)?);
    from.connect(to.local_addr()?)?;
    to.set_read_timeout(Some(SILENCE))?;
    let start = Instant::now();
    let bits = ((FULL + HEADERS) * 8) as f64;
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            let mut sent = 0;
            while start.elapsed() < span {
                while f64::from(sent) * bits < start.elapsed().as_secs_f64() * offered {
                    from.send(&[0; FULL])?;
                    sent += 1;
                }
                thread::sleep(Duration::from_micros(500));
            }
            Ok(())
        });
        let (mut count, mut first, mut last) = (0, None, start);
        let mut datagram = [0; FULL];
        while next(&to, &mut datagram, || sender.is_finished())? {
            last = Instant::now();
            first.get_or_insert(last);
            count += 1;
        }
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let span = last - first.context("nothing arrived")?;
        // The first datagram only starts the clock.
        Ok(f64::from(count - 1) * bits / span.as_secs_f64())
    })
}

/// Sends one byte back and forth for `span`; returns each round trip.
pub(super) fn round_trips(link: &Link, span: Duration) -> Result<Latencies> {
    let (mut near, mut far) = connect(link)?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            let mut byte = [0];
            while far.read(&mut byte)? > 0 {
                far.write_all(&byte)?;
            }
            Ok(())
        });
        let (start, mut trips) = (Instant::now(), Latencies::new());
        while start.elapsed() < span {
            let began = Instant::now();
            near.write_all(&[1])?;
            near.read_exact(&mut [0])?;
            trips.record(began.elapsed());
        }
        drop(near);
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(trips)
    })
}

/// Sends over TCP at full speed from far to near for `span`; returns bits of content per second.
pub(super) fn stream(link: &Link, span: Duration) -> Result<f64> {
    let (mut near, mut far) = connect(link)?;
    thread::scope(|scope| {
        let start = Instant::now();
        let sender = scope.spawn(move || {
            // It ends when the receiver closes.
            while start.elapsed() < span && far.write_all(&[0; CHUNK]).is_ok() {}
        });
        let (mut received, mut chunk) = (0, vec![0; CHUNK]);
        while start.elapsed() < span {
            let length = near.read(&mut chunk)?;
            ensure!(length > 0 || start.elapsed() >= span, "the stream ended early");
            received += length;
        }
        let bits = received as f64 * 8.0 / start.elapsed().as_secs_f64();
        drop(near);
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(bits)
    })
}

/// The two ends of a TCP connection from near to far.
fn connect(link: &Link) -> Result<(TcpStream, TcpStream)> {
    let listener = link.far.run(|| TcpListener::bind((link.far.address(), 0)))??;
    let address = listener.local_addr()?;
    let near = link.near.run(|| TcpStream::connect(address))??;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
