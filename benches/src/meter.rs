//! CPU usage during a run, and the server's memory at its end.

use std::{
    process,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::sleep_until;

use crate::{
    proc::{self, Memory},
    report::Sample,
};

/// Above this share of one core, in percent, the single-threaded generator counts as the limit.
const GENERATOR_CPU_LIMIT: f64 = 90.0;
/// Above this share of one core, in percent, other processes put a run in doubt.
const OTHER_CPU_LIMIT: f64 = 15.0;

/// CPU times at the start of a span.
pub(crate) struct Meter {
    server_pid: u32,
    at: Instant,
    generator: Duration,
    server: Duration,
    machine: Duration,
    wire: u64,
}

/// CPU time within a span, and the server's memory at its end.
pub(crate) struct Usage {
    span: Duration,
    generator: Duration,
    server: Duration,
    machine: Duration,
    memory: Memory,
    /// Bytes of all IP packets.
    wire: u64,
}

impl Meter {
    /// Starts a span; `server_pid` is the server, whose processes count too, and this process is the generator.
    pub(crate) fn start(server_pid: u32) -> Result<Self> {
        let generator = proc::cpu_time(process::id())?;
        let (server, machine) = (proc::cpu_time_of_all(server_pid)?, proc::machine_busy()?);
        Ok(Self { server_pid, at: Instant::now(), generator, server, machine, wire: proc::ip_bytes_sent()? })
    }

    /// Ends the span.
    pub(crate) fn finish(self) -> Result<Usage> {
        let after = Self::start(self.server_pid)?;
        Ok(Usage {
            span: after.at - self.at,
            generator: after.generator - self.generator,
            server: after.server.saturating_sub(self.server),
            machine: after.machine.saturating_sub(self.machine),
            memory: proc::memory_of_all(self.server_pid)?,
            wire: after.wire - self.wire,
        })
    }
}

impl Usage {
    /// Measures the usage from `from` to `to`.
    pub(crate) async fn between(from: Instant, to: Instant, server_pid: u32) -> Result<Self> {
        sleep_until(from.into()).await;
        let meter = Meter::start(server_pid)?;
        sleep_until(to.into()).await;
        meter.finish()
    }

    /// CPU time of the server and of the generator, in microseconds.
    pub(crate) fn micros(&self) -> [f64; 2] {
        [self.server, self.generator].map(|time| time.as_micros() as f64)
    }

    /// Adds [`Self::wire_bytes_per`] message.
    pub(crate) fn add_wire_to(&self, sample: &mut Sample, messages: u64) {
        if messages > 0 {
            sample.push("wire_bytes_per_message", self.wire_bytes_per(messages));
        }
    }

    /// Bytes over loopback per `count`, with headers and acknowledgements, in both directions. Packets of other processes count
    /// too.
    pub(crate) fn wire_bytes_per(&self, count: u64) -> f64 {
        self.wire as f64 / count.max(1) as f64
    }

    /// Adds shares of one core, CPU time per message and memory to a run.
    pub(crate) fn add_to(&self, sample: &mut Sample, messages: u64) {
        if messages > 0 {
            sample.push("server_cpu_us_per_message", self.server_micros_per(messages));
        }
        let generator = self.percent(self.generator);
        sample.push("server_cpu_percent", self.percent(self.server));
        sample.push("generator_cpu_percent", generator);
        self.add_others_to(sample, self.generator + self.server);
        sample.push("server_rss_bytes", self.memory.rss as f64);
        sample.push("server_rss_peak_bytes", self.memory.rss_peak as f64);
        if generator > GENERATOR_CPU_LIMIT {
            sample.generator_was_limit(format!("it used {generator:.0} % of its one core"));
        }
    }

    /// The server's CPU time per `count`, in microseconds.
    pub(crate) fn server_micros_per(&self, count: u64) -> f64 {
        self.server.as_micros() as f64 / count.max(1) as f64
    }

    /// Adds only the CPU usage of other processes, for a run without a server.
    pub(crate) fn add_alone_to(&self, sample: &mut Sample) {
        self.add_others_to(sample, self.generator);
    }

    fn add_others_to(&self, sample: &mut Sample, ours: Duration) {
        let other = self.percent(self.machine.saturating_sub(ours));
        sample.push("other_cpu_percent", other);
        if other > OTHER_CPU_LIMIT {
            sample.doubt(format!("other processes used {other:.0} % of a core"));
        }
    }

    fn percent(&self, time: Duration) -> f64 {
        100.0 * time.as_secs_f64() / self.span.as_secs_f64()
    }
}
