//! `replay` against a real relay: it finds nothing wrong where nothing is, and every planted fault. The binaries must be
//! there: `cargo build --workspace --bins`.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

const LOG: &str = "[10:00] <ann> one\n[10:00] <bob> two\n=== cy [h] has joined #ubuntu\n[10:00]  * ann waves\n\
    === bob [h] has left #ubuntu []\n=== ann is now known as anna\n[10:01] <anna> three\n[10:01] <cy> four\n";
/// How long a relay may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_quip-bench"))
}

fn replay(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["--json", "replay", "x.log", "--speed", "600", "--data", "data"]).args(arguments);
    command.current_dir(folder).output().unwrap()
}

/// A relay with its data in FOLDER/data. Dropping it kills it.
struct Relay(Child);

impl Relay {
    fn start(folder: &Path) -> Self {
        let relay = program().with_file_name("quip-relay");
        assert!(relay.is_file(), "no quip-relay: run `cargo build --workspace --bins`");
        let mut command = Command::new(relay);
        command.args(["serve", "--data", "data", "--listen", "127.0.0.1:0"]).current_dir(folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + PATIENCE;
        while !folder.join("data/listen").exists() {
            assert!(Instant::now() < until, "the relay does not start");
            sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn error(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_planted_fault_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.log"), LOG).unwrap();
    let _relay = Relay::start(folder.path());
    for (fault, metric) in [("", "none"), ("loss", "lost"), ("duplicate", "duplicated"), ("swap", "reordered")] {
        let plant = if fault.is_empty() { vec![] } else { vec!["--plant", fault] };
        let room = format!("test:{metric}");
        let drain = ["--room", &room, "--drain-timeout", "2"];
        let output = replay(folder.path(), &[&plant[..], &drain].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(report["good"], fault.is_empty(), "{report}");
        assert_eq!(output.status.success(), fault.is_empty(), "{report}");
        assert_eq!((&report["sent"], &report["accepted"]), (&5.into(), &5.into()), "{report}");
        for other in ["lost", "duplicated", "reordered", "altered", "unaccepted"] {
            assert_eq!(report[other], u64::from(other == metric), "{fault}: {other} in {report}");
        }
        let (expected, delivered) = (report["expected"].as_u64().unwrap(), report["delivered"].as_u64().unwrap());
        assert_eq!(expected - delivered, u64::from(fault == "loss"), "{report}");
    }
}

#[test]
fn the_keys_of_the_report_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.log"), LOG).unwrap();
    let _relay = Relay::start(folder.path());
    let output = replay(folder.path(), &["--observers", "1", "--limit-lines", "1"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let mut keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = "accepted altered connections cpu_s delivered duplicated expected files good lag_us latency_us lost \
        members_max memberships observers problems reopened reordered sent speed stored unaccepted users wall_s";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn without_a_data_folder_the_error_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.log"), LOG).unwrap();
    let text = error(&replay(folder.path(), &[]));
    assert!(text.contains("quip-relay --data data"), "{text}");
}

#[test]
fn a_file_that_is_no_log_is_refused_before_anything_is_played() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.log"), "nothing of the kind\n").unwrap();
    let text = error(&replay(folder.path(), &[]));
    assert!(text.contains("x.log has no line such as"), "{text}");
}
