//! The short form of `scripts/torture`.

use anyhow::Result;
use quip_tests::torture::{Torture, write_log};

#[test]
fn a_relay_that_is_killed_loses_repeats_and_reorders_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let seed = rand::random();
    let log = folder.path().join("made.log");
    write_log(&log, 400, seed)?;
    let toll = Torture { kills: 4, seed, logs: vec![log], speed: 120 }.run(folder.path())?;
    assert!(toll.kills == 4 && toll.delivered > 1000, "{toll:?} (seed {seed})");
    Ok(())
}
