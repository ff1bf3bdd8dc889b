//! The report in Markdown: what was measured, tables, charts, and who is faster in words.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use super::{ACCEPTED, Args, CPU_PER_DELIVERY, IN_MEMORY, LAST_P50, LAST_P99, Part, Row, Scenario, doubts};
use crate::{
    load::PAYLOAD,
    machine::Machine,
    peer::Peer,
    plot,
    report::{Options, Sample},
    table::number,
};

/// What the others are held against.
const AGAINST: Peer = Peer::Quip;
/// Folder of the charts, beside the report.
const PLOTS: &str = "plots";

pub(super) fn write(file: &Path, args: &Args, options: &Options, parts: &[Part]) -> Result<()> {
    let mut text = String::new();
    intro(&mut text, args, options)?;
    if Machine::describe(&options.dir).keeps_data_in_memory() {
        let _ = writeln!(text, "{IN_MEMORY}\n");
    }
    for part in parts {
        section(&mut text, part);
        if part.scenario == Scenario::Latency {
            charts(&mut text, file, options, part)?;
        }
        if !part.pinned {
            verdict(&mut text, part);
        }
    }
    versions(&mut text, parts);
    let mut doubted = parts.iter().flat_map(|part| doubts(&part.rows).into_iter().map(|doubt| (part.name(), doubt)));
    if let Some(first) = doubted.next() {
        let _ = writeln!(text, "\n## Doubts that the harness has\n");
        let all = std::iter::once(first).chain(doubted);
        all.for_each(|(part, doubt)| _ = writeln!(text, "* {part}: {doubt}"));
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

impl Part {
    fn name(&self) -> String {
        let of = match self.scenario {
            Scenario::Latency => "Latency",
            Scenario::Ingest => "Ingest",
            Scenario::Fanout => "Fan-out",
        };
        format!("{of}, {}", if self.pinned { "pinned" } else { "unpinned" })
    }
}

fn intro(text: &mut String, args: &Args, options: &Options) -> Result<()> {
    let work = &args.pace;
    writeln!(
        text,
        "# Quip beside what people would use instead\n\n\
         Made by `quip-bench compare --report`; `benches/peers.sh` installs the peers. {machine}.\n\n\
         {PAYLOAD}-byte messages, TLS 1.3 except where a name ends in *plain*, loopback, {runs} runs of {seconds} s in turns; \
         medians, and the least and most where a cell has them. *Durable* means that a message is on the disk before its sender gets an \
         acknowledgement and before it is delivered; the others may lose what they have acknowledged or delivered.\n\n\
         Pinned, the server has one processor and the generator the other; unpinned, the scheduler decides.\n\n\
         * Latency: one sender and one receiver, {rate} messages a second, from the intended send time to receipt; at most \
         64 unanswered where a protocol acknowledges. Wire bytes are those of all IP packets to and from the server, with \
         headers and acknowledgements, for each message that was delivered.\n\
         * Ingest: {senders} senders with {window} unanswered messages each, nobody receives; messages that were accepted a \
         second. Where the generator's share of its one processor is near 100 %, the server could do more than the \
         figure says.\n\
         * Fan-out: one sender, {members} receivers on connections of their own who all get every message, {spoken} messages \
         a second; *first* and *last* are of each message: until its first and its last receiver has it. CPU and bytes are \
         for each delivery.\n",
        machine = Machine::describe(&options.dir).line(),
        runs = options.runs(),
        seconds = number(work.seconds),
        rate = number(work.rate),
        senders = args.senders,
        window = args.window,
        members = args.members,
        spoken = number(args.fanout_pace().rate),
    )?;
    Ok(())
}

fn versions(text: &mut String, parts: &[Part]) {
    let _ = writeln!(text, "## What runs\n\n| | version | what it does |\n| --- | --- | --- |");
    for row in parts.iter().take(1).flat_map(|part| &part.rows) {
        let facts = row.peer.facts();
        let _ = writeln!(text, "| {} | {} | {} |", facts.name, row.peer.version(), facts.says);
    }
}

/// Percentile curves of a part's rows as files beside the report.
fn charts(text: &mut String, file: &Path, options: &Options, part: &Part) -> Result<()> {
    let folder = file.with_file_name(PLOTS);
    let pinned = if part.pinned { "pinned" } else { "unpinned" };
    let caption = Machine::describe(&options.dir).line();
    for (kind, durable) in [("durable", true), ("not durable", false)] {
        let rows = part.rows.iter().filter(|row| row.peer.facts().durable == durable);
        let named = rows.filter_map(|row| {
            let mut runs = row.samples.iter().filter_map(Sample::whole);
            let mut all = runs.next()?.clone();
            runs.for_each(|run| all.merge(run));
            Some((row.peer.facts().name, all))
        });
        for chart in plot::curves(&format!("compare {pinned}"), kind, named) {
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            chart.write(&folder, &caption)?;
            let _ = writeln!(text, "![{}]({PLOTS}/{}.svg)\n", chart.title, chart.name);
        }
    }
    Ok(())
}

fn section(text: &mut String, part: &Part) {
    let _ = writeln!(text, "## {}\n", part.name());
    let header = part.scenario.header();
    let _ = writeln!(text, "| {} |\n|{}", header.join(" | "), " --- |".repeat(header.len()));
    for durable in [true, false] {
        for row in part.rows.iter().filter(|row| row.peer.facts().durable == durable) {
            let cells = part.scenario.cells(row);
            match &row.error {
                None => _ = writeln!(text, "| {} |", cells.join(" | ")),
                Some(error) => _ = writeln!(text, "| {} | {error} |", cells[..2].join(" | ")),
            }
        }
    }
    text.push('\n');
}

/// Who is faster than Quip, and who is not, in words.
fn verdict(text: &mut String, part: &Part) {
    let ran = |row: &&Row| row.error.is_none();
    let Some(quip) = part.rows.iter().filter(ran).find(|row| row.peer == AGAINST) else { return };
    let _ = writeln!(text, "In words:\n");
    for row in part.rows.iter().filter(ran).filter(|row| row.peer != AGAINST) {
        let facts = row.peer.facts();
        let ratio = |metric| Some(row.median(metric)? / quip.median(metric)?);
        let said = match part.scenario {
            Scenario::Latency => ratio("p50_us").zip(ratio("p99_us")).map(|(p50, p99)| {
                let words = ["faster", "slower", "as fast"];
                format!("is {} at the median and {} at p99", compared(p50, words), compared(p99, words))
            }),
            Scenario::Fanout => {
                ratio(LAST_P50).zip(ratio(LAST_P99)).zip(ratio(CPU_PER_DELIVERY)).map(|((p50, p99), cpu)| {
                    let (words, costs) = (["faster", "slower", "as fast"], ["less CPU", "more CPU", "the same CPU"]);
                    let [p50, p99] = [p50, p99].map(|ratio| compared(ratio, words));
                    format!(
                        "has it at the last receiver {p50} at the median and {p99} at p99, for {}",
                        compared(cpu, costs)
                    )
                })
            }
            Scenario::Ingest => ratio(ACCEPTED).map(|rate| {
                let words = ["more messages", "fewer messages", "as many"];
                format!("accepts {}", compared(1.0 / rate, words))
            }),
        };
        let kind = if facts.durable { "durable as well" } else { "not durable" };
        said.into_iter().for_each(|said| _ = writeln!(text, "* {} ({kind}): Quip {said}.", facts.name));
    }
    text.push('\n');
}

/// Their time by ours, or our rate by theirs: above 1 is good for us. The words are for better, worse and neither.
fn compared(ratio: f64, [better, worse, same]: [&str; 3]) -> String {
    match ratio {
        ratio if ratio > 1.05 => format!("{ratio:.1} times {better}"),
        ratio if ratio < 0.95 => format!("**{:.1} times {worse}**", 1.0 / ratio),
        _ => same.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;

    fn row(peer: Peer, metrics: &[(&'static str, f64)]) -> Row {
        let mut sample = Sample::default();
        metrics.iter().for_each(|(name, value)| sample.push(name, *value));
        Row { peer, samples: vec![sample], error: None }
    }

    fn part(scenario: Scenario, rows: Vec<Row>) -> Part {
        Part { scenario, pinned: false, rows }
    }

    #[test]
    fn a_peer_that_is_faster_is_said_to_be() {
        let row = |peer, p50| row(peer, &[("p50_us", p50), ("p99_us", p50 * 2.0)]);
        let rows = vec![row(Peer::Quip, 300.0), row(Peer::Nats, 100.0), row(Peer::JetstreamAlways, 900.0)];
        let mut text = String::new();
        verdict(&mut text, &part(Scenario::Latency, rows));
        assert!(text.contains("nats (not durable): Quip is **3.0 times slower** at the median"), "{text}");
        assert!(text.contains("jetstream-always (durable as well): Quip is 3.0 times faster"), "{text}");
    }

    #[test]
    fn a_peer_that_accepts_more_is_said_to_do_so() {
        let row = |peer, rate| row(peer, &[(ACCEPTED, rate)]);
        let rows = vec![row(Peer::Quip, 300.0), row(Peer::Mosquitto, 900.0), row(Peer::RedisAlways, 100.0)];
        let mut text = String::new();
        verdict(&mut text, &part(Scenario::Ingest, rows));
        assert!(text.contains("mosquitto (not durable): Quip accepts **3.0 times fewer messages**"), "{text}");
        assert!(text.contains("redis-always (durable as well): Quip accepts 3.0 times more messages"), "{text}");
    }

    #[test]
    fn a_peer_that_did_not_run_is_a_row_that_says_why() {
        let row = Row { peer: Peer::Nats, samples: Vec::new(), error: Some("there is no nats-server here".to_owned()) };
        let json = row.to_json();
        assert_eq!(json["p50_us"], Value::Null);
        assert_eq!(json["error"], "there is no nats-server here");
        let mut text = String::new();
        section(&mut text, &part(Scenario::Latency, vec![row]));
        assert!(text.contains("| nats | no | there is no nats-server here |"), "{text}");
    }
}
