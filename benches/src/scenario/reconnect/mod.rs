//! A reconnect storm: many clients disconnect at once, reconnect at once, and catch up on what they missed.
//!
//! Each client has one conversation, in which it has received one message. While it is away, others write to it. It reconnects
//! as the client library does: a new connection after a pause with jitter, `Hello` with its device and instance, `Open` at its
//! cursor. The clients are the harness's own lean ones, because thousands of full clients do not fit on a small machine
//! together with the relay. They share a few sockets, and do not check the server's signature in the handshake.
//!
//! * `--cut relay`: the relay is killed with a message to each client under way and restarted. Writers reconnect first and
//!   learn what was accepted. The storm begins when they are done, so that the relay has started.
//! * `--cut clients`: the relay keeps running, and still considers the lost clients connected.

mod flock;
mod floor;
mod member;
mod storm;
mod talk;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use self::{
    flock::Flock,
    floor::LULL,
    storm::{Storm, Watch},
    talk::Talkers,
};
use crate::{
    load::Pace,
    relay::Relay,
    report::{Options, Report, Sample},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Clients that disconnect and reconnect.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// What breaks.
    #[arg(long, value_enum, default_value_t = Cut::Relay)]
    cut: Cut,
    /// Bound of a client's first pause, which doubles with each failure; the default is that of the client library.
    #[arg(long, default_value = "100ms", value_parser = quip_link::duration)]
    jitter: Duration,
    /// Messages that each client misses.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    missed: u64,
    /// Other clients, half of them senders, active before and during the storm; needs --cut clients.
    #[arg(long, default_value_t = 0)]
    talking: u32,
    /// Messages per second of these clients, all together.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Seconds of their load without a storm, and at least with it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Cut {
    /// The relay is killed and started again.
    Relay,
    /// All clients lose their network at once.
    Clients,
}

const FIRST: &str = "first message";
const WELCOMES: &str = "welcomes";
const BARE: &str = "bare";
const STORM: &str = "storm";
const ALONE: &str = "talking alone";
const BESIDE: &str = "talking in the storm";
/// Slowest pace of a storm that the load of the talking clients covers, in clients per second.
const SLOWEST: f64 = 400.0;
/// Seconds of load before its measured part.
const WARMUP: f64 = 0.5;
/// Niceness of the reconnecting clients' thread, so that on a small machine it does not delay the talking clients.
const NICE: i32 = 10;

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    ensure!(args.talking == 0 || args.cut == Cut::Clients, "--talking needs --cut clients");
    ensure!(args.talking.is_multiple_of(2), "--talking {} is odd: clients talk in pairs", args.talking);
    let mut report = Report::new("reconnect", options);
    report.setting("clients", args.clients);
    report.setting("cut", args.cut.to_possible_value().map(|cut| cut.get_name().to_owned()));
    report.setting("jitter_ms", args.jitter.as_secs_f64() * 1e3);
    report.setting("missed", args.missed);
    report.setting("talking", args.talking);
    if args.talking > 0 {
        report.setting("rate", args.rate);
        report.setting("seconds", args.seconds);
    }
    for _ in 0..options.runs() {
        measure_floor(args, options, &mut report)?;
        measure_storm(args, options, &mut report)?;
    }
    results(&mut report);
    Ok(report)
}

fn results(report: &mut Report) {
    let median = |report: &Report, row, metric| report.spread(row, metric).map(|spread| spread.median);
    let ratio = |top: Option<f64>, bottom: Option<f64>| top.zip(bottom).map(|(top, bottom)| top / bottom);
    let rates = [median(report, WELCOMES, "welcomes_per_s"), median(report, BARE, "bare_handshakes_per_s")];
    let cpu = [median(report, BARE, "bare_cpu_us_per_handshake"), median(report, WELCOMES, "relay_cpu_us_per_welcome")];
    let found = [
        ("welcomes_per_s", rates[0]),
        ("bare_handshakes_per_s", rates[1]),
        ("welcomes_over_bare", ratio(rates[0], rates[1])),
        ("bare_cpu_over_welcome_cpu", ratio(cpu[0], cpu[1])),
        ("relay_cpu_us_per_welcome", cpu[1]),
        ("first_message_p50_us", median(report, FIRST, "p50_us")),
        ("all_back_ms", median(report, STORM, "all_back_ms")),
        ("all_caught_up_ms", median(report, STORM, "all_caught_up_ms")),
        ("storm_welcomes_per_s", median(report, STORM, "welcomes_per_s")),
        ("talking_alone_p99_us", median(report, ALONE, "p99_us")),
        ("talking_storm_p99_us", median(report, BESIDE, "p99_us")),
    ];
    for (name, value) in found {
        value.into_iter().for_each(|value| report.result(name, value));
    }
    report
        .note("welcomes and bare: handshakes alone, with Hello and Welcome at the relay; storm: with catching up too");
    report.note(
        "where the generator is the limit, a rate is that of the generator; CPU per handshake shows what the server could do",
    );
    report.note("lean clients on shared sockets, which do not check the server's signature; no TLS session is resumed");
}

/// First messages and handshakes alone, at a new relay, and handshakes at the bare forwarder.
fn measure_floor(args: &Args, options: &Options, report: &mut Report) -> Result<()> {
    let relay = Relay::start(options)?;
    let runtime = thread(0)?;
    report.add(FIRST, runtime.block_on(floor::first_message(&relay))?);
    report.add(WELCOMES, runtime.block_on(floor::welcomes(&relay, args.clients, args.jitter))?);
    report.add(BARE, runtime.block_on(floor::bare(args.clients, args.jitter))?);
    Ok(())
}

/// The storm at a new relay, with or without talking clients.
fn measure_storm(args: &Args, options: &Options, report: &mut Report) -> Result<()> {
    let mut relay = Relay::start(options)?;
    let (flocks, talks) = (thread(if args.talking > 0 { NICE } else { 0 })?, thread(0)?);
    let mut flock = flocks.block_on(Flock::gather(&relay, args.clients))?;
    let mut talkers = None;
    if args.talking > 0 {
        let fresh = talks.block_on(async { Talkers::new(&relay, args.talking / 2) })?;
        let (connected, talk) = flocks.block_on(talk_alone(talks.handle(), fresh, args))?;
        report.add(ALONE, talk);
        talkers = Some(connected);
    }
    flocks.block_on(lose(&mut flock, &mut relay, args))?;
    let Stormed { storm, beside } = flocks.block_on(weather(&mut flock, &relay, args, talks.handle(), talkers))?;
    report.add(STORM, storm);
    beside.into_iter().for_each(|sample| report.add(BESIDE, sample));
    Ok(())
}

/// A runtime on one thread with this niceness.
fn thread(nice: i32) -> Result<Runtime> {
    let be_nice = move || {
        // Without permission it delays the talking clients, which their lag shows.
        let _ = rustix::process::setpriority_process(None, nice);
    };
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all();
    if nice > 0 {
        builder.on_thread_start(be_nice);
    }
    Ok(builder.build()?)
}

async fn talk_alone(talks: &Handle, talkers: Talkers, args: &Args) -> Result<(Talkers, Sample)> {
    let pace = Pace { rate: args.rate, seconds: args.seconds, warmup: WARMUP };
    let connected = talks.spawn(talkers.connect()).await??;
    let (begin, begun) = oneshot::channel();
    let talking = talks.spawn(connected.talk(pace, begin));
    let plan = begun.await?;
    let (talkers, talk) = talking.await??;
    Ok((talkers, talk.sample(plan.measured_from(), plan.end())))
}

/// Makes the cut, and writes what the members miss.
async fn lose(flock: &mut Flock, relay: &mut Relay, args: &Args) -> Result<()> {
    match args.cut {
        Cut::Clients => flock.lose_members()?,
        Cut::Relay => flock.lose_relay(relay).await?,
    }
    flock.post(args.missed).await
}

/// Samples of a storm and of the talking clients.
struct Stormed {
    storm: Sample,
    beside: Option<Sample>,
}

async fn weather(
    flock: &mut Flock,
    relay: &Relay,
    args: &Args,
    talks: &Handle,
    talkers: Option<Talkers>,
) -> Result<Stormed> {
    let seconds = args.seconds.max(f64::from(args.clients) / SLOWEST);
    let mut start = Instant::now() + LULL;
    let mut talking = None;
    if let Some(talkers) = talkers {
        let (begin, begun) = oneshot::channel();
        talking = Some(talks.spawn(talkers.talk(Pace { rate: args.rate, seconds, warmup: WARMUP }, begin)));
        start = begun.await?.measured_from();
    }
    let storm = Storm { start, jitter: args.jitter };
    let watch = Watch::start(storm, relay.pid(), relay.address.port());
    let (times, watch) = tokio::try_join!(flock.come_back(relay, storm), watch)?;
    let over = Instant::now();
    let (usage, dropped) = watch.finish()?;
    let mut beside = None;
    if let Some(talking) = talking {
        let (_, talk) = talking.await??;
        beside = Some(talk.sample(start, over));
    }
    // One more message shows that all streams work, and reveals earlier duplicates.
    flock.post(1).await?;
    flock.read().await?;
    let mut sample = Sample::default();
    storm::push(&mut sample, "welcomes_per_s", times.iter().map(|times| (times.welcomed, times.failed)));
    let caught_up = times.iter().map(|times| times.caught_up).max().unwrap_or_default();
    sample.push("all_caught_up_ms", caught_up.as_secs_f64() * 1e3);
    if beside.is_none() {
        sample.push("relay_cpu_us_per_welcome", usage.server_micros_per(times.len() as u64));
    }
    sample.push("kernel_drops_at_server", dropped as f64);
    flock.faults().add_to(&mut sample);
    usage.add_to(&mut sample, 0);
    Ok(Stormed { storm: sample, beside })
}
