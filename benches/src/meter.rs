//! Who used the processors while a run was measured, and the server's memory at its end.

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

/// CPU time within a span, and memory at its end.
pub(crate) struct Usage {
    span: Duration,
    generator: Duration,
    server: Duration,
    machine: Duration,
    memory: Memory,
}

impl Usage {
    /// Waits until `from`, then until `to`, and says what was used in between.
    pub(crate) async fn between(from: Instant, to: Instant, server_pid: u32) -> Result<Self> {
        let times = || -> Result<_> {
            let own = proc::cpu_time(process::id())?;
            Ok((own, proc::cpu_time(server_pid)?, proc::machine_busy()?))
        };
        sleep_until(from.into()).await;
        let (started, before) = (Instant::now(), times()?);
        sleep_until(to.into()).await;
        let after = times()?;
        Ok(Self {
            span: started.elapsed(),
            generator: after.0 - before.0,
            server: after.1 - before.1,
            machine: after.2.saturating_sub(before.2),
            memory: proc::memory(server_pid)?,
        })
    }

    /// Adds shares of one core, CPU time per message and memory to a run.
    pub(crate) fn add_to(&self, sample: &mut Sample, messages: u64) {
        let percent = |time: Duration| 100.0 * time.as_secs_f64() / self.span.as_secs_f64();
        let generator = percent(self.generator);
        let other = percent(self.machine.saturating_sub(self.generator + self.server));
        if messages > 0 {
            let per_message = self.server.as_micros() as f64 / messages as f64;
            sample.push("server_cpu_us_per_message", per_message);
        }
        sample.push("server_cpu_percent", percent(self.server));
        sample.push("generator_cpu_percent", generator);
        sample.push("other_cpu_percent", other);
        sample.push("server_rss_bytes", self.memory.rss as f64);
        sample.push("server_rss_peak_bytes", self.memory.rss_peak as f64);
        if generator > GENERATOR_CPU_LIMIT {
            sample.generator_was_limit(format!("it used {generator:.0} % of its one core"));
        }
        if other > OTHER_CPU_LIMIT {
            sample.doubt(format!("other processes used {other:.0} % of a core"));
        }
    }
}
