//! Durable one-to-one delivery, compared with the floors measured at the same time: bare forwarder and commit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{ToClient, event::kind};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout_at};

use crate::{
    bare, commit,
    framing::Framing,
    load::{self, PAYLOAD, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    plot::{self, Axis, Chart, Line, Scale, Style},
    relay::Relay,
    report::{Options, Report, Sample},
    stats::Latencies,
    wire::{Clients, Conversation, Poster, Reader, Session},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs of one sender and one receiver; the rate is shared among them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages per second, all senders together; a list gives rows for each rate.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    rate: Vec<f64>,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

impl Args {
    fn paces(&self) -> impl Iterator<Item = Pace> {
        let Self { seconds, warmup, .. } = *self;
        self.rate.iter().map(move |rate| Pace { rate: *rate, seconds, warmup })
    }

    /// The name of a row or result; it includes the rate if there are several.
    fn named(&self, name: &str, rate: f64, between: &str) -> String {
        if self.rate.len() == 1 { name.to_owned() } else { format!("{name}{between}{rate}") }
    }

    fn row(&self, name: &str, rate: f64) -> String {
        self.named(name, rate, " at ")
    }
}

/// Maximum seconds of each run of the commit floor.
const COMMIT: f64 = 2.0;
const QUIP: &str = "quip";
const BARE: &str = "bare";
const FLOOR: &str = "commit";
const FASTEST: &str = "commit, back to back";
const OVER: &str = "quip - (bare + commit)";
/// Maximum commits of the floor per second; more would be back to back.
const MOST_PACED: f64 = 2000.0;

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("latency", options);
    report.setting("pairs", args.pairs);
    match *args.rate {
        [_] => args.paces().for_each(|pace| pace.describe(&mut report)),
        _ => {
            report.setting("rates", args.rate.clone());
            report.setting("seconds", args.seconds);
            report.setting("payload_bytes", PAYLOAD);
        }
    }
    for _ in 0..options.runs() {
        for pace in args.paces() {
            run_rate(args, &pace, options, &mut report)?;
        }
    }
    for rate in args.rate.iter().copied() {
        for (name, metric) in [("over_floor_p50_us", "p50_us"), ("over_floor_p99_us", "p99_us")] {
            report.result_as(args.named(name, rate, "_"), &args.row(OVER, rate), metric);
        }
    }
    report.chart(against_load(args, &report));
    report.note(
        "the commit floor runs at the same rate as the load; back to back is its fastest case, because nothing sleeps",
    );
    report.note(
        "framing: what of a frame on the stream is neither content nor the sender's id; a delivery's grows by two bytes \
         when its conversation has 128 events, and when it has 16,384",
    );
    report.note("a difference of percentiles is not a percentile of differences: it is the distance of the rows");
    Ok(report)
}

/// One run of all rows at one rate.
fn run_rate(args: &Args, pace: &Pace, options: &Options, report: &mut Report) -> Result<()> {
    let quip = measure(pace, args.pairs, options)?;
    let bare = bare::measure_pairs(pace, args.pairs)?;
    let interval = Duration::from_secs_f64(1.0 / pace.rate.min(MOST_PACED));
    let length = Duration::from_secs_f64(COMMIT.min(pace.seconds));
    let commit = commit::measure_store(&options.dir, 1, length, Some(interval))?;
    let fastest = commit::measure_store(&options.dir, 1, length, None)?;
    let over = difference(&quip, &bare, &commit)?;
    for (row, sample) in [(QUIP, quip), (BARE, bare), (FLOOR, commit), (FASTEST, fastest), (OVER, over)] {
        report.add(&args.row(row, pace.rate), sample);
    }
    Ok(())
}

/// Latency by rate; only with several rates.
fn against_load(args: &Args, report: &Report) -> Chart {
    let line = |row: &str, metric: &str, name: &str| Line {
        name: format!("{row} {name}"),
        points: args
            .rate
            .iter()
            .filter_map(|rate| Some((*rate, report.spread(&args.row(row, *rate), metric)?.median)))
            .collect(),
        style: Style::Joined,
    };
    let rows = [QUIP, BARE].into_iter();
    let lines = rows.flat_map(|row| [line(row, "p50_us", "p50"), line(row, "p99_us", "p99")]);
    Chart {
        name: "latency-load".to_owned(),
        title: "Durable delivery one to one: latency against load".to_owned(),
        x: Axis { label: "messages per second", scale: Scale::Log },
        y: plot::LATENCY,
        lines: lines.collect(),
    }
}

/// The relay's latency minus both floors, within one run.
fn difference(quip: &Sample, bare: &Sample, commit: &Sample) -> Result<Sample> {
    let mut over = Sample::default();
    for metric in ["p50_us", "p99_us"] {
        let of = |sample: &Sample| sample.get(metric).with_context(|| format!("no {metric}"));
        over.push(metric, of(quip)? - of(bare)? - of(commit)?);
    }
    Ok(over)
}

/// One run against a new relay.
fn measure(pace: &Pace, pairs: u32, options: &Options) -> Result<Sample> {
    let relay = Relay::start(options)?;
    bare::runtime()?.block_on(run_once(&relay, pace, pairs))
}

/// One run on a started relay.
pub(crate) async fn run_once(relay: &Relay, pace: &Pace, pairs: u32) -> Result<Sample> {
    Ok(run_noting(relay, pace, pairs, |plan, _| Received::new(plan)).await?.0)
}

/// As [`run_once`], with receivers built from their plan and the start of the measured part; also returns the result of each
/// pair.
pub(super) async fn run_noting(
    relay: &Relay,
    pace: &Pace,
    pairs: u32,
    receiver: impl Fn(&Plan, Instant) -> Received,
) -> Result<(Sample, Vec<(Plan, Sent, Received)>)> {
    let (senders, receivers) = (Clients::new(relay, 1)?, Clients::new(relay, 1)?);
    let mut connected = Vec::new();
    for pair in 0..pairs {
        connected.push(Pair::connect(relay, &senders, &receivers, &pair.to_string()).await?);
    }
    let start = Instant::now() + SETTLE;
    let whole = Plan::lane(pace, start, 0, pairs);
    let mut lanes = JoinSet::new();
    for (lane, pair) in (0..).zip(connected) {
        let plan = Plan::lane(pace, start, lane, pairs);
        lanes.spawn(pair.run_as(plan, receiver(&plan, whole.measured_from())));
    }
    let usage = Usage::between(whole.measured_from(), whole.end(), relay.pid()).await?;
    let (mut answers, mut finished) = (Latencies::new(), Vec::new());
    while let Some(lane) = lanes.join_next().await {
        let (plan, sent, received, answered) = lane??;
        answers.merge(&answered.latency);
        finished.push((plan, sent, received));
    }
    let mut sample = load::summarise(pace, &finished);
    sample.push("accepted_p50_us", answers.micros(0.5));
    sample.push("accepted_p99_us", answers.micros(0.99));
    sample.push("accepted", answers.count() as f64);
    let delivered: Framing = finished.iter().map(|(.., received)| received.framing).sum();
    let posted: Framing = finished.iter().map(|(_, sent, _)| sent.framing).sum();
    delivered.add_to(&mut sample, "framing_bytes_per_delivery");
    delivered.add_sender_to(&mut sample, "sender_id_bytes");
    posted.add_to(&mut sample, "framing_bytes_per_post");
    usage.add_to(&mut sample, load::measured(&finished));
    usage.add_wire_to(&mut sample, load::measured(&finished));
    Ok((sample, finished))
}

/// Two users with their conversation open.
pub(super) struct Pair {
    from: Conversation,
    to: Conversation,
    /// Kept because dropping them ends the connections.
    _sessions: [Session; 2],
}

impl Pair {
    pub(super) async fn connect(relay: &Relay, senders: &Clients, receivers: &Clients, name: &str) -> Result<Self> {
        let (alice, bob) = (format!("sender-{name}"), format!("receiver-{name}"));
        let sender = senders.connect(&relay.token(&alice)?).await?;
        let receiver = receivers.connect(&relay.token(&bob)?).await?;
        let from = sender.open_direct(&bob, true).await?;
        let to = receiver.open_direct(&alice, true).await?;
        Ok(Self { from, to, _sessions: [sender, receiver] })
    }

    pub(super) async fn run(self, plan: Plan) -> Result<(Plan, Sent, Received, Received)> {
        self.run_as(plan, Received::new(&plan)).await
    }

    /// As [`Pair::run`], with an empty receiver.
    async fn run_as(self, plan: Plan, received: Received) -> Result<(Plan, Sent, Received, Received)> {
        let Self { from, to, _sessions } = self;
        run_pair(plan, from, to, received).await
    }
}

/// Delivery to the other side, and acceptance to the sender.
pub(super) async fn run_pair(
    plan: Plan,
    from: Conversation,
    mut to: Conversation,
    received: Received,
) -> Result<(Plan, Sent, Received, Received)> {
    let first_n = from.last_n + 1;
    let mut poster = Poster::new(from.send, from.last_n);
    let (mut answers, credit) = (from.reader, poster.credit.clone());
    let (mut sent, received, answered) = tokio::try_join!(
        load::drive(plan, &mut poster),
        receive_as(received, plan, &mut to.reader),
        accept(plan, &mut answers, first_n, &credit),
    )?;
    sent.framing = poster.framing;
    Ok((plan, sent, received, answered))
}

/// Reads events until all messages have arrived or their deadline has passed.
pub(super) async fn receive(plan: Plan, reader: &mut Reader) -> Result<Received> {
    receive_as(Received::new(&plan), plan, reader).await
}

/// As [`receive`], with an empty receiver.
pub(super) async fn receive_as(mut received: Received, plan: Plan, reader: &mut Reader) -> Result<Received> {
    while !received.is_complete(&plan) && fill(received.give_up_at(&plan), reader).await? {
        while let Some((message, frame)) = reader.buffered_frame()? {
            match message {
                ToClient::Event(event) if event.kind == kind::TEXT => {
                    received.framing.count(frame.len(), event.body.0.len(), event.user.len());
                    received.record(&plan, event.body.0)?;
                }
                ToClient::Event(_) | ToClient::Skip(_) => {}
                other => bail!("unexpected frame for the receiver: {other:?}"),
            }
        }
    }
    Ok(received)
}

/// Reads answers in the same way, and returns the credit of each.
pub(super) async fn accept(plan: Plan, reader: &mut Reader, first_n: u64, credit: &Semaphore) -> Result<Received> {
    let mut answered = Received::new(&plan);
    while !answered.is_complete(&plan) && fill(answered.give_up_at(&plan), reader).await? {
        while let Some(message) = reader.buffered()? {
            let n = match message {
                ToClient::Accepted(accepted) => accepted.n,
                ToClient::Ack(ack) => ack.n,
                ToClient::Event(_) => continue,
                other => bail!("unexpected frame for the sender: {other:?}"),
            };
            // The answer to the join.
            if n < first_n {
                continue;
            }
            let due = first_n + answered.next();
            ensure!(n == due, "expected the answer to message {due}, got n {n}");
            answered.record_number(&plan, n - first_n)?;
            credit.add_permits(1);
        }
    }
    Ok(answered)
}

/// False when the deadline has passed.
async fn fill(give_up_at: Instant, reader: &mut Reader) -> Result<bool> {
    match timeout_at(give_up_at.into(), reader.fill()).await {
        Err(_) => Ok(false),
        Ok(more) => {
            ensure!(more?, "the relay ended the stream");
            Ok(true)
        }
    }
}
