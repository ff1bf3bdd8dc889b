//! The same load on what people would use instead, side by side, as a table, as JSON and as a report.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    check::Faults,
    load::Pace,
    machine::Machine,
    peer::Peer,
    report::{Options, Sample},
    stats::Spread,
    table::{align, number},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which, separated by commas; all of them unless said.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::value_variants().to_vec())]
    peers: Vec<Peer>,
    /// What they do.
    #[arg(long, value_enum, default_value_t = Load::Latency)]
    scenario: Load,
    #[command(flatten)]
    pace: Pace,
    /// Leave the scheduler free; otherwise the server has one processor and the generator another.
    #[arg(long)]
    unpinned: bool,
    /// Measure pinned and unpinned, and write a report in Markdown here.
    #[arg(long, value_name = "FILE", conflicts_with = "unpinned")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// One sender, one receiver, open-loop: from the intended send time to receipt.
    Latency,
}

/// The runs of one peer, or why there are none.
struct Row {
    peer: Peer,
    samples: Vec<Sample>,
    error: Option<String>,
}

/// Names in JSON, and the metric that each is the median of.
const METRICS: [(&str, &str); 11] = [
    ("p50_us", "p50_us"),
    ("p90_us", "p90_us"),
    ("p99_us", "p99_us"),
    ("p999_us", "p99_9_us"),
    ("max_us", "max_us"),
    ("accepted_per_s", "achieved_per_s"),
    ("relay_cpu_us_per_message", "server_cpu_us_per_message"),
    ("rss_bytes", "server_rss_bytes"),
    ("lost", "lost"),
    ("duplicated", "duplicated"),
    ("reordered", "reordered"),
];
/// What `quip` is held against, in a report.
const AGAINST: Peer = Peer::Quip;

pub(crate) fn run(args: &Args, options: &Options) -> Result<ExitCode> {
    // Clients of some peers ask for the process's own.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(file) = &args.report {
        let pinned = rows(args, options, true);
        let unpinned = rows(args, options, false);
        write(file, args, options, &pinned, &unpinned)?;
        println!("{} is written", file.display());
        return Ok(code(pinned.iter().chain(&unpinned)));
    }
    let rows = rows(args, options, !args.unpinned);
    if options.json {
        println!("{}", serde_json::to_string(&to_json(args, options, &rows)?)?);
    } else {
        println!("{}\n\n{}", Machine::describe(&options.dir).line(), table(&rows));
        doubts(&rows).iter().for_each(|doubt| println!("{doubt}"));
    }
    Ok(code(rows.iter()))
}

/// A peer that cannot be started is a row that says so; a promise of ours that is broken is a failure.
fn code<'a>(rows: impl Iterator<Item = &'a Row>) -> ExitCode {
    let broken = |row: &Row| Faults::METRICS.iter().any(|name| row.median(name).is_some_and(|n| n > 0.0));
    let failed = rows.filter(|row| row.peer == Peer::Quip).any(|row| row.error.is_some() || broken(row));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs of all peers follow each other, and then again.
fn rows(args: &Args, options: &Options, pinned: bool) -> Vec<Row> {
    let mut rows: Vec<Row> =
        args.peers.iter().map(|peer| Row { peer: *peer, samples: Vec::new(), error: None }).collect();
    for run in 1..=options.runs {
        for row in rows.iter_mut().filter(|row| row.error.is_none()) {
            eprintln!("compare: run {run}/{} of {}", options.runs, row.peer.facts().name);
            match row.peer.measure(&args.pace, options, pinned) {
                Ok(sample) => row.samples.push(sample),
                Err(error) => row.error = Some(format!("{error:#}")),
            }
        }
    }
    rows
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

fn to_json(args: &Args, options: &Options, rows: &[Row]) -> Result<Value> {
    Ok(json!({
        "scenario": "compare",
        "of": args.scenario.to_possible_value().map(|value| value.get_name().to_owned()),
        "version": env!("CARGO_PKG_VERSION"),
        "machine": serde_json::to_value(Machine::describe(&options.dir))?,
        "rate": args.pace.rate,
        "seconds": args.pace.seconds,
        "pinned": !args.unpinned,
        "runs": options.runs,
        "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "doubts": doubts(rows),
    }))
}

const COLUMNS: [(&str, &str); 7] = [
    ("p50 µs", "p50_us"),
    ("p99 µs", "p99_us"),
    ("p99.9 µs", "p99_9_us"),
    ("max µs", "max_us"),
    ("msg/s", "achieved_per_s"),
    ("server CPU µs/msg", "server_cpu_us_per_message"),
    ("server RSS MB", "server_rss_bytes"),
];

fn cells(row: &Row) -> Vec<String> {
    let facts = row.peer.facts();
    let mut cells = vec![facts.name.to_owned(), if facts.durable { "yes" } else { "no" }.to_owned()];
    cells.extend(COLUMNS.iter().map(|(_, metric)| match row.spread(metric) {
        None => "-".to_owned(),
        Some(spread) if *metric == "server_rss_bytes" => number((spread.median / 1e6).round()),
        Some(spread) if matches!(*metric, "p50_us" | "p99_us") && row.samples.len() > 1 => {
            format!(
                "{} ({} to {})",
                number(spread.median.round()),
                number(spread.min.round()),
                number(spread.max.round())
            )
        }
        Some(spread) => number(spread.median.round()),
    }));
    cells
}

fn header() -> Vec<String> {
    let columns = COLUMNS.iter().map(|(name, _)| (*name).to_owned());
    ["", "durable"].map(str::to_owned).into_iter().chain(columns).collect()
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![header()];
    lines.extend(rows.iter().map(cells));
    let mut text = align(&lines);
    for row in rows {
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

fn write(file: &Path, args: &Args, options: &Options, pinned: &[Row], unpinned: &[Row]) -> Result<()> {
    let mut text = String::new();
    let Pace { rate, seconds, .. } = args.pace;
    let _ = writeln!(
        text,
        "# Quip beside what people would use instead\n\n\
         Made by `quip-bench compare --report`; `benches/peers.sh` installs the peers. {}.\n\n\
         One sender and one receiver, {PAYLOAD}-byte messages, {} a second for {} s, {} runs in turns; medians, and the least and \
         most where a cell has them. Latency runs from the intended send time to receipt. TLS 1.3 everywhere, loopback, and where \
         a protocol acknowledges, 64 messages unanswered at most. *Durable* means that a message is on the disk before its \
         receiver hears of it; the others may lose what they have delivered.\n",
        Machine::describe(&options.dir).line(),
        number(rate),
        number(seconds),
        options.runs,
        PAYLOAD = crate::load::PAYLOAD,
    );
    section(&mut text, "Pinned: the server on one processor, the generator on the other", pinned);
    section(&mut text, "Unpinned", unpinned);
    verdict(&mut text, unpinned);
    let _ = writeln!(text, "## What runs\n\n| | version | what it does |\n| --- | --- | --- |");
    for row in pinned {
        let facts = row.peer.facts();
        let _ = writeln!(text, "| {} | {} | {} |", facts.name, row.peer.version(), facts.says);
    }
    let doubts: Vec<_> = doubts(pinned).into_iter().map(|doubt| (doubt, "pinned")).collect();
    let unpinned = self::doubts(unpinned).into_iter().map(|doubt| (doubt, "unpinned"));
    let all: Vec<_> = doubts.into_iter().chain(unpinned).collect();
    if !all.is_empty() {
        let _ = writeln!(text, "\n## Doubts that the harness has\n");
        all.iter().for_each(|(doubt, which)| _ = writeln!(text, "* {which}: {doubt}"));
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn section(text: &mut String, title: &str, rows: &[Row]) {
    let _ = writeln!(text, "## {title}\n");
    let header = header();
    let _ = writeln!(text, "| {} |\n|{}", header.join(" | "), " --- |".repeat(header.len()));
    for durable in [true, false] {
        for row in rows.iter().filter(|row| row.peer.facts().durable == durable) {
            match &row.error {
                None => _ = writeln!(text, "| {} |", cells(row).join(" | ")),
                Some(error) => _ = writeln!(text, "| {} | {error} |", cells(row)[..2].join(" | ")),
            }
        }
    }
    text.push('\n');
}

/// Who is faster than Quip, and who is not, in words.
fn verdict(text: &mut String, rows: &[Row]) {
    let Some(quip) = rows.iter().find(|row| row.peer == AGAINST && row.error.is_none()) else { return };
    let _ = writeln!(text, "## In words (unpinned)\n");
    for row in rows.iter().filter(|row| row.peer != AGAINST && row.error.is_none()) {
        let ratio = |metric| Some(quip.median(metric)? / row.median(metric)?);
        let (Some(p50), Some(p99)) = (ratio("p50_us"), ratio("p99_us")) else { continue };
        let facts = row.peer.facts();
        let kind = if facts.durable { "durable as well" } else { "not durable" };
        let _ = writeln!(
            text,
            "* {} ({kind}): Quip is {} at the median and {} at p99.",
            facts.name,
            compared(p50),
            compared(p99)
        );
    }
    text.push('\n');
}

/// Our time by theirs.
fn compared(ratio: f64) -> String {
    match ratio {
        ratio if ratio > 1.05 => format!("**{ratio:.1} times slower**"),
        ratio if ratio < 0.95 => format!("{:.1} times faster", 1.0 / ratio),
        _ => "as fast".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(peer: Peer, p50: f64) -> Row {
        let mut sample = Sample::default();
        sample.push("p50_us", p50);
        sample.push("p99_us", p50 * 2.0);
        Row { peer, samples: vec![sample], error: None }
    }

    #[test]
    fn a_peer_that_is_faster_is_said_to_be() {
        let mut text = String::new();
        verdict(&mut text, &[row(Peer::Quip, 300.0), row(Peer::Nats, 100.0), row(Peer::JetstreamAlways, 900.0)]);
        assert!(text.contains("nats (not durable): Quip is **3.0 times slower** at the median"), "{text}");
        assert!(text.contains("jetstream-always (durable as well): Quip is 3.0 times faster"), "{text}");
    }

    #[test]
    fn a_peer_that_did_not_run_is_a_row_that_says_why() {
        let row = Row { peer: Peer::Nats, samples: Vec::new(), error: Some("there is no nats-server here".to_owned()) };
        let json = row.to_json();
        assert_eq!(json["p50_us"], Value::Null);
        assert_eq!(json["error"], "there is no nats-server here");
        let mut text = String::new();
        section(&mut text, "Test", &[row]);
        assert!(text.contains("| nats | no | there is no nats-server here |"), "{text}");
    }
}
