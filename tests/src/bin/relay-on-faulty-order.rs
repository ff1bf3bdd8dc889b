//! A relay whose order does everything that its contract allows: it refuses, loses, repeats, delays and reorders
//! commands, by seed. For tests only; it takes the arguments that the tests' harness gives to a relay.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use quip_order::{Faults, embedded, faulty};
use quip_relay::{config::Config, logging, serve::serve_on};
use quip_tests::relay::ORDER_SEED;

fn main() -> ExitCode {
    let ended = run();
    if let Err(error) = &ended {
        logging::say(&format!("error: {error:#}\n"));
    }
    logging::flush();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run() -> Result<()> {
    let config: PathBuf = std::env::args_os().nth(3).context("usage: serve --config FILE")?.into();
    let seed = std::env::var(ORDER_SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let config = Config::load(&config)?;
    logging::init(&config.log)?;
    serve_on(
        config,
        |_| (),
        |log, config| {
            let (submit, order) = embedded(log, config)?;
            let (submit, order) = faulty((submit, order), seed, Faults::default());
            Ok((submit, order))
        },
    )?;
    Ok(())
}
