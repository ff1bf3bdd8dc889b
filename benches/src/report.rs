//! The report of a scenario: one JSON object, or a table for people.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::{
    check::{Faults, Plant},
    machine::Machine,
    plot::{self, Chart},
    progress::Progress,
    stats::{Latencies, Spread},
    table::{align, number},
};

/// Maximum rows side by side in a table.
const ACROSS: usize = 8;

/// Options of every scenario.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Runs of each row; the rows of a run are interleaved [default: as many as the scenario's defaults allow in a
    /// minute].
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: Option<u32>,
    /// Parent of the data folders; selects the disk to measure.
    #[arg(long, global = true, default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
    /// The relay to measure [default: `quip-relay` beside this program].
    #[arg(long, global = true)]
    pub(crate) relay_bin: Option<PathBuf>,
    /// Also write charts as SVG to this folder.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// A key of the relay's configuration, such as limits.incoming=2048; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) relay_set: Vec<String>,
    /// Memory limit of the relay, in MiB: it runs in a control group of its own; needs root.
    #[arg(long, global = true, value_name = "MIB")]
    pub(crate) relay_memory: Option<u64>,
    /// Lose, repeat or swap one received message, to test that the scenario fails.
    #[arg(long, global = true, hide = true)]
    pub(crate) plant: Option<Plant>,
}

/// Default runs of a scenario.
pub(crate) const RUNS: u32 = 5;

impl Options {
    /// Runs of each row.
    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(RUNS)
    }
}

/// One run of one row: metrics by name, and reasons to doubt the run.
#[derive(Default)]
pub(crate) struct Sample {
    metrics: Vec<(&'static str, f64)>,
    generator_limits: Vec<String>,
    doubts: Vec<String>,
    is_promised: bool,
    /// Latencies by part; the empty name is the whole.
    curves: Vec<(&'static str, Latencies)>,
}

impl Sample {
    /// Adds a metric. Its unit is the ending of the name: `_us`, `_per_s`, `_percent`, `_bytes`; none is a count.
    pub(crate) fn push(&mut self, name: &'static str, value: f64) {
        self.metrics.push((name, value));
    }

    pub(crate) fn push_latency(&mut self, latencies: &Latencies) {
        self.push("p50_us", latencies.micros(0.5));
        self.push("p90_us", latencies.micros(0.9));
        self.push("p99_us", latencies.micros(0.99));
        self.push("p99_9_us", latencies.micros(0.999));
        self.push("max_us", latencies.max_micros());
        self.push("measured", latencies.count() as f64);
        self.keep("", latencies);
    }

    /// Adds the latencies of a part, for charts.
    pub(crate) fn keep(&mut self, part: &'static str, latencies: &Latencies) {
        self.curves.push((part, latencies.clone()));
    }

    /// The latencies of the whole, if any.
    pub(crate) fn whole(&self) -> Option<&Latencies> {
        self.curves.iter().find(|(part, _)| part.is_empty()).map(|(_, latencies)| latencies)
    }

    /// Marks the run as limited by the generator rather than the server.
    pub(crate) fn generator_was_limit(&mut self, reason: String) {
        self.generator_limits.push(reason);
    }

    /// Marks the run as doubtful.
    pub(crate) fn doubt(&mut self, reason: String) {
        self.doubts.push(reason);
    }

    fn parts(&self) -> impl Iterator<Item = &'static str> {
        self.curves.iter().map(|(part, _)| *part)
    }

    /// The reasons to doubt the run.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.generator_limits.iter().chain(&self.doubts).map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let found = self.metrics.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }

    /// Marks the run as one in which nothing may be lost, duplicated or reordered.
    pub(crate) fn promised(&mut self) {
        self.is_promised = true;
    }

    /// The faults of a run that may have none, as text; `None` if there are none.
    fn faults(&self) -> Option<String> {
        if !self.is_promised {
            return None;
        }
        let found: Vec<String> = Faults::METRICS
            .iter()
            .filter_map(|metric| Some(format!("{metric} {}", self.get(metric).filter(|count| *count > 0.0)?)))
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

/// A table of a scenario, with named columns.
struct List {
    name: &'static str,
    columns: &'static [&'static str],
    lines: Vec<Vec<Value>>,
}

/// All runs of a scenario.
pub(crate) struct Report {
    scenario: &'static str,
    machine: Machine,
    runs: u32,
    settings: Map<String, Value>,
    results: Vec<(String, f64)>,
    lists: Vec<List>,
    rows: Vec<(String, Vec<Sample>)>,
    notes: Vec<String>,
    charts: Vec<Chart>,
    progress: Progress,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, options: &Options) -> Self {
        let mut settings = Map::new();
        if !options.relay_set.is_empty() {
            settings.insert("relay_set".to_owned(), json!(options.relay_set));
        }
        Self {
            scenario,
            machine: Machine::describe(&options.dir),
            runs: options.runs(),
            settings,
            results: Vec::new(),
            lists: Vec::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            charts: Vec::new(),
            progress: Progress::new(scenario, options),
        }
    }

    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// Adds a result of the whole report; in JSON a number at the top level.
    pub(crate) fn result(&mut self, name: impl Into<String>, value: f64) {
        self.results.push((name.into(), value));
    }

    /// Adds the median of a row's metric as a result.
    pub(crate) fn result_of(&mut self, row: &str, metric: &'static str) {
        self.result_as(metric, row, metric);
    }

    /// As [`Report::result_of`], under another name.
    pub(crate) fn result_as(&mut self, name: impl Into<String>, row: &str, metric: &str) {
        if let Some(spread) = self.spread(row, metric) {
            self.result(name, spread.median);
        }
    }

    /// Adds a table of the scenario; in JSON a list of objects at the top level.
    pub(crate) fn list(&mut self, name: &'static str, columns: &'static [&'static str], lines: Vec<Vec<Value>>) {
        self.lists.push(List { name, columns, lines });
    }

    /// Adds a chart of the scenario.
    pub(crate) fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a run to a row; rows are in order of their first run.
    pub(crate) fn add(&mut self, row: &str, sample: Sample) {
        let position = self.rows.iter().position(|(name, _)| name == row);
        let index = position.unwrap_or_else(|| {
            self.rows.push((row.to_owned(), Vec::new()));
            self.rows.len() - 1
        });
        let samples = &mut self.rows[index].1;
        samples.push(sample);
        self.progress.measured(row, samples.len());
    }

    /// A metric of a row over its runs; `None` if the row lacks it.
    pub(crate) fn spread(&self, row: &str, metric: &str) -> Option<Spread> {
        let (_, samples) = self.rows.iter().find(|(name, _)| name == row)?;
        Spread::of(samples.iter().filter_map(|sample| sample.get(metric)))
    }

    /// Whether no run lost, duplicated or reordered a message.
    pub(crate) fn is_sound(&self) -> bool {
        self.rows.iter().all(|(_, samples)| samples.iter().all(|sample| sample.faults().is_none()))
    }

    /// Writes the report to standard output.
    pub(crate) fn print(&self, options: &Options) -> Result<()> {
        self.progress.finish();
        if options.json {
            println!("{}", serde_json::to_string(&self.to_json()?)?);
        } else {
            print!("{}", self.to_text());
        }
        Ok(())
    }

    /// Writes the charts of the scenario and percentile curves, if `--plot` is given.
    pub(crate) fn plot(&self, options: &Options) -> Result<()> {
        let Some(folder) = &options.plot else { return Ok(()) };
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let caption = format!("{}; {} runs", self.machine.line(), self.runs);
        let parts: BTreeSet<_> = self.rows.iter().flat_map(|(_, samples)| samples).flat_map(Sample::parts).collect();
        let curves = parts.into_iter().flat_map(|part| self.curves(part));
        self.charts.iter().chain(&curves.collect::<Vec<_>>()).try_for_each(|chart| chart.write(folder, &caption))
    }

    /// Percentile curves of every row with this part, over all its runs.
    fn curves(&self, part: &'static str) -> Vec<Chart> {
        let curves = self.rows.iter().map(|(row, samples)| {
            let mut all = Latencies::new();
            let found = samples.iter().flat_map(|sample| &sample.curves).filter(|(of, _)| *of == part);
            found.for_each(|(_, latencies)| all.merge(latencies));
            (row.as_str(), all)
        });
        plot::curves(self.scenario, part, curves.filter(|(_, all)| all.count() > 0))
    }

    fn to_json(&self) -> Result<Value> {
        let rows: Map<String, Value> =
            self.rows.iter().map(|(name, samples)| (name.clone(), row_json(self, name, samples))).collect();
        let mut object = json!({
            "scenario": self.scenario,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": serde_json::to_value(&self.machine)?,
            "settings": self.settings,
            "runs": self.runs,
            "rows": rows,
            "generator_was_limit": self.rows.iter().any(|(_, s)| limits(s).next().is_some()),
            "sound": self.is_sound(),
            "doubtful": self.rows.iter().any(|(_, s)| doubts(s).next().is_some()),
            "data_in_memory": self.machine.keeps_data_in_memory(),
            "notes": self.notes,
        });
        for (name, value) in &self.results {
            object[name] = json!(value);
        }
        for list in &self.lists {
            object[list.name] = list.to_json();
        }
        Ok(object)
    }

    /// The report as a table.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{}: {} runs\n{}\n", self.scenario, self.runs, self.machine.line());
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        text += &format!("{}\n\n", settings.join(", "));
        text += &self.table();
        text += "\n";
        for (name, value) in &self.results {
            text += &format!("{name}: {}\n", number(*value));
        }
        self.lists.iter().for_each(|list| text += &list.to_text());
        for (name, samples) in &self.rows {
            for (run, faults) in (1..).zip(samples).filter_map(|(run, sample)| Some((run, sample.faults()?))) {
                text += &format!("THE PROMISE WAS BROKEN: {name}, run {run}: {faults}\n");
            }
            for (run, reason) in limits(samples) {
                text += &format!("THE GENERATOR WAS THE LIMIT: {name}, run {run}: {reason}\n");
            }
            for (run, reason) in doubts(samples) {
                text += &format!("in doubt: {name}, run {run}: {reason}\n");
            }
        }
        if self.machine.keeps_data_in_memory() {
            text += "THE DATA WAS IN MEMORY: nothing here is durable; name a folder on a disk with --dir\n";
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }

    /// Metrics down, rows across: median, and the range if there are several runs. Many rows make several tables.
    fn table(&self) -> String {
        let rows: Vec<&str> = self.rows.iter().map(|(name, _)| name.as_str()).collect();
        let tables: Vec<String> = rows.chunks(ACROSS).map(|rows| self.table_of(rows)).collect();
        tables.join("\n")
    }

    fn table_of(&self, rows: &[&str]) -> String {
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(rows.iter().map(|row| (*row).to_owned()));
        for metric in self.metrics() {
            let spreads: Vec<_> = rows.iter().map(|row| self.spread(row, metric)).collect();
            if spreads.iter().any(Option::is_some) {
                let cells = spreads.into_iter().map(|spread| cell(spread, self.runs));
                lines.push(std::iter::once(metric.to_owned()).chain(cells).collect());
            }
        }
        align(&lines)
    }

    /// Every metric of any row, in order of first appearance.
    fn metrics(&self) -> Vec<&'static str> {
        let mut metrics = Vec::new();
        for (_, samples) in &self.rows {
            for (name, _) in samples.iter().flat_map(|sample| &sample.metrics) {
                if !metrics.contains(name) {
                    metrics.push(*name);
                }
            }
        }
        metrics
    }
}

impl List {
    fn to_json(&self) -> Value {
        let names = || self.columns.iter().map(|name| (*name).to_owned());
        let lines = self.lines.iter().map(|line| Value::Object(names().zip(line.iter().cloned()).collect()));
        Value::Array(lines.collect())
    }

    fn to_text(&self) -> String {
        let cell = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            value => value.as_f64().map_or_else(|| value.to_string(), number),
        };
        let head = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let lines = self.lines.iter().map(|line| line.iter().map(cell).collect());
        format!("{}:\n{}", self.name, align(&std::iter::once(head).chain(lines).collect::<Vec<_>>()))
    }
}

fn row_json(report: &Report, row: &str, samples: &[Sample]) -> Value {
    let mut object = Map::new();
    for metric in report.metrics() {
        if let Some(spread) = report.spread(row, metric) {
            object.insert(metric.to_owned(), json!(spread));
        }
    }
    let texts = |found: Vec<(usize, &str)>| -> Vec<String> {
        found.iter().map(|(run, reason)| format!("run {run}: {reason}")).collect()
    };
    object.insert("generator_limits".to_owned(), json!(texts(limits(samples).collect())));
    object.insert("doubts".to_owned(), json!(texts(doubts(samples).collect())));
    Value::Object(object)
}

/// Reasons with the number of their run, from 1.
fn limits(samples: &[Sample]) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(samples);
    numbered.flat_map(|(run, s)| s.generator_limits.iter().map(move |text| (run, text.as_str())))
}

fn doubts(samples: &[Sample]) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(samples);
    numbered.flat_map(|(run, s)| s.doubts.iter().map(move |text| (run, text.as_str())))
}

fn cell(spread: Option<Spread>, runs: u32) -> String {
    match spread {
        None => "-".to_owned(),
        Some(spread) if runs == 1 => number(spread.median),
        Some(Spread { median, min, max }) => {
            format!("{} ({}..{})", number(median), number(min), number(max))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn report() -> Report {
        let options = Options {
            json: true,
            runs: Some(3),
            dir: std::env::temp_dir(),
            relay_bin: None,
            relay_set: Vec::new(),
            relay_memory: None,
            plot: None,
            plant: None,
        };
        let mut report = Report::new("test", &options);
        for value in [30.0, 10.0, 20.0] {
            let mut sample = Sample::default();
            sample.push("p50_us", value);
            report.add("bare", sample);
        }
        report
    }

    #[test]
    fn json_has_stable_keys() {
        let mut report = report();
        report.result("relay_bytes_per_connection", 42.0);
        let json = report.to_json().unwrap();
        assert_eq!(json["scenario"], "test");
        assert_eq!(json["rows"]["bare"]["p50_us"]["median"], 20.0);
        assert_eq!(json["rows"]["bare"]["p50_us"]["max"], 30.0);
        assert_eq!(json["relay_bytes_per_connection"], 42.0);
        assert_eq!(json["generator_was_limit"], false);
    }

    #[test]
    fn a_limiting_generator_is_said_in_both_forms() {
        let mut report = report();
        let mut sample = Sample::default();
        sample.generator_was_limit("too slow".to_owned());
        report.add("bare", sample);
        assert_eq!(report.to_json().unwrap()["generator_was_limit"], true);
        assert!(report.to_text().contains("THE GENERATOR WAS THE LIMIT: bare, run 4: too slow"));
    }

    #[test]
    fn a_lost_message_makes_the_report_unsound_in_both_forms() {
        let mut report = report();
        for lost in [0, 2] {
            let mut sample = Sample::default();
            Faults { lost, ..Faults::default() }.add_to(&mut sample);
            report.add("bare", sample);
            assert_eq!(report.to_json().unwrap()["sound"], lost == 0);
        }
        assert!(report.to_text().contains("THE PROMISE WAS BROKEN: bare, run 5: lost 2"));
    }

    #[test]
    fn what_a_link_loses_breaks_no_promise() {
        let mut report = report();
        let mut sample = Sample::default();
        sample.push("lost", 7.0);
        report.add("link up", sample);
        assert!(report.is_sound() && !report.to_text().contains("PROMISE"));
    }
}
