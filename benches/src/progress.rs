//! Progress of a scenario: an updated line on a terminal, a line per run elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Options;

/// Interval of updates on a terminal; long, since they take time from the generator.
const RENEW: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    scenario: &'static str,
    runs: u32,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins a scenario.
    pub(crate) fn new(scenario: &'static str, options: &Options) -> Self {
        let on_terminal = !options.json && stderr().is_terminal();
        Self { scenario, runs: options.runs(), bar: on_terminal.then(|| bar(scenario)) }
    }

    /// Reports a finished run of a row, numbered from 1.
    pub(crate) fn measured(&self, row: &str, run: usize) {
        let Self { scenario, runs, bar } = self;
        match bar {
            Some(bar) => bar.set_message(format!("run {run} of {runs}: {row} done")),
            None => eprintln!("{scenario}: run {run}/{runs} of {row}"),
        }
    }

    /// Clears the line.
    pub(crate) fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn bar(scenario: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}, {elapsed}: {msg}");
    let bar = ProgressBar::new_spinner().with_prefix(scenario).with_message("begins");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(RENEW);
    bar
}
