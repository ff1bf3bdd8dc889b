//! Head-of-line blocking: one client with eight conversations behind a lossy link. One conversation carries a bulk
//! catch-up; the latency of the seven quiet ones is measured.
//!
//! All rows have the same relay, senders, messages and link seed. They differ in the transport of the conversations over
//! the link.
//! * `quip`: the relay itself, a QUIC stream for each conversation.
//! * `one stream`: a multiplexer next to the relay that sends all conversations on one QUIC stream.
//! * `tcp`: the same multiplexer on a TCP connection with TLS 1.3.
//! * `tcp, full buffer`: like most programs, which write until the kernel's buffer is full.
//!
//! * `nats` (only with `--systems`): NATS instead of the relay; its client uses one TCP connection. Quiet messages are not
//!   stored.
//!
//! Except for `tcp, full buffer`, a multiplexer is the best case of its kind: quiet messages overtake the bulk as late as
//! possible, because at most [`transport::UNSENT`] bytes wait for the congestion window.

mod mux;
mod nats;
mod quip;
mod stage;
mod transport;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use quip_link::{Direction, Link};
use tokio::{task::JoinSet, time::sleep_until};

use self::stage::{QUIET, Stage};
use crate::{
    bare,
    link::{self, Network},
    load::{self, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    peer,
    plot::{self, Axis, Chart, Line, Scale, Style},
    report::{Options, Report, Sample},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    network: Network,
    /// Messages per second of the quiet conversations, all together.
    #[arg(long, default_value_t = 140.0)]
    rate: f64,
    /// Measured seconds of each row and run.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// The kernel's congestion control for TCP; QUIC uses cubic.
    #[arg(long, default_value = "cubic")]
    tcp: String,
    /// Systems, separated by commas; `nats` must be installed (`benches/peers.sh`).
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = SYSTEMS)]
    systems: Vec<System>,
}

/// The transport of the conversations over the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    Quip,
    OneStream,
    Tcp,
    TcpFull,
    Nats,
}

/// Names of a system's rows and results in the report.
struct Names {
    alone: &'static str,
    bulk: &'static str,
    over_own: [&'static str; 3],
    over_quip: &'static str,
}

const SYSTEMS: [System; 4] = [System::Quip, System::OneStream, System::Tcp, System::TcpFull];
const PERCENTILES: [&str; 3] = ["p50_us", "p90_us", "p99_us"];

impl System {
    /// Whether it is installed.
    fn is_here(self) -> Result<()> {
        match self {
            Self::Nats => peer::nats::Client::is_here(),
            _ => Ok(()),
        }
    }

    fn names(self) -> Names {
        match self {
            Self::Quip => Names {
                alone: "quip",
                bulk: "quip + bulk",
                over_own: ["quip_p50_over_own", "quip_p90_over_own", "quip_p99_over_own"],
                over_quip: "quip_p99_over_quip",
            },
            Self::OneStream => Names {
                alone: "one stream",
                bulk: "one stream + bulk",
                over_own: ["one_stream_p50_over_own", "one_stream_p90_over_own", "one_stream_p99_over_own"],
                over_quip: "one_stream_p99_over_quip",
            },
            Self::Tcp => Names {
                alone: "tcp",
                bulk: "tcp + bulk",
                over_own: ["tcp_p50_over_own", "tcp_p90_over_own", "tcp_p99_over_own"],
                over_quip: "tcp_p99_over_quip",
            },
            Self::TcpFull => Names {
                alone: "tcp, full buffer",
                bulk: "tcp, full buffer + bulk",
                over_own: ["tcp_full_p50_over_own", "tcp_full_p90_over_own", "tcp_full_p99_over_own"],
                over_quip: "tcp_full_p99_over_quip",
            },
            Self::Nats => Names {
                alone: "nats",
                bulk: "nats + bulk",
                over_own: ["nats_p50_over_own", "nats_p90_over_own", "nats_p99_over_own"],
                over_quip: "nats_p99_over_quip",
            },
        }
    }
}

impl Args {
    fn pace(&self) -> Pace {
        Pace { rate: self.rate, seconds: self.seconds, warmup: self.warmup }
    }

    /// The available systems, and why the others are missing.
    fn present(&self) -> (Vec<System>, Vec<String>) {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for system in self.systems.iter().copied() {
            match system.is_here() {
                Ok(()) => present.push(system),
                Err(error) => absent.push(format!("{}: {error:#}", system.names().alone)),
            }
        }
        (present, absent)
    }

    /// The name of a row; it includes the loss if there are several.
    fn row(&self, name: &str, network: &Network) -> String {
        if self.network.loss.len() == 1 { name.to_owned() } else { format!("{name} at {} %", percent(network)) }
    }

    fn result(&self, name: &str, network: &Network) -> String {
        if self.network.loss.len() == 1 { name.to_owned() } else { format!("{name}_at_{}", percent(network)) }
    }
}

/// Loss in percent, without rounding errors.
fn percent(network: &Network) -> f64 {
    (network.loss_percent() * 1000.0).round() / 1000.0
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("hol", options);
    args.network.describe(&mut report);
    report.setting("rate", args.rate);
    report.setting("seconds", args.seconds);
    report.setting("tcp_congestion_control", args.tcp.as_str());
    report.setting("systems", args.systems.iter().map(|system| system.names().alone).collect::<Vec<_>>());
    let networks = args.network.by_loss();
    let (systems, absent) = args.present();
    absent.into_iter().for_each(|why| report.note(why));
    for run in 0..options.runs() {
        for (network, system) in
            networks.iter().flat_map(|network| systems.iter().map(move |system| (network, *system)))
        {
            let Names { alone, bulk, .. } = system.names();
            report.add(&args.row(alone, network), measure(args, options, run, network, system, false)?);
            report.add(&args.row(bulk, network), measure(args, options, run, network, system, true)?);
        }
    }
    networks.iter().try_for_each(|network| results(args, network, &systems, &mut report))?;
    report.chart(against_loss(args, &networks, &systems, &report));
    report.note(
        "latency is from the intended send time beside the relay to receipt behind the link, including the commit",
    );
    report.note("every run has another seed of the link; all rows of a run have the same");
    Ok(report)
}

/// The effect of the bulk on each system, and the differences between the systems.
fn results(args: &Args, network: &Network, systems: &[System], report: &mut Report) -> Result<()> {
    let median = |report: &Report, row, metric| -> Result<f64> {
        let row = args.row(row, network);
        Ok(report.spread(&row, metric).with_context(|| format!("no {metric} of {row}"))?.median)
    };
    for system in systems {
        let Names { alone, bulk, over_own, .. } = system.names();
        for (name, metric) in over_own.into_iter().zip(PERCENTILES) {
            let over = median(report, bulk, metric)? / median(report, alone, metric)?;
            report.result(args.result(name, network), over);
        }
    }
    let p99 = |report: &Report, system: System| median(report, system.names().bulk, "p99_us");
    if !systems.contains(&System::Quip) {
        return Ok(());
    }
    let quip = p99(report, System::Quip)?;
    for system in systems.iter().filter(|system| **system != System::Quip) {
        report.result(args.result(system.names().over_quip, network), p99(report, *system)? / quip);
    }
    Ok(())
}

/// Latency by loss for each system with the bulk; only with several losses.
fn against_loss(args: &Args, networks: &[Network], systems: &[System], report: &Report) -> Chart {
    let line = |system: System, metric: &str, name: &str| {
        let Names { bulk, .. } = system.names();
        let point = |network| Some((percent(network), report.spread(&args.row(bulk, network), metric)?.median));
        let points = networks.iter().filter_map(point).collect();
        Line { name: format!("{bulk}, {name}"), points, style: Style::Joined }
    };
    let lines = systems.iter().flat_map(|system| [line(*system, "p50_us", "p50"), line(*system, "p99_us", "p99")]);
    Chart {
        name: "hol-loss".to_owned(),
        title: "Quiet conversations beside a bulk: latency against loss".to_owned(),
        x: Axis { label: "packets lost in %", scale: Scale::Linear },
        y: plot::LATENCY,
        lines: lines.collect(),
    }
}

/// The result of a row.
struct Heard {
    lanes: Vec<(Plan, Sent, Received)>,
    usage: Usage,
    /// Bytes per second.
    bulk_rate: f64,
}

/// One row of one run, on a new link and a new server.
fn measure(args: &Args, options: &Options, run: u32, network: &Network, system: System, bulk: bool) -> Result<Sample> {
    let link = Link::start(&network.params(), network.seed + u64::from(run))?;
    let pace = args.pace();
    let relayed = |carriage| bare::runtime()?.block_on(run_once(args, &link, carriage, bulk, options));
    let Heard { lanes, usage, bulk_rate } = match system {
        System::Quip => relayed(Carriage::Streams)?,
        System::OneStream => relayed(Carriage::OneStream)?,
        System::Tcp => relayed(Carriage::Tcp { unsent: Some(transport::UNSENT) })?,
        System::TcpFull => relayed(Carriage::Tcp { unsent: None })?,
        System::Nats => nats::run(&link, &pace, &args.tcp, bulk, options)?,
    };
    let mut sample = load::summarise(&pace, &lanes);
    sample.push("bulk_bytes_per_s", bulk_rate);
    usage.add_to(&mut sample, load::measured(&lanes));
    if bulk && bulk_rate == 0.0 {
        sample.doubt("no bulk data arrived".to_owned());
    }
    for direction in Direction::BOTH {
        link::doubt(&link.counts(direction)?, &mut sample);
    }
    Ok(sample)
}

/// How the relay's conversations get over the link.
#[derive(Clone, Copy)]
enum Carriage {
    Streams,
    OneStream,
    Tcp { unsent: Option<u32> },
}

async fn run_once(args: &Args, link: &Link, carriage: Carriage, bulk: bool, options: &Options) -> Result<Heard> {
    let stage = &Stage::new(link, options).await?;
    let listener = Listener::connect(stage, carriage, &args.tcp).await?;
    let talkers = stage.talkers().await?;
    let pace = args.pace();
    let start = Instant::now() + SETTLE;
    let plans: Vec<Plan> = (0..QUIET).map(|lane| Plan::lane(&pace, start, lane, QUIET)).collect();
    let caught_up = Arc::new(AtomicU64::new(0));
    let mut talking = JoinSet::new();
    for (lane, (plan, talker)) in plans.iter().copied().zip(talkers).enumerate() {
        talking.spawn(async move { anyhow::Ok((lane, talker.talk(plan).await?)) });
    }
    let whole = plans[0];
    let (received, usage, bulk_rate) = tokio::try_join!(
        listener.receive(&plans, bulk.then(|| Arc::clone(&caught_up))),
        Usage::between(whole.measured_from(), whole.end(), stage.relay.pid()),
        rate(&caught_up, whole),
    )?;
    let mut sent: Vec<_> = talking.join_all().await.into_iter().collect::<Result<_>>()?;
    sent.sort_by_key(|(lane, _)| *lane);
    let lanes = plans.into_iter().zip(sent).zip(received).map(|((plan, (_, sent)), got)| (plan, sent, got));
    Ok(Heard { lanes: lanes.collect(), usage, bulk_rate })
}

/// Bytes per second of the bulk while the quiet conversations are measured.
async fn rate(caught_up: &AtomicU64, plan: Plan) -> Result<f64> {
    sleep_until(plan.measured_from().into()).await;
    let (from, before) = (Instant::now(), caught_up.load(Ordering::Relaxed));
    sleep_until(plan.end().into()).await;
    let bytes = caught_up.load(Ordering::Relaxed) - before;
    Ok(bytes as f64 / from.elapsed().max(Duration::from_millis(1)).as_secs_f64())
}

/// The client behind the link, connected and with its quiet conversations open.
enum Listener {
    Quip(quip::Listener),
    Muxed(mux::Listener),
}

impl Listener {
    async fn connect(stage: &Stage<'_>, carriage: Carriage, tcp: &str) -> Result<Self> {
        let ends = match carriage {
            Carriage::Streams => return Ok(Self::Quip(quip::Listener::connect(stage).await?)),
            Carriage::OneStream => transport::one_stream(stage).await?,
            Carriage::Tcp { unsent } => transport::tcp(stage, tcp, unsent).await?,
        };
        Ok(Self::Muxed(mux::Listener::new(stage, ends).await?))
    }

    /// Receives what the plans send; with `bulk`, which counts its bytes, during a catch-up.
    async fn receive(self, plans: &[Plan], bulk: Option<Arc<AtomicU64>>) -> Result<Vec<Received>> {
        match self {
            Self::Quip(listener) => listener.receive(plans, bulk).await,
            Self::Muxed(listener) => listener.receive(plans, bulk).await,
        }
    }
}
