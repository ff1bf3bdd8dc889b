//! The fault tools themselves: what they undo, what they keep, and that they catch a store that does not sync.
//!
//! `QUIP_POWER_ROUNDS` sets the number of power failures of each test; `QUIP_POWER_SEED` repeats a run.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use quip_tests::{
    disk::SmallDisk,
    power::{Fault, Metadata, Report, Shim},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A writer under the shim, and the numbers it has printed.
struct Writer {
    child: Child,
    lines: Receiver<u64>,
    last: u64,
}

impl Writer {
    fn start(shim: &Shim, folder: &Path, first: u64, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fjall-writer"));
        command.arg("write").arg(folder).arg(first.to_string()).args(flags).envs(shim.env());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the writer starts");
        let out = BufReader::new(child.stdout.take().expect("its output is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line.parse().expect("a number"));
            }
        });
        Self { child, lines, last: first - 1 }
    }

    /// Waits until it has committed `count` more.
    fn wait_for(&mut self, count: usize) {
        for _ in 0..count {
            self.last = self.lines.recv_timeout(PATIENCE).expect("the writer commits");
        }
    }

    /// Kills it; what it printed last was committed.
    fn kill(mut self) -> u64 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.lines.iter().last().unwrap_or(self.last)
    }

    fn wait_for_end(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the writer did not end");
    }
}

/// A folder under watch, in a temporary one.
struct Bench {
    _parent: TempDir,
    folder: PathBuf,
    shim: Shim,
    rng: StdRng,
    seed: u64,
}

impl Bench {
    fn new() -> Self {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("db");
        let shim = Shim::new(&folder).expect("the shim is built");
        let seed = env::var("QUIP_POWER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
        println!("QUIP_POWER_SEED={seed}");
        Self { _parent: parent, folder, shim, rng: StdRng::seed_from_u64(seed), seed }
    }

    /// Lets a writer work for a while, cuts the power, and returns the last batch it said was committed.
    fn round(&mut self, first: u64, flags: &[&str], metadata: Metadata) -> (u64, Report) {
        let mut writer = Writer::start(&self.shim, &self.folder, first, flags);
        writer.wait_for(self.rng.random_range(1..200));
        thread::sleep(Duration::from_micros(self.rng.random_range(0..3000)));
        let last = writer.kill();
        let report = self.shim.lose_power_with(self.rng.random(), metadata).expect("the power goes");
        println!("batches {first}..={last}: {report:?}");
        (last, report)
    }

    /// What is there, as the last batch; or what is wrong.
    fn check(&self, last: u64, flags: &[&str]) -> Result<u64, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fjall-writer"));
        let Output { status, stdout, stderr } =
            command.arg("check").arg(&self.folder).arg(last.to_string()).args(flags).output().expect("the check runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if status.success() { Ok(text(stdout).parse().expect("a number")) } else { Err(text(stderr)) }
    }
}

fn rounds() -> usize {
    env::var("QUIP_POWER_ROUNDS").map_or(15, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn a_synced_batch_survives_every_power_failure() {
    let mut bench = Bench::new();
    let (mut head, mut total) = (0, Report::default());
    for round in 0..rounds() {
        let (last, report) = bench.round(head + 1, &[], Metadata::Ordered);
        head = bench.check(last, &[]).unwrap_or_else(|error| panic!("seed {}, round {round}: {error}", bench.seed));
        total.dropped += report.dropped;
        total.torn += report.torn;
    }
    assert!(total.dropped > 0, "no unsynced write was ever dropped: {total:?}");
}

#[test]
fn a_store_that_does_not_sync_is_caught() {
    assert_caught(&["--no-sync"], Fault::None);
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    assert_caught(&[], Fault::Lying);
}

fn assert_caught(flags: &[&str], fault: Fault) {
    for _ in 0..rounds() {
        let mut bench = Bench::new();
        bench.shim.set(fault).expect("the fault is set");
        let (last, _) = bench.round(1, flags, Metadata::Ordered);
        if let Err(error) = bench.check(last, &[]) {
            println!("caught: {error}");
            return;
        }
    }
    panic!("{flags:?} with {fault:?} was not caught");
}

#[test]
#[ignore]
fn lab_raw() {
    let mut tally = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..rounds() {
        let mut bench = Bench::new();
        let (last, _) = bench.round(1, &[], Metadata::Ordered);
        let copy = bench.folder.with_extension("copy");
        Command::new("cp").arg("-a").arg(&bench.folder).arg(&copy).status().unwrap();
        let orig = std::mem::replace(&mut bench.folder, copy);
        let raw = bench.check(last, &["--raw"]).map_or_else(|e| e, |_| "ok".into());
        bench.folder = orig;
        let fixed = bench.check(last, &[]).map_or_else(|e| e, |_| "ok".into());
        *tally.entry(format!("raw {raw} / repaired {fixed}")).or_default() += 1;
    }
    println!("TALLY {tally:#?}");
}

#[test]
#[ignore]
fn lab_first_open() {
    let mut tally = std::collections::BTreeMap::<String, usize>::new();
    for i in 0..rounds() {
        let mut bench = Bench::new();
        let writer = Writer::start(&bench.shim, &bench.folder, 1, &[]);
        thread::sleep(Duration::from_micros(bench.rng.random_range(0..30000)));
        let last = writer.kill();
        let mode = if env::var("LOST").is_ok() { Metadata::Lost } else { Metadata::Ordered };
        let power = env::var("NOPOWER").is_err();
        if power { bench.shim.lose_power_with(bench.rng.random(), mode).unwrap(); }
        let r = bench.check(last, &[]).map_or_else(|e| { let t: String = e.split("db/").last().unwrap().into();
            if env::var("KEEP").is_ok() { let _ = Command::new("cp").arg("-a").arg(bench.folder.parent().unwrap()).arg(format!("/tmp/quip/lab/keep{i}")).status(); }
            t }, |_| "ok".into());
        *tally.entry(r).or_default() += 1;
    }
    println!("TALLY {tally:#?}");
}

#[test]
#[ignore]
fn lab_lost() {
    let mut tally = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..rounds() {
        let mut bench = Bench::new();
        let (last, _) = bench.round(1, &[], Metadata::Lost);
        let r = bench.check(last, &[]).map_or_else(|e| e, |_| "ok".into());
        *tally.entry(r).or_default() += 1;
    }
    println!("TALLY {tally:#?}");
}
