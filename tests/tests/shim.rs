//! The fault tools themselves: what they undo, what they keep, and that they catch a log that is not synced.
//!
//! `QUIP_POWER_ROUNDS` sets the number of power failures of each test; `QUIP_POWER_SEED` repeats a run.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{
    collections::BTreeSet,
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
    fn start(shim: &Shim, folder: &Path, first: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_log-writer"));
        command.arg("write").arg(folder).arg(first.to_string()).envs(shim.env());
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
    fn new(seed: u64) -> Self {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("log");
        let shim = Shim::new(&folder).expect("the shim is built");
        Self { _parent: parent, folder, shim, rng: StdRng::seed_from_u64(seed), seed }
    }

    /// Lets a writer order about so many commands, cuts the power, and returns the last one it said was committed.
    fn round(&mut self, first: u64, batches: usize, metadata: Metadata) -> (u64, Report) {
        let mut writer = Writer::start(&self.shim, &self.folder, first);
        writer.wait_for(self.rng.random_range(batches / 2..batches));
        thread::sleep(Duration::from_micros(self.rng.random_range(0..3000)));
        let last = writer.kill();
        let report = self.shim.lose_power_with(self.rng.random(), metadata).expect("the power goes");
        println!("commands {first}..={last}: {report:?}");
        (last, report)
    }

    /// What is there, as the last batch; or what is wrong.
    fn check(&self, last: u64) -> Result<u64, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_log-writer"));
        let Output { status, stdout, stderr } =
            command.arg("check").arg(&self.folder).arg(last.to_string()).output().expect("the check runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if status.success() { Ok(text(stdout).parse().expect("a number")) } else { Err(text(stderr)) }
    }

    /// As [`Bench::check`], where nothing may be wrong.
    fn check_whole(&self, last: u64) -> u64 {
        self.check(last).unwrap_or_else(|error| panic!("QUIP_POWER_SEED={}: {error}", self.seed))
    }

    /// Runs a shell script in the folder, under the shim.
    fn run(&self, script: &str) -> bool {
        fs::create_dir_all(&self.folder).expect("the folder is made");
        let mut command = Command::new("sh");
        let status = command.args(["-c", &format!("set -e; {script}")]).current_dir(&self.folder).envs(self.shim.env());
        status.status().expect("sh runs").success()
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read(self.folder.join(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn rounds() -> usize {
    env::var("QUIP_POWER_ROUNDS").map_or(15, |rounds| rounds.parse().expect("a number"))
}

fn seed() -> u64 {
    let seed = env::var("QUIP_POWER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("QUIP_POWER_SEED={seed}");
    seed
}

/// Everything that `outcome` shows over 40 power failures after `script`.
fn outcomes<T: Ord>(metadata: Metadata, script: &str, outcome: impl Fn(&Bench) -> T) -> BTreeSet<T> {
    let after_power_failure = |seed| {
        let bench = Bench::new(seed);
        assert!(bench.run(script));
        bench.shim.lose_power_with(seed, metadata).expect("the power goes");
        outcome(&bench)
    };
    (0..40).map(after_power_failure).collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

// ---- what the shim undoes ----

#[test]
fn each_sector_shows_one_of_its_states_since_the_sync() {
    let script =
        "yes A | head -c 16384 >f; sync f; yes B | dd of=f bs=16384 count=1 conv=notrunc iflag=fullblock status=none";
    let seen = outcomes(Metadata::Ordered, script, |bench| {
        let text = bench.read("f").expect("it is synced");
        assert_eq!(text.len(), 16384);
        let sectors: Vec<&[u8]> = text.as_bytes().chunks(512).collect();
        for sector in &sectors {
            assert!(*sector == "A\n".repeat(256).as_bytes() || *sector == "B\n".repeat(256).as_bytes());
        }
        let new = sectors.iter().filter(|sector| sector[0] == b'B').count();
        let prefix = sectors.is_sorted_by_key(|sector| sector[0] != b'B');
        match new {
            0 => "dropped",
            32 => "kept",
            _ if prefix => "prefix",
            _ => "holes",
        }
    });
    assert_eq!(seen, ["dropped", "holes", "kept", "prefix"].into());
}

#[test]
fn an_unsynced_extension_is_kept_lost_or_zeros() {
    let script = "printf x >f; sync f; printf yy >>f";
    let seen = outcomes(Metadata::Ordered, script, |bench| bench.read("f").expect("it is synced"));
    assert_eq!(seen, set(["x", "x\0\0", "xyy"]));
}

#[test]
fn an_unsynced_truncation_is_kept_or_undone() {
    let script = "printf abcdef >f; sync f; truncate -s 2 f";
    let seen = outcomes(Metadata::Ordered, script, |bench| bench.read("f").expect("it is synced"));
    // Size and content reach the disk apart.
    assert_eq!(seen, set(["ab", "ab\0\0\0\0", "abcdef"]));
    let script = "printf abcdef >f; sync f; printf X >f; sync f";
    let seen = outcomes(Metadata::Ordered, script, |bench| bench.read("f").expect("it is synced"));
    assert_eq!(seen, set(["X"]));
}

#[test]
fn a_sync_covers_a_file_under_every_descriptor_and_process() {
    let script = "printf 1 >f; (printf 2 >>f); exec 3>>f; printf 3 >&3; exec 4>&3 3>&-; printf 4 >&4; mv f g; sync g; printf 5 >&4";
    let seen = outcomes(Metadata::Ordered, script, |bench| bench.read("g").expect("it is synced"));
    assert_eq!(seen, set(["1234", "1234\0", "12345"]));
}

#[test]
fn names_survive_in_order() {
    // The file is complete before it gets its name, so the name never shows anything else.
    let script = "printf old >f; sync f; printf new >t; sync t; mv t f; mv f g; printf x >later";
    let seen = outcomes(Metadata::Ordered, script, |bench| {
        let names = ["f", "t", "g"].map(|name| bench.read(name).unwrap_or_default());
        names.join(" ") + if bench.read("later").is_some() { " later" } else { "" }
    });
    assert_eq!(seen, set(["old new ", "new  ", "  new", "  new later"]));
    let seen = outcomes(Metadata::Ordered, &format!("{script}; sync ."), |bench| bench.read("later").is_some());
    assert_eq!(seen, [true].into());
}

#[test]
fn a_name_is_lost_unless_its_folder_was_synced() {
    let script = "mkdir d; printf x >d/f; sync d/f; sync d";
    let seen = outcomes(Metadata::Lost, script, |bench| bench.read("d/f").is_some());
    assert_eq!(seen, [false, true].into());
    let seen = outcomes(Metadata::Lost, &format!("{script}; sync ."), |bench| bench.read("d/f").is_some());
    assert_eq!(seen, [true].into());
    let seen = outcomes(Metadata::Lost, &format!("{script}; sync .; rm d/f; rmdir d"), |bench| bench.read("d/f"));
    assert_eq!(seen, [None, Some("x".into())].into());
}

#[test]
fn a_renamed_folder_brings_only_what_was_synced_in_it() {
    let script = "mkdir d; printf x >d/f; sync d/f; mv d e; sync .";
    let seen = outcomes(Metadata::Lost, script, |bench| bench.read("e/f").is_some());
    assert_eq!(seen, [false, true].into());
    let seen = outcomes(Metadata::Lost, &format!("{script}; sync e; mv e g"), |bench| {
        bench.read("e/f").is_some() != bench.read("g/f").is_some()
    });
    assert_eq!(seen, [true].into());
}

#[test]
fn what_a_failed_sync_should_have_covered_stays_in_doubt() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let bench = Bench::new(seed);
        assert!(bench.run("printf old >f; sync f; printf new | dd of=f conv=notrunc status=none"));
        bench.shim.set(Fault::Eio).expect("the fault is set");
        assert!(!bench.run("sync f 2>/dev/null"));
        bench.shim.set(Fault::None).expect("the fault is set");
        assert!(bench.run("sync f"));
        bench.shim.lose_power(seed).expect("the power goes");
        seen.extend(bench.read("f"));
    }
    assert_eq!(seen, set(["old", "new"]));
}

// ---- what a log on top of it shows ----

#[test]
fn a_synced_batch_survives_every_power_failure() {
    survive_power_failures(Metadata::Ordered);
}

#[test]
fn a_synced_batch_survives_where_names_need_a_sync_of_their_own() {
    survive_power_failures(Metadata::Lost);
}

fn survive_power_failures(metadata: Metadata) {
    const ROUNDS_PER_LOG: usize = 15;
    let mut seeds = StdRng::seed_from_u64(seed());
    let mut unsynced = 0;
    for start in (0..rounds()).step_by(ROUNDS_PER_LOG) {
        let mut bench = Bench::new(seeds.random());
        let mut head = 0;
        for _ in start..rounds().min(start + ROUNDS_PER_LOG) {
            let (last, report) = bench.round(head + 1, 60, metadata);
            head = bench.check_whole(last);
            unsynced += report.dropped + report.torn;
        }
    }
    assert!(unsynced > 0, "no unsynced write was ever dropped");
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    let mut seeds = StdRng::seed_from_u64(seed());
    for _ in 0..rounds() {
        let mut bench = Bench::new(seeds.random());
        // The log is made before.
        bench.round(1, 60, Metadata::Ordered);
        bench.shim.set(Fault::Lying).expect("the fault is set");
        let first = bench.check_whole(0) + 1;
        let (last, _) = bench.round(first, 60, Metadata::Ordered);
        if let Err(error) = bench.check(last) {
            println!("caught: {error}");
            return;
        }
    }
    panic!("a lying disk was not caught");
}

#[test]
fn a_sync_error_ends_the_log_and_loses_nothing() {
    let fault = Fault::Eio;
    assert_ends(fault);
}

#[test]
fn a_full_disk_ends_the_log_and_loses_nothing() {
    assert_ends(Fault::Enospc { after: 100_000 });
}

fn assert_ends(fault: Fault) {
    let bench = Bench::new(seed());
    let mut writer = Writer::start(&bench.shim, &bench.folder, 1);
    writer.wait_for(10);
    bench.shim.set(fault).expect("the fault is set");
    assert_eq!(writer.wait_for_end(), Some(1));
    let last = writer.kill();
    bench.shim.lose_power(bench.seed).expect("the power goes");
    bench.check_whole(last);
}

#[test]
fn a_stuck_sync_holds_the_log_until_it_is_released() {
    let bench = Bench::new(seed());
    let mut writer = Writer::start(&bench.shim, &bench.folder, 1);
    writer.wait_for(10);
    bench.shim.set(Fault::Stuck).expect("the fault is set");
    // The sync that was under way may still end.
    while writer.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
    bench.shim.set(Fault::None).expect("the fault is set");
    writer.wait_for(10);
    let last = writer.kill();
    bench.shim.lose_power(bench.seed).expect("the power goes");
    bench.check_whole(last);
}

// ---- a disk that is really full ----

#[test]
fn a_small_disk_fills_and_goes_away() {
    let Some(disk) = SmallDisk::new(1 << 20).expect("mount runs") else { return };
    let path = disk.path().to_owned();
    let filler = disk.fill().expect("it fills");
    assert_eq!(fs::metadata(&filler).expect("the filler").len(), 1 << 20);
    assert!(fs::write(path.join("more"), [0; 5000]).is_err());
    fs::remove_file(filler).expect("the filler is removed");
    fs::write(path.join("more"), [0; 5000]).expect("there is room again");
    drop(disk);
    assert!(!path.exists());
}
