//! Many recipients of open-loop load: every arrival, and the cost of delivery.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result};
use quinn::Connection;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use crate::{
    check::Tamper,
    load::{DRAIN, Schedule, Sent},
    meter::Usage,
    proc,
    report::Sample,
};

/// Connections per socket of the generator, so that its receive buffer holds what is sent to them at once.
pub(crate) const PER_SOCKET: u32 = 100;
/// Concurrent connects.
const AT_ONCE: usize = 32;
/// How long to wait for excess messages once all have arrived.
const LINGER: Duration = Duration::from_millis(100);
/// Interval of checks whether all have arrived.
const LOOK: Duration = Duration::from_millis(10);

/// The arrival of a message at a recipient.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) recipient: u32,
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

/// All arrivals, in order for each recipient.
struct Arrivals(Mutex<Vec<Arrival>>);

impl Arrivals {
    /// Waits until that many have arrived or time is up, and a little longer for excess messages.
    async fn wait(&self, deliveries: u64, give_up: Instant) {
        while (self.lock().len() as u64) < deliveries && Instant::now() < give_up {
            sleep(LOOK).await;
        }
        sleep(LINGER).await;
    }

    fn take(&self) -> Vec<Arrival> {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records the arrivals of one recipient.
pub(crate) struct Ear {
    recipient: u32,
    tamper: Tamper,
    arrivals: Arc<Arrivals>,
}

impl Ear {
    /// Records message `number`, which arrived now.
    pub(crate) fn hear(&mut self, number: u64) {
        let at = Instant::now();
        let arrived = self.tamper.pass(number).map(|number| Arrival { recipient: self.recipient, number, at });
        self.arrivals.lock().extend(arrived);
    }
}

/// Runs `count` futures, a few at a time, and returns their results in order of completion.
pub(crate) async fn gather<T, F>(count: u32, mut begin: impl FnMut(u32) -> Result<F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (mut done, mut under_way) = (Vec::new(), JoinSet::new());
    for index in 0..count {
        if under_way.len() >= AT_ONCE {
            done.push(under_way.join_next().await.context("some are under way")???);
        }
        under_way.spawn(begin(index)?);
    }
    while let Some(finished) = under_way.join_next().await {
        done.push(finished??);
    }
    Ok(done)
}

/// Connected recipients.
pub(crate) struct Crowd {
    arrivals: Arc<Arrivals>,
    /// The tasks of the recipients; one ends only on an error.
    listening: JoinSet<Error>,
    connections: Vec<Connection>,
    /// UDP ports of the generator.
    ports: Vec<u16>,
    server_port: u16,
    server_pid: u32,
}

impl Crowd {
    /// An empty crowd, with capacity for that many arrivals.
    pub(crate) fn new(server_port: u16, server_pid: u32, arrivals: u64) -> Self {
        let arrivals = Arc::new(Arrivals(Mutex::new(Vec::with_capacity(arrivals as usize))));
        let (listening, connections, ports) = (JoinSet::new(), Vec::new(), Vec::new());
        Self { arrivals, listening, connections, ports, server_port, server_pid }
    }

    /// Counts drops at this port of the generator from now on.
    pub(crate) fn watch(&mut self, port: u16) {
        self.ports.push(port);
    }

    /// Counts what this connection receives and loses from now on.
    pub(crate) fn count(&mut self, connection: Connection) {
        self.connections.push(connection);
    }

    /// Adds a recipient, which listens until an error.
    pub(crate) fn join<F>(&mut self, listen: impl FnOnce(Ear) -> F)
    where
        F: Future<Output = Error> + Send + 'static,
    {
        let ear = Ear { recipient: self.recipients(), tamper: Tamper::default(), arrivals: Arc::clone(&self.arrivals) };
        self.listening.spawn(listen(ear));
    }

    pub(crate) fn recipients(&self) -> u32 {
        self.listening.len() as u32
    }

    /// Runs `sending` until everything has arrived, or time is up.
    pub(crate) async fn attend(
        mut self,
        schedule: &impl Schedule,
        arrivals: u64,
        sending: impl Future<Output = Result<Sent>>,
    ) -> Result<Attended> {
        let before = self.traffic()?;
        let usage = Usage::between(schedule.measured_from(), schedule.end(), self.server_pid);
        let arrived = async {
            sleep_until(schedule.end().into()).await;
            self.arrivals.wait(arrivals, schedule.end() + DRAIN).await;
            anyhow::Ok(())
        };
        let attended = async { tokio::try_join!(sending, usage, arrived) };
        let (sent, usage, ()) = tokio::select! {
            attended = attended => attended?,
            Some(failed) = self.listening.join_next() => return Err(failed?),
        };
        let traffic = self.traffic()?.since(&before);
        Ok(Attended { sent, arrivals: self.arrivals.take(), usage, traffic })
    }

    fn traffic(&self) -> Result<Traffic> {
        Traffic::now(&self.connections, &self.ports, self.server_port)
    }
}

/// The arrivals at a crowd, and their cost.
pub(crate) struct Attended {
    pub(crate) sent: Sent,
    pub(crate) arrivals: Vec<Arrival>,
    usage: Usage,
    traffic: Traffic,
}

impl Attended {
    /// Adds costs by message and by delivery, given the numbers measured and, with the warmup, the number of all deliveries.
    pub(crate) fn add_to(&self, sample: &mut Sample, messages: u64, deliveries: u64, with_warmup: u64) {
        self.traffic.add_to(sample, with_warmup);
        self.usage.add_to(sample, messages);
        per_delivery(sample, &self.usage, deliveries);
    }
}

/// Adds CPU of both sides and bytes per delivery. If the generator needs more CPU, it decides when the last recipient reads.
fn per_delivery(sample: &mut Sample, usage: &Usage, deliveries: u64) {
    let [server, generator] = usage.micros().map(|micros| micros / deliveries.max(1) as f64);
    sample.push("relay_cpu_us_per_delivery", server);
    sample.push("generator_cpu_us_per_delivery", generator);
    sample.push("wire_bytes_per_delivery", usage.wire_bytes_per(deliveries));
    if generator > server {
        sample.doubt(format!(
            "the generator needs {generator:.1} µs for a delivery and the server {server:.1}: the last recipients of a \
             message wait for the generator"
        ));
    }
}

/// Received and lost datagrams so far.
struct Traffic {
    connections: usize,
    datagrams: u64,
    lost_packets: u64,
    drops: u64,
    server_drops: u64,
}

impl Traffic {
    fn now(connections: &[Connection], ports: &[u16], server_port: u16) -> Result<Self> {
        let stats: Vec<_> = connections.iter().map(Connection::stats).collect();
        Ok(Self {
            connections: connections.len(),
            datagrams: stats.iter().map(|stats| stats.udp_rx.datagrams).sum(),
            lost_packets: stats.iter().map(|stats| stats.path.lost_packets).sum(),
            drops: ports.iter().map(|port| proc::udp_drops(*port)).sum::<Result<_>>()?,
            server_drops: proc::udp_drops(server_port)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            connections: self.connections,
            datagrams: self.datagrams - before.datagrams,
            lost_packets: self.lost_packets - before.lost_packets,
            drops: self.drops - before.drops,
            server_drops: self.server_drops - before.server_drops,
        }
    }

    fn add_to(&self, sample: &mut Sample, deliveries: u64) {
        // Connections over TCP, or not counted, have no datagrams.
        if self.connections > 0 {
            sample.push("datagrams_per_delivery", self.datagrams as f64 / deliveries.max(1) as f64);
            sample.push("client_lost_packets", self.lost_packets as f64);
        }
        sample.push("client_receive_drops", self.drops as f64);
        sample.push("server_receive_drops", self.server_drops as f64);
        if self.drops > 0 {
            sample.generator_was_limit(format!("its sockets dropped {} datagrams", self.drops));
        }
        if self.server_drops > 0 {
            sample.doubt(format!(
                "the server's receive buffer was full for {} datagrams, which clients sent again later",
                self.server_drops
            ));
        }
    }
}
