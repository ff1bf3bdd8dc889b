//! `quip-bench link`: an emulated network between two namespaces, for any program or measured by itself.

mod check;
mod probe;

use std::{
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quip_link::{Bottleneck, Burst, Chance, Counts, Direction, Link, Params, QUEUE, Queue, Rate, Reorder};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    guard,
    report::{Options, Report, Sample},
};

/// Lateness of the link at the 99th percentile above which its delays are in doubt.
const LATE: Duration = Duration::from_millis(1);

/// The behaviour of the network, in each direction.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Network {
    /// Round trip time; each direction takes half of it.
    #[arg(long, default_value = "0ms", value_parser = quip_link::duration)]
    pub(crate) rtt: Duration,
    /// Maximum deviation of the one-way delay, uniformly distributed; the order is kept.
    #[arg(long, default_value = "0ms", value_parser = quip_link::duration)]
    pub(crate) jitter: Duration,
    /// Chance of packet loss; a list (0,0.5%,2%) only for scenarios that compare.
    #[arg(long, default_value = "0%", value_delimiter = ',')]
    pub(crate) loss: Vec<Chance>,
    /// Loss in bursts: per packet the chance to enter a burst, to leave it, and of loss within
    /// [default: 100%].
    #[arg(long, value_name = "ENTER,LEAVE[,LOSS]")]
    pub(crate) burst: Option<Burst>,
    /// Chance of a packet to be held back behind later ones, and for how long [default: 5ms].
    #[arg(long, value_name = "CHANCE[,TIME]")]
    pub(crate) reorder: Option<Reorder>,
    /// Chance of a packet to be duplicated.
    #[arg(long, default_value = "0%")]
    pub(crate) duplicate: Chance,
    /// Seed; it decides the fate of the i-th packet in each direction.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Network {
    pub(crate) fn params(&self) -> Params {
        let Self { rtt, jitter, burst, reorder, duplicate, .. } = *self;
        let loss = self.loss.first().copied().unwrap_or(Chance::NEVER);
        Params { delay: rtt / 2, jitter, loss, burst, reorder, duplicate, bottleneck: None }
    }

    /// One network for each loss.
    pub(crate) fn by_loss(&self) -> Vec<Self> {
        self.loss.iter().map(|loss| Self { loss: vec![*loss], ..self.clone() }).collect()
    }

    /// Mean loss in percent.
    pub(crate) fn loss_percent(&self) -> f64 {
        self.params().mean_loss() * 100.0
    }

    pub(crate) fn describe(&self, report: &mut Report) {
        report.setting("rtt_ms", self.rtt.as_secs_f64() * 1e3);
        report.setting("jitter_ms", self.jitter.as_secs_f64() * 1e3);
        let losses: Vec<f64> = self.by_loss().iter().map(Self::loss_percent).collect();
        report.setting("loss_percent", if let [loss] = *losses { json!(loss) } else { json!(losses) });
        report.setting("loss_in_bursts", self.burst.is_some());
        report.setting("seed", self.seed);
    }
}

/// Runs a program behind an emulated network, or measures the network.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    network: Network,
    /// Rate of the bottleneck, such as 20mbit.
    #[arg(long)]
    rate: Option<Rate>,
    /// Queue of the bottleneck, as a time or in bytes such as 64kb [default: 50ms].
    #[arg(long, requires = "rate")]
    queue: Option<Queue>,
    /// Measure the link with real UDP and TCP, and compare with the parameters.
    #[arg(long, conflicts_with = "command")]
    check: bool,
    /// Seconds of each part of the check.
    #[arg(long, default_value_t = 3.0, requires = "check")]
    seconds: f64,
    /// Command to run on the near side. QUIP_LINK_ADDRESS is its address, QUIP_LINK_PEER that of the far side, and
    /// `nsenter --net=$QUIP_LINK_PEER_NET` runs a command there.
    #[arg(last = true, required_unless_present = "check")]
    command: Vec<String>,
}

impl Args {
    fn params(&self) -> Params {
        let bottleneck = self.rate.map(|rate| Bottleneck { rate, queue: self.queue.unwrap_or(QUEUE) });
        Params { bottleneck, ..self.network.params() }
    }
}

/// Returns the program's exit code.
pub(crate) fn run(args: &Args, options: &Options) -> Result<ExitCode> {
    ensure!(args.network.loss.len() == 1, "a link has one loss; only `hol` compares several");
    if args.check {
        check::run(args, options)?.print(options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let link = Link::start(&args.params(), args.network.seed)?;
    let code = run_command(&link, &args.command, options.json)?;
    let mut report = report(args, &Options { runs: Some(1), ..options.clone() });
    add_counts(&mut report, &link)?;
    if options.json {
        report.print(options)?;
    } else {
        // Standard output is the program's.
        eprint!("{}", report.to_text());
    }
    Ok(code)
}

fn report(args: &Args, options: &Options) -> Report {
    let mut report = Report::new("link", options);
    args.network.describe(&mut report);
    report.setting("rate_bit_per_s", args.rate.map(Rate::get));
    report
}

fn run_command(link: &Link, command: &[String], json: bool) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command to run")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("QUIP_LINK_ADDRESS", link.near.address().to_string())
        .env("QUIP_LINK_PEER", link.far.address().to_string())
        .env("QUIP_LINK_PEER_NET", link.far.path());
    if json {
        command.stdout(Stdio::from(std::io::stderr()));
    }
    let started = guard::start(None, Signal::KILL, || link.near.spawn(&mut command));
    let mut child = started.with_context(|| format!("cannot run {program}"))?;
    let status = child.wait();
    guard::release(&child);
    // A program that a signal ended has no exit code.
    Ok(status?.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8)))
}

/// Adds what the link did to each direction as a row.
pub(crate) fn add_counts(report: &mut Report, link: &Link) -> Result<()> {
    for (direction, row) in Direction::BOTH.into_iter().zip(["link up", "link down"]) {
        report.add(row, sample(&link.counts(direction)?));
    }
    Ok(())
}

fn sample(counts: &Counts) -> Sample {
    let mut sample = Sample::default();
    for (name, count) in [
        ("packets", counts.packets),
        ("packet_bytes", counts.bytes),
        ("delivered", counts.delivered),
        ("lost", counts.lost),
        ("lost_in_burst", counts.lost_in_burst),
        ("queue_full", counts.queue_full),
        ("duplicated", counts.duplicated),
        ("held_back", counts.held_back),
        ("kernel_dropped", counts.kernel_dropped),
        ("too_many_under_way", counts.too_many_under_way),
    ] {
        sample.push(name, count as f64);
    }
    let late = |quantile| counts.lateness.quantile(quantile).as_secs_f64() * 1e6;
    sample.push("late_p50_us", late(0.5));
    sample.push("late_p99_us", late(0.99));
    sample.push("late_max_us", counts.lateness.max().as_secs_f64() * 1e6);
    doubt(counts, &mut sample);
    sample
}

/// Marks a run in which the link did something that was not asked for.
pub(crate) fn doubt(counts: &Counts, sample: &mut Sample) {
    let unasked = counts.kernel_dropped + counts.too_many_under_way;
    if unasked > 0 {
        sample.doubt(format!("{unasked} packets were dropped unintentionally"));
    }
    let late = counts.lateness.quantile(0.99);
    if late > LATE {
        sample.doubt(format!("the link delivered {late:?} late at p99"));
    }
}
