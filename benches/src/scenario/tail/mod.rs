//! The slowest messages of a long durable run, with the activity of the relay's store and the disk at that time.

mod disk;
mod moments;
mod watch;

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Context, Result};
use fjall::{Database, KeyspaceCreateOptions};
use serde_json::{Value, json};

use self::{
    moments::NOTHING,
    watch::{Event, Kind, Seen, Watch},
};
use super::latency;
use crate::{
    bare,
    load::{Pace, Received},
    plot::{Axis, Chart, LATENCY, Line, Scale, Style},
    relay::Relay,
    report::{Options, Report, Sample},
    slices::{Slice, Slices},
    stats::Latencies,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs of one sender and one receiver; the rate is shared among them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Messages per second, all senders together.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Measured seconds of each run. The report says which activities of the store did not happen in that time; for more, use
    /// 300 s or --relay-set 'store.memtable_bytes="4MiB"'.
    #[arg(long, default_value_t = 40.0)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Number of slowest moments to list.
    #[arg(long, default_value_t = 10)]
    slowest: usize,
}

const QUIP: &str = "quip";
/// The engine's folder in the relay's data folder.
const STORE: &str = "store/db";
/// Activities that must happen during the measurement: the name, its metric and its plural.
const EXPECTED: [(Kind, &str, &str); 3] = [
    (Kind::Flush, "flushes", "flush"),
    (Kind::Rotation, "rotations", "journal rotation"),
    (Kind::Compaction, "compactions", "compaction"),
];
const SLOWEST: &[&str] = &[
    "run",
    "at_s",
    "us",
    "disk_flush_us",
    "disk_flushes",
    "disk_written_bytes",
    "disk_busy_percent",
    "disk_in_flight",
    "processors_percent",
    "beside",
];
const BESIDE: &[&str] = &["beside", "slices", "slices_percent", "over_10_ms", "max_us"];

/// The result of one run.
struct Noted {
    slices: Slices,
    seen: Seen,
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("tail", options);
    let pace = Pace { rate: args.rate, seconds: args.seconds, warmup: args.warmup };
    report.setting("pairs", args.pairs);
    pace.describe(&mut report);
    let names = keyspaces(options)?;
    let mut runs = Vec::new();
    for _ in 0..options.runs() {
        let relay = Relay::start(options)?;
        let (sample, noted) = bare::runtime()?.block_on(run_once(&relay, &pace, args.pairs, &names))?;
        report.add(QUIP, sample);
        runs.push(noted);
    }
    for metric in ["p99_9_us", "max_us", "flushes", "rotations", "compactions"] {
        report.result_of(QUIP, metric);
    }
    report.list("slowest", SLOWEST, slowest(&runs, args.slowest));
    report.list("by_what_was_beside", BESIDE, by_what_was_beside(&runs));
    if let Some(noted) = runs.last() {
        report.chart(over_time(noted));
    }
    report.note("beside: activity of the store from 150 ms before a message was due until it arrived, from its files");
    report.note("disk and processors: of the whole machine, between the readings (every 50 ms) around that time");
    Ok(report)
}

async fn run_once(relay: &Relay, pace: &Pace, pairs: u32, names: &BTreeMap<String, String>) -> Result<(Sample, Noted)> {
    let watch = Watch::start(relay.data().join(STORE), names)?;
    let length = std::time::Duration::from_secs_f64(pace.seconds);
    let receiver = |plan: &_, from| Received::sliced(plan, Slices::new(from, length));
    let (mut sample, lanes) = latency::run_noting(relay, pace, pairs, receiver).await?;
    let mut seen = watch.finish()?;
    let (mut slices, mut latencies) = (None::<Slices>, Latencies::new());
    for (.., received) in &lanes {
        latencies.merge(&received.latency);
        let of_pair = received.slices().context("a receiver without slices")?;
        match &mut slices {
            None => slices = Some(of_pair.clone()),
            Some(slices) => slices.merge(of_pair),
        }
    }
    let slices = slices.context("no pair")?;
    let (from, to) = (slices.origin(), slices.origin() + length);
    seen.events.retain(|event| event.to >= from && event.from <= to);
    seen.events.sort_by_key(|event| event.from);
    sample.push("p99_99_us", latencies.micros(0.9999));
    sample.push("over_10_ms", slices.iter().map(|slice| slice.slow).sum::<u64>() as f64);
    add_store_to(&mut sample, &seen.events);
    add_disk_to(&mut sample, &seen, from, to);
    Ok((sample, Noted { slices, seen }))
}

/// The number of activities of each kind, and a doubt if one did not happen.
fn add_store_to(sample: &mut Sample, events: &[Event]) {
    let of = |kind| events.iter().filter(move |event| event.kind == kind);
    for (kind, metric, name) in EXPECTED {
        let count = of(kind).count();
        sample.push(metric, count as f64);
        if count == 0 {
            sample.doubt(format!(
                "no {name} during the measurement: use more --seconds, or a smaller store.memtable_bytes"
            ));
        }
    }
    sample.push("moves", of(Kind::Move).count() as f64);
    for (kind, metric) in [(Kind::Flush, "flushed_bytes"), (Kind::Compaction, "compacted_bytes")] {
        sample.push(metric, of(kind).map(|event| event.bytes).sum::<u64>() as f64);
    }
}

fn add_disk_to(sample: &mut Sample, seen: &Seen, from: Instant, to: Instant) {
    if let Some(disk) = disk::between(&seen.looks, from, to) {
        let seconds = (to - from).as_secs_f64();
        sample.push("disk_flushes_per_s", disk.flushes as f64 / seconds);
        sample.push("disk_flush_us", micros(disk.flush));
        sample.push("disk_written_bytes", disk.written_bytes as f64);
        sample.push("disk_busy_percent", disk.busy_percent);
    }
    if let Some(percent) = disk::processors_percent(&seen.looks, from, to) {
        sample.push("processors_percent", percent);
    }
}

/// The result of all runs together.
fn slowest(runs: &[Noted], most: usize) -> Vec<Vec<Value>> {
    let mut all: Vec<(usize, Slice)> = Vec::new();
    for (run, noted) in (1..).zip(runs) {
        all.extend(moments::slowest(&noted.slices, most).into_iter().map(|slice| (run, slice)));
    }
    all.sort_by_key(|(_, slice)| std::cmp::Reverse(slice.worst));
    all.iter().take(most).map(|(run, slice)| moment(*run, slice, &runs[run - 1])).collect()
}

fn moment(run: usize, slice: &Slice, Noted { slices, seen }: &Noted) -> Vec<Value> {
    let window = moments::window(slices.origin(), slice);
    let during = (slices.origin() + slice.due, window.1);
    let disk = disk::between(&seen.looks, during.0, during.1);
    let of_disk = |value: fn(&disk::Between) -> f64| disk.as_ref().map(value);
    vec![
        json!(run),
        json!(rounded(slice.due.as_secs_f64(), 1e3)),
        json!(rounded(micros(slice.worst), 1.0)),
        json!(of_disk(|disk| rounded(micros(disk.flush), 1.0))),
        json!(of_disk(|disk| disk.flushes as f64)),
        json!(of_disk(|disk| disk.written_bytes as f64)),
        json!(of_disk(|disk| rounded(disk.busy_percent, 1.0))),
        json!(of_disk(|disk| disk.in_flight as f64)),
        json!(disk::processors_percent(&seen.looks, during.0, during.1).map(|percent| rounded(percent, 1.0))),
        json!(moments::describe(window, &seen.events)),
    ]
}

/// The latency of slices with each activity of the store, and of those without any.
fn by_what_was_beside(runs: &[Noted]) -> Vec<Vec<Value>> {
    let all: usize = runs.iter().map(|noted| noted.slices.iter().count()).sum();
    let kinds = [
        (Some(Kind::Rotation), "journal rotation"),
        (Some(Kind::Flush), "flush"),
        (Some(Kind::Compaction), "compaction"),
        (Some(Kind::Move), "tables moved"),
        (None, NOTHING),
    ];
    kinds
        .into_iter()
        .map(|(kind, name)| {
            let groups = runs.iter().map(|noted| moments::group(&noted.slices, &noted.seen.events, kind));
            let groups: Vec<_> = groups.collect();
            let slices: u64 = groups.iter().map(|group| group.slices).sum();
            let slow: u64 = groups.iter().map(|group| group.slow).sum();
            let worst = groups.iter().map(|group| group.worst).max().unwrap_or_default();
            let percent = rounded(100.0 * slices as f64 / all.max(1) as f64, 10.0);
            vec![json!(name), json!(slices), json!(percent), json!(slow), json!(rounded(micros(worst), 1.0))]
        })
        .collect()
}

/// The slowest message of each slice, and the activities of the store, at the height of the slice in which they ended.
fn over_time(Noted { slices, seen }: &Noted) -> Chart {
    let at = |slice: &Slice| (slice.due.as_secs_f64(), micros(slice.worst));
    let mut lines = vec![Line {
        name: "slowest message".to_owned(),
        points: slices.iter().map(at).collect(),
        style: Style::Joined,
    }];
    for (kind, _, name) in EXPECTED {
        let points = seen.events.iter().filter(|event| event.kind == kind).filter_map(|event| {
            let end = event.to.checked_duration_since(slices.origin())?;
            let beside = slices.at(end)?;
            Some((end.as_secs_f64(), micros(beside.worst)))
        });
        lines.push(Line { name: name.to_owned(), points: points.collect(), style: Style::Points });
    }
    Chart {
        name: "tail-over-time".to_owned(),
        title: "Durable delivery one to one: the slowest message of each 100 ms".to_owned(),
        x: Axis { label: "seconds", scale: Scale::Even },
        y: LATENCY,
        lines,
    }
}

/// The names of the store's keyspaces by their folders, which are the same in every new store. Read from an unused one.
fn keyspaces(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut names = BTreeMap::new();
    Relay::start(options)?.restart(|data| {
        names = names_in(&data.join(STORE))?;
        Ok(())
    })?;
    Ok(names)
}

fn names_in(folder: &Path) -> Result<BTreeMap<String, String>> {
    let database = Database::builder(folder).manual_journal_persist(true).open()?;
    let mut names = BTreeMap::new();
    for name in database.list_keyspace_names() {
        let keyspace = database.keyspace(&name, KeyspaceCreateOptions::default)?;
        let folder = keyspace.path().file_name().context("a keyspace without a folder")?;
        names.insert(folder.to_string_lossy().into_owned(), name.to_string());
    }
    Ok(names)
}

fn micros(time: std::time::Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// Rounds to multiples of `1 / parts`.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
