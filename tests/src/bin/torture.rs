//! Kills a relay at random moments while `quip-bench replay` runs through it, and checks every delivery.
//!
//! `torture [--kills N] [--seed S] [--speed X] [LOG...]`; without logs it generates one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use quip_tests::torture::{Torture, write_log};

fn main() -> Result<()> {
    let mut torture = Torture { kills: 50, seed: rand::random(), logs: Vec::new(), speed: 600 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().with_context(|| format!("{argument} needs a number"));
        match argument.as_str() {
            "--kills" => torture.kills = number()?.parse()?,
            "--seed" => torture.seed = number()?.parse()?,
            "--speed" => torture.speed = number()?.parse()?,
            _ => torture.logs.push(PathBuf::from(argument)),
        }
    }
    let folder = tempfile::tempdir()?;
    if torture.logs.is_empty() {
        let log = folder.path().join("made.log");
        write_log(&log, 3000, torture.seed)?;
        torture.logs.push(log);
    }
    println!("seed {}", torture.seed);
    let toll = match torture.run(folder.path()) {
        Ok(toll) => toll,
        Err(error) => {
            let kept = folder.keep();
            return Err(error.context(format!("the relay's data and log are kept in {}", kept.display())));
        }
    };
    println!(
        "killed {} times during {} replays: {} lines accepted, {} deliveries, 0 lost, 0 duplicated, 0 reordered",
        toll.kills, toll.replays, toll.accepted, toll.delivered
    );
    Ok(())
}
