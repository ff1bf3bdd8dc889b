//! What clients feel of strangers whose logins are refused, at a relay whose log nobody reads.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quip_protocol::Code;
use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::latency;
use crate::{
    bare,
    load::Pace,
    relay::Relay,
    report::{Options, Report, Sample},
    wire::Clients,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Refused logins per second, each on a connection of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    refused: u32,
    /// Pairs of one sender and one receiver who are welcome; the rate is shared among them.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages per second, all senders together.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Measured seconds of each row of a run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

const ALONE: &str = "alone";
const BESIDE: &str = "beside strangers";
/// Least share of the refused logins asked for; with fewer, the run is doubtful.
const ENOUGH: f64 = 0.95;
/// Niceness of the strangers' thread, so that on a small machine it does not delay the others.
const NICE: i32 = 10;

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("strangers", options);
    let pace = Pace { rate: args.rate, seconds: args.seconds, warmup: args.warmup };
    report.setting("refused", args.refused);
    report.setting("pairs", args.pairs);
    pace.describe(&mut report);
    for _ in 0..options.runs() {
        report.add(ALONE, alone(args, &pace, options)?);
        report.add(BESIDE, beside(args, &pace, options)?);
    }
    report.result_as("alone_p99_us", ALONE, "p99_us");
    report.result_as("beside_p99_us", BESIDE, "p99_us");
    if let (Some(alone), Some(beside)) = (report.spread(ALONE, "p99_us"), report.spread(BESIDE, "p99_us")) {
        report.result("p99_beside_over_alone", beside.median / alone.median);
    }
    report.note("beside strangers, standard error of the relay is a full pipe that nobody reads");
    report.note("the strangers are lean clients on one socket, which do not check the server's signature");
    Ok(report)
}

fn alone(args: &Args, pace: &Pace, options: &Options) -> Result<Sample> {
    let relay = Relay::start(options)?;
    bare::runtime()?.block_on(latency::run_once(&relay, pace, args.pairs))
}

fn beside(args: &Args, pace: &Pace, options: &Options) -> Result<Sample> {
    let (relay, _unread) = Relay::start_unread(options)?;
    let be_nice = || {
        // Without permission they delay the others, whose lag shows it.
        let _ = rustix::process::setpriority_process(None, NICE);
    };
    let strangers = Builder::new_multi_thread().worker_threads(1).on_thread_start(be_nice).enable_all().build()?;
    let (enough, until) = oneshot::channel();
    let clients = strangers.block_on(async { Clients::crowd(&relay, 1) })?;
    let knocking = strangers.spawn(knock(clients, args.refused, until));
    let mut sample = bare::runtime()?.block_on(latency::run_once(&relay, pace, args.pairs))?;
    // They may have failed by now, which the next line reports.
    let _ = enough.send(());
    let per_second = strangers.block_on(knocking)??;
    sample.push("refused_per_s", per_second);
    if per_second < f64::from(args.refused) * ENOUGH {
        sample.generator_was_limit(format!("{per_second:.0} refused logins a second came about"));
    }
    Ok(sample)
}

/// Strangers, one after the other at an even pace. Gives how many were refused in a second.
async fn knock(clients: Clients, per_second: u32, mut until: oneshot::Receiver<()>) -> Result<f64> {
    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begin, mut knocking, mut refused) = (Instant::now(), JoinSet::new(), 0);
    loop {
        tokio::select! {
            _ = &mut until => break,
            _ = pace.tick() => {
                let clients = clients.clone();
                knocking.spawn(async move { clients.knock("let me in").await });
            }
            Some(code) = knocking.join_next() => {
                ensure!(code?? == Code::UNAUTHENTICATED, "a stranger was not refused");
                refused += 1;
            }
        }
    }
    Ok(f64::from(refused) / begin.elapsed().as_secs_f64())
}
