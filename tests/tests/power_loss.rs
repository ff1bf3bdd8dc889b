//! Power failures and failing disks under a relay that is being written to.
//!
//! `QUIP_POWER_ROUNDS` sets the number of power failures; `QUIP_POWER_SEED` repeats a run.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{env, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result, ensure};
use quip_tests::{
    disk::SmallDisk,
    ledger::Writer,
    power::{Fault, Report, Shim},
    relay::Relay,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const WRITERS: usize = 4;
/// What a killed relay had sent arrives within this.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A relay under the shim, and users who write to it.
struct Scene {
    relay: Relay,
    shim: Shim,
    writers: Vec<Writer>,
    random: StdRng,
    seed: u64,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Result<Self> {
        let seed = env::var("QUIP_POWER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        let folder = tempfile::tempdir()?;
        // Memtables so small, and so many threads, that some are flushed while others are written.
        let store = "[store]\nmemtable_bytes = \"1MiB\"\nworker_threads = 3\n";
        let mut relay = Relay::prepare(folder.path(), &format!("[limits]\nmessages_per_second = 0\n{store}"));
        let shim = Shim::new(&relay.data())?;
        relay.set_environment(shim.env());
        let writers = (0..WRITERS).map(Writer::new).collect();
        Ok(Self { relay, shim, writers, random: StdRng::seed_from_u64(seed), seed, _folder: folder })
    }

    /// Writes until `end` has done away with the relay, and takes what was still on its way from it.
    async fn write(&mut self, end: impl AsyncFnOnce(&Shim, &mut StdRng) -> Result<()>) -> Result<()> {
        let (relay, shim, random) = (&self.relay, &self.shim, &mut self.random);
        let writers = futures_util::future::join_all(self.writers.iter_mut().map(|writer| writer.write(relay)));
        let pid = relay.pid().context("the relay runs")?;
        let end = async {
            end(shim, random).await?;
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
            anyhow::Ok(())
        };
        tokio::pin!(writers, end);
        match futures_util::future::select(&mut writers, &mut end).await {
            futures_util::future::Either::Left((wrote, end)) => {
                end.await?;
                wrote.into_iter().collect()
            }
            futures_util::future::Either::Right((ended, writers)) => {
                ended?;
                // Nobody tells a client that the relay was killed; it would wait for the idle timeout.
                let wrote = tokio::time::timeout(LAST_WORDS, writers).await.unwrap_or_default();
                wrote.into_iter().collect()
            }
        }
    }

    async fn power_fails(&mut self) -> Result<Report> {
        self.relay.run()?;
        self.write(async |_, random| {
            tokio::time::sleep(Duration::from_millis(random.random_range(20..400))).await;
            Ok(())
        })
        .await?;
        self.relay.kill();
        if self.random.random_ratio(1, 3) {
            self.restart_first().await.context("before the power failed")?;
        }
        Ok(self.shim.lose_power(self.random.random())?)
    }

    /// Starts the relay once more on what is in memory and may not be on the disk, as after a crash, and kills it again.
    async fn restart_first(&mut self) -> Result<()> {
        self.relay.run()?;
        self.verify().await?;
        self.relay.kill();
        Ok(())
    }

    async fn verify(&self) -> Result<()> {
        for writer in &self.writers {
            writer.verify(&self.relay).await?;
        }
        Ok(())
    }

    fn accepted(&self) -> usize {
        self.writers.iter().map(Writer::accepted).sum()
    }
}

fn rounds() -> usize {
    env::var("QUIP_POWER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6)
}

#[tokio::test]
async fn nothing_accepted_is_lost_when_the_power_fails() -> Result<()> {
    let mut scene = Scene::new()?;
    let seed = scene.seed;
    let mut torn = 0;
    for round in 0..rounds() {
        let result = scene.power_fails().await.with_context(|| format!("round {round}, seed {seed}"))?;
        torn += result.torn + result.dropped;
        scene.relay.run().with_context(|| format!("after power failure {round}, seed {seed}"))?;
        scene.verify().await.with_context(|| format!("after power failure {round}, seed {seed}"))?;
        scene.relay.kill();
    }
    println!("{} accepted, {torn} writes torn or lost, seed {seed}", scene.accepted());
    ensure!(scene.accepted() > 100 && torn > 0, "too little happened: {} {torn} (seed {seed})", scene.accepted());
    Ok(())
}

/// Syncs that do nothing must be found out.
#[tokio::test]
async fn a_disk_that_lies_about_syncing_is_found_out() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.relay.run()?;
    scene.relay.kill();
    scene.shim.set(Fault::Lying)?;
    for _ in 0..20 {
        if scene.power_fails().await.is_err() || scene.relay.run().is_err() || scene.verify().await.is_err() {
            return Ok(());
        }
        scene.relay.kill();
    }
    anyhow::bail!("20 power failures without a sync, and nothing was missed (seed {})", scene.seed)
}

async fn stops_with(fault: Fault, says: &[&str]) -> Result<()> {
    let mut scene = Scene::new()?;
    let seed = scene.seed;
    scene.relay = {
        let config = "[limits]\nmessages_per_second = 0\n[store]\ncommit_timeout = \"1s\"\n";
        let mut relay = Relay::prepare(scene._folder.path(), config);
        relay.set_environment(scene.shim.env());
        relay
    };
    scene.relay.run()?;
    let progress: Vec<_> = scene.writers.iter().map(Writer::progress).collect();
    scene
        .write(async |shim, random| {
            let goal = random.random_range(10..200);
            while progress.iter().map(|writer| writer.load(Ordering::Relaxed)).sum::<usize>() < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shim.set(fault)?;
            // The relay has to end by itself; the kill that follows is for one that does not.
            tokio::time::sleep(Duration::from_secs(8)).await;
            Ok(())
        })
        .await?;
    let status = scene.relay.wait()?;
    let log = scene.relay.log();
    ensure!(status.code().is_some_and(|code| code != 0), "{fault:?}: ended with {status}: {log} (seed {seed})");
    ensure!(says.iter().all(|word| log.contains(word)), "{fault:?}: the log does not say {says:?}: {log}");
    scene.shim.set(Fault::None)?;
    scene.restart_first().await.with_context(|| format!("at the start after {fault:?}, seed {seed}"))?;
    scene.shim.lose_power(seed)?;
    scene.relay.run().with_context(|| format!("after {fault:?}, seed {seed}"))?;
    ensure!(scene.accepted() >= 10, "{fault:?}: only {} accepted", scene.accepted());
    scene.verify().await.with_context(|| format!("after {fault:?}, seed {seed}"))
}

#[tokio::test]
async fn a_failing_sync_stops_the_relay() -> Result<()> {
    stops_with(Fault::Eio, &["could not read or write the log"]).await
}

#[tokio::test]
async fn a_stuck_sync_stops_the_relay() -> Result<()> {
    stops_with(Fault::Stuck, &["takes longer"]).await
}

#[tokio::test]
async fn a_disk_without_room_stops_the_relay() -> Result<()> {
    stops_with(Fault::Enospc { after: 300_000 }, &[]).await
}

/// Small memtables, so that the disk may fill while a checkpoint writes one.
#[tokio::test]
async fn a_really_full_disk_stops_the_relay() -> Result<()> {
    let Some(disk) = SmallDisk::new(96 << 20)? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let config = "[limits]\nmessages_per_second = 0\n[store]\nmemtable_bytes = \"2MiB\"\ncommit_timeout = \"2s\"\n";
    let mut relay = Relay::prepare(folder.path(), config);
    relay.set_data(disk.path().join("data"));
    relay.run()?;
    let mut writers: Vec<_> = (0..WRITERS).map(Writer::new).collect();
    let wrote = futures_util::future::join_all(writers.iter_mut().map(|writer| writer.write(&relay))).await;
    wrote.into_iter().collect::<Result<()>>()?;
    let status = relay.wait()?;
    let log = relay.log();
    ensure!(status.code().is_some_and(|code| code != 0), "ended with {status}: {log}");
    ensure!(log.contains("check the disk") || log.contains("the disk is full"), "the log does not say why: {log}");
    // Room again, as after an operator's cleaning.
    let grown = std::process::Command::new("mount").args(["-o", "remount,size=512m"]).arg(disk.path()).status()?;
    ensure!(grown.success(), "the disk does not grow");
    relay.run()?;
    let accepted: usize = writers.iter().map(Writer::accepted).sum();
    ensure!(accepted > 500, "only {accepted} accepted before the disk was full");
    for writer in &writers {
        writer.verify(&relay).await?;
    }
    Ok(())
}
