//! How long a relay takes to start with a store of many messages, and the memory that it takes: after an orderly end, and
//! after it was killed under full load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use super::history::write;
use crate::{
    bare,
    load::PAYLOAD,
    proc,
    relay::Relay,
    report::{Options, Report, Sample},
    wire::{Clients, Session},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Messages that are stored before the first start.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
}

/// Conversations on one connection, which are written at once.
const CONVERSATIONS: u64 = 32;
/// The user that writes.
const USER: &str = "writer";
/// Shortest and longest load before a kill.
const LOAD: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("start", options);
    report.setting("messages", args.messages);
    report.setting("payload_bytes", PAYLOAD);
    let mut relay = Relay::start(options)?;
    let runtime = bare::runtime()?;
    runtime.block_on(fill(&relay, args.messages))?;
    let mut filled = Sample::default();
    filled.push("rss_peak_bytes", proc::memory(relay.pid())?.rss_peak as f64);
    report.add("filled", filled);
    for _ in 0..options.runs() {
        relay.restart(|_| Ok(()))?;
        report.add("stopped", started(&relay)?);
        let load = rand::random_range(LOAD[0]..LOAD[1]);
        let peak = runtime.block_on(async {
            let clients = Clients::new(&relay, CONVERSATIONS as u32)?;
            let session = clients.connect(&relay.token(USER)?).await?;
            let _writers = writers(&session, u64::MAX / CONVERSATIONS).await?;
            sleep(load).await;
            let peak = proc::memory(relay.pid())?.rss_peak;
            relay.crash()?;
            Ok::<_, anyhow::Error>(peak)
        })?;
        let mut killed = started(&relay)?;
        killed.push("before_rss_peak_bytes", peak as f64);
        report.add("killed", killed);
    }
    report.result_of("filled", "rss_peak_bytes");
    for row in ["stopped", "killed"] {
        let longest = report.spread(row, "start_us").context("no run")?.max;
        report.result(format!("{row}_start_max_us"), longest);
    }
    report.note("start_us: from the start of the process until it listens");
    report.note("commands: those that were in the log and not in a checkpoint, and are folded again");
    Ok(report)
}

async fn fill(relay: &Relay, messages: u64) -> Result<()> {
    let clients = Clients::new(relay, CONVERSATIONS as u32)?;
    let session = clients.connect(&relay.token(USER)?).await?;
    let written = writers(&session, messages.div_ceil(CONVERSATIONS)).await?.join_all().await;
    written.into_iter().collect::<Result<Vec<()>>>()?;
    clients.close().await;
    Ok(())
}

/// Writes `messages` to each conversation, as fast as they are accepted.
async fn writers(session: &Session, messages: u64) -> Result<JoinSet<Result<()>>> {
    let mut writers = JoinSet::new();
    for peer in 0..CONVERSATIONS {
        let conversation = session.open_direct(&format!("peer-{peer}"), true).await?;
        writers.spawn(write(conversation, messages, PAYLOAD));
    }
    Ok(writers)
}

/// What the last start of the relay took.
fn started(relay: &Relay) -> Result<Sample> {
    let mut sample = Sample::default();
    sample.push("start_us", relay.started_within.as_secs_f64() * 1e6);
    sample.push("commands", folded_again(&relay.log()?)? as f64);
    let memory = proc::memory(relay.pid())?;
    ensure!(memory.rss_peak > 0, "the relay is gone");
    sample.push("rss_peak_bytes", memory.rss_peak as f64);
    Ok(sample)
}

/// The number that the relay's log gives at a start that found something.
fn folded_again(log: &str) -> Result<u64> {
    let Some(rest) = log.split("commands=").nth(1) else { return Ok(0) };
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().context("the relay's log does not say how many commands were folded again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_how_much_was_folded_again() {
        assert_eq!(
            folded_again("INFO the store has again what was accepted commands=119040\nlistens").unwrap(),
            119_040
        );
        assert_eq!(folded_again("INFO listens").unwrap(), 0);
        assert!(folded_again("INFO commands=many").is_err());
    }
}
