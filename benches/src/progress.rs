//! What people see while a report is in the making: a line that is renewed on a terminal, a line for each run elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Options;

/// How often the line on a terminal is renewed; seldom, since it takes time from the generator.
const RENEW: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    scenario: &'static str,
    runs: u32,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Says that a scenario begins.
    pub(crate) fn new(scenario: &'static str, options: &Options) -> Self {
        let on_terminal = !options.json && stderr().is_terminal();
        Self { scenario, runs: options.runs(), bar: on_terminal.then(|| bar(scenario)) }
    }

    /// Says that a run of a row is measured; its number is from 1.
    pub(crate) fn measured(&self, row: &str, run: usize) {
        let Self { scenario, runs, bar } = self;
        match bar {
            Some(bar) => bar.set_message(format!("run {run} of {runs}: {row} done")),
            None => eprintln!("{scenario}: run {run}/{runs} of {row}"),
        }
    }

    /// Leaves the terminal to the report.
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
