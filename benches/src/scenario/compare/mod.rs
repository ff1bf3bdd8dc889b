//! The same load on what people would use instead, side by side, as a table, as JSON and as a report.

mod page;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    check::Faults,
    load::{Pace, Plan},
    machine::Machine,
    peer::{Audience, Peer, Work},
    report::{Options, Sample},
    saturate::Load,
    stats::Spread,
    table::{align, number},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Systems, separated by commas [default: all].
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::value_variants().to_vec())]
    peers: Vec<Peer>,
    /// The load.
    #[arg(long, value_enum, default_value_t = Scenario::Latency)]
    scenario: Scenario,
    #[command(flatten)]
    pace: Pace,
    /// Senders of `ingest`, each with its own connection and topic.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    senders: u32,
    /// Unanswered messages of each sender of `ingest`.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Members of the room of `fanout` besides the sender, each on its own connection.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    members: u32,
    /// Deliveries per second of `fanout`, which determine its rate.
    #[arg(long, default_value_t = 5_000.0)]
    deliveries: f64,
    /// Do not pin the server and the generator to one processor each.
    #[arg(long)]
    unpinned: bool,
    /// Measure every scenario, pinned and unpinned, and write a Markdown report to this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unpinned", "scenario"])]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One sender, one receiver, open-loop: from the intended send time to receipt.
    Latency,
    /// Many senders whose receivers are not there, closed-loop: messages that were accepted.
    Ingest,
    /// One sender, many receivers who all get everything, open-loop: the first and the last of them told apart.
    Fanout,
}

impl Args {
    fn work(&self, scenario: Scenario) -> Work {
        let Self { senders, window, members, pace: Pace { seconds, warmup, .. }, .. } = *self;
        match scenario {
            Scenario::Latency => Work::Latency(self.pace),
            Scenario::Ingest => Work::Ingest(Load { senders, window, seconds, warmup }),
            Scenario::Fanout => Work::Fanout(Audience { pace: self.fanout_pace(), members }),
        }
    }

    fn fanout_pace(&self) -> Pace {
        Pace { rate: self.deliveries / f64::from(self.members), ..self.pace }
    }
}

/// What all peers did with one kind of load.
struct Part {
    scenario: Scenario,
    pinned: bool,
    rows: Vec<Row>,
}

/// The runs of one peer, or why there are none.
struct Row {
    peer: Peer,
    samples: Vec<Sample>,
    error: Option<String>,
}

/// Names in JSON, and the metric that each is the median of.
const METRICS: [(&str, &str); 23] = [
    ("p50_us", "p50_us"),
    ("p90_us", "p90_us"),
    ("p99_us", "p99_us"),
    ("p999_us", "p99_9_us"),
    ("max_us", "max_us"),
    ("accepted_per_s", ACCEPTED),
    ("relay_cpu_us_per_message", "server_cpu_us_per_message"),
    ("rss_bytes", "server_rss_bytes"),
    (WIRE, WIRE),
    ("sent", SENT),
    ("lost", "lost"),
    ("duplicated", "duplicated"),
    ("reordered", "reordered"),
    ("framing_bytes_per_delivery", "framing_bytes_per_delivery"),
    ("sender_id_bytes", "sender_id_bytes"),
    ("first_p50_us", "first_p50_us"),
    ("first_p99_us", "first_p99_us"),
    (LAST_P50, LAST_P50),
    (LAST_P99, LAST_P99),
    ("deliveries_per_s", "deliveries_per_s"),
    (CPU_PER_DELIVERY, CPU_PER_DELIVERY),
    (WIRE_PER_DELIVERY, WIRE_PER_DELIVERY),
    ("datagrams_per_delivery", "datagrams_per_delivery"),
];
const ACCEPTED: &str = "accepted_per_s";
const SENT: &str = "sent";
const IN_MEMORY: &str = "THE DATA WAS IN MEMORY: nothing here is durable; name a folder on a disk with --dir";
const WIRE: &str = "wire_bytes_per_message";
const LAST_P50: &str = "last_p50_us";
const LAST_P99: &str = "last_p99_us";
const CPU_PER_DELIVERY: &str = "relay_cpu_us_per_delivery";
const WIRE_PER_DELIVERY: &str = "wire_bytes_per_delivery";
/// What `accepted_per_s` is called where messages are delivered, and where there is only a disk.
const ACCEPTED_ELSEWHERE: [&str; 2] = ["achieved_per_s", "messages_per_s"];

pub(crate) fn run(args: &Args, options: &Options) -> Result<ExitCode> {
    // Clients of some peers ask for the process's own.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(file) = &args.report {
        let kinds = Scenario::value_variants().iter().flat_map(|of| [(*of, true), (*of, false)]);
        let parts: Vec<Part> = kinds.map(|(scenario, pinned)| measure(args, options, scenario, pinned)).collect();
        page::write(file, args, options, &parts)?;
        println!("{} is written", file.display());
        return Ok(code(&parts));
    }
    let part = measure(args, options, args.scenario, !args.unpinned);
    if options.json {
        println!("{}", serde_json::to_string(&to_json(args, options, &part)?)?);
    } else {
        let machine = Machine::describe(&options.dir);
        println!("{}\n\n{}", machine.line(), table(&part));
        if machine.keeps_data_in_memory() {
            println!("{IN_MEMORY}");
        }
        doubts(&part.rows).iter().for_each(|doubt| println!("{doubt}"));
    }
    Ok(code(&[part]))
}

/// A peer that cannot be started is a row that says so; a promise of ours that is broken is a failure.
fn code(parts: &[Part]) -> ExitCode {
    let broken = |row: &Row| Faults::METRICS.iter().any(|name| row.spread(name).is_some_and(|spread| spread.max > 0.0));
    let mut quip = parts.iter().flat_map(|part| &part.rows).filter(|row| row.peer == Peer::Quip);
    if quip.any(|row| row.error.is_some() || broken(row)) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs of all peers follow each other, and then again.
fn measure(args: &Args, options: &Options, scenario: Scenario, pinned: bool) -> Part {
    let work = args.work(scenario);
    let mut rows: Vec<Row> =
        args.peers.iter().map(|peer| Row { peer: *peer, samples: Vec::new(), error: None }).collect();
    for run in 1..=options.runs() {
        for row in rows.iter_mut().filter(|row| row.error.is_none()) {
            eprintln!("compare: {scenario:?}, run {run}/{} of {}", options.runs(), row.peer.facts().name);
            match row.peer.measure(&work, options, pinned) {
                Ok(sample) => row.samples.push(complete(&work, sample)),
                Err(error) => row.error = Some(format!("{error:#}")),
            }
        }
    }
    Part { scenario, pinned, rows }
}

/// Gives a sample the names that all rows have.
fn complete(work: &Work, mut sample: Sample) -> Sample {
    let elsewhere = ACCEPTED_ELSEWHERE.iter().find_map(|name| sample.get(name));
    if let (None, Some(accepted)) = (sample.get(ACCEPTED), elsewhere) {
        sample.push(ACCEPTED, accepted);
    }
    if let Work::Latency(pace) | Work::Fanout(Audience { pace, .. }) = work
        && sample.get("lost").is_some()
    {
        sample.push(SENT, Plan::lane(pace, Instant::now(), 0, 1).measured() as f64);
    }
    sample
}

impl Row {
    fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.get(metric)))
    }

    fn median(&self, metric: &str) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }

    fn to_json(&self) -> Value {
        let facts = self.peer.facts();
        let mut row = json!({
            "peer": facts.name,
            "durable": facts.durable,
            "says": facts.says,
            "version": self.peer.version(),
            "error": self.error,
            "runs": self.samples.len(),
        });
        for (name, metric) in METRICS {
            let spread = self.spread(metric);
            row[name] = json!(spread.map(|spread| spread.median));
            row[format!("{name}_spread")] = json!(spread.map(|spread| [spread.min, spread.max]));
        }
        row
    }
}

fn to_json(args: &Args, options: &Options, part: &Part) -> Result<Value> {
    let machine = Machine::describe(&options.dir);
    Ok(json!({
        "scenario": "compare",
        "of": part.scenario.to_possible_value().map(|value| value.get_name().to_owned()),
        "version": env!("CARGO_PKG_VERSION"),
        "machine": serde_json::to_value(&machine)?,
        "data_in_memory": machine.keeps_data_in_memory(),
        "rate": args.pace.rate,
        "seconds": args.pace.seconds,
        "senders": args.senders,
        "window": args.window,
        "members": args.members,
        "deliveries": args.deliveries,
        "pinned": part.pinned,
        "runs": options.runs(),
        "rows": part.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "doubts": doubts(&part.rows),
    }))
}

/// Headings, and the metrics below them.
const LATENCY_COLUMNS: &[(&str, &str)] = &[
    ("p50 µs", "p50_us"),
    ("p99 µs", "p99_us"),
    ("p99.9 µs", "p99_9_us"),
    ("max µs", "max_us"),
    ("msg/s", ACCEPTED),
    ("server CPU µs/msg", "server_cpu_us_per_message"),
    ("wire bytes/msg", WIRE),
    ("server RSS MB", "server_rss_bytes"),
];
const INGEST_COLUMNS: &[(&str, &str)] = &[
    ("accepted/s", ACCEPTED),
    ("server CPU µs/msg", "server_cpu_us_per_message"),
    ("server CPU %", "server_cpu_percent"),
    ("generator CPU %", "generator_cpu_percent"),
    ("server RSS MB", "server_rss_bytes"),
];
const FANOUT_COLUMNS: &[(&str, &str)] = &[
    ("p50 µs", "p50_us"),
    ("p99 µs", "p99_us"),
    ("first p50 µs", "first_p50_us"),
    ("last p50 µs", LAST_P50),
    ("last p99 µs", LAST_P99),
    ("deliveries/s", "deliveries_per_s"),
    ("server CPU µs/delivery", CPU_PER_DELIVERY),
    ("wire bytes/delivery", WIRE_PER_DELIVERY),
    ("server RSS MB", "server_rss_bytes"),
];
/// Columns that also say how far the runs lay apart.
const SPREAD: [&str; 5] = ["p50_us", "p99_us", LAST_P50, LAST_P99, ACCEPTED];

impl Scenario {
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Latency => LATENCY_COLUMNS,
            Self::Ingest => INGEST_COLUMNS,
            Self::Fanout => FANOUT_COLUMNS,
        }
    }

    fn header(self) -> Vec<String> {
        let columns = self.columns().iter().map(|(name, _)| (*name).to_owned());
        ["", "durable"].map(str::to_owned).into_iter().chain(columns).collect()
    }

    fn cells(self, row: &Row) -> Vec<String> {
        let facts = row.peer.facts();
        let mut cells = vec![facts.name.to_owned(), if facts.durable { "yes" } else { "no" }.to_owned()];
        cells.extend(self.columns().iter().map(|(_, metric)| cell(row, metric)));
        cells
    }
}

fn cell(row: &Row, metric: &str) -> String {
    let Some(Spread { median, min, max }) = row.spread(metric) else { return "-".to_owned() };
    let round = |value: f64| number(value.round());
    match metric {
        "server_rss_bytes" => round(median / 1e6),
        // Of a busy server a message takes few microseconds.
        "server_cpu_us_per_message" | CPU_PER_DELIVERY => number((median * 10.0).round() / 10.0),
        _ if SPREAD.contains(&metric) && row.samples.len() > 1 => {
            format!("{} ({} to {})", round(median), round(min), round(max))
        }
        _ => round(median),
    }
}

fn table(part: &Part) -> String {
    let mut lines = vec![part.scenario.header()];
    lines.extend(part.rows.iter().map(|row| part.scenario.cells(row)));
    let mut text = align(&lines);
    for row in &part.rows {
        if let Some(error) = &row.error {
            let _ = writeln!(text, "{}: {error}", row.peer.facts().name);
        }
    }
    text
}

fn doubts(rows: &[Row]) -> Vec<String> {
    let mut doubts = Vec::new();
    for row in rows {
        for (run, sample) in (1..).zip(&row.samples) {
            for reason in sample.reasons() {
                doubts.push(format!("{}, run {run}: {reason}", row.peer.facts().name));
            }
        }
    }
    doubts
}
