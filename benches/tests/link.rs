//! `quip-bench link` as its users see it, and what is left of it when it dies.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A user that is not root on every Linux.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(20);

fn quip_bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quip-bench"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    quip_bench(arguments).output().unwrap()
}

/// Says that the test is skipped where no link can be made.
fn unsupported() -> bool {
    let output = run(&["link", "--", "true"]);
    let error = String::from_utf8_lossy(&output.stderr);
    let missing = error.contains("needs root") || error.contains("no /dev/net/tun");
    if missing {
        eprintln!("skipped: {error}");
    }
    missing
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_program_sees_the_network_and_gives_its_exit_code() {
    if unsupported() {
        return;
    }
    let script = "test $QUIP_LINK_ADDRESS = 198.18.0.1 && nsenter --net=$QUIP_LINK_PEER_NET ip -brief address; exit 7";
    let output = run(&["link", "--rtt", "10ms", "--", "sh", "-c", script]);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert!(out.contains("198.18.0.2/24"), "{out}");
    assert!(error.contains("late_p99_us"), "{error}");
}

#[test]
fn a_check_measures_what_was_asked_for() {
    if unsupported() {
        return;
    }
    let network = ["--rtt", "20ms", "--loss", "10%", "--rate", "8mbit"];
    let output = run(&[&["--json", "--runs", "1", "link", "--check", "--seconds", "1"][..], &network].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |row: &str, metric: &str| report["rows"][row][metric]["median"].as_f64().unwrap();
    for row in ["udp up", "udp down"] {
        // Chance is seeded; the upper bounds leave room for a machine that is busy with other tests.
        assert!((5.0..15.0).contains(&of(row, "loss_percent")), "{report}");
        assert!((10_000.0..20_000.0).contains(&of(row, "delay_p50_us")), "{report}");
        assert!((4e6..8.1e6).contains(&of(row, "rate_bit_per_s")), "{report}");
    }
    assert!((20_000.0..40_000.0).contains(&of("tcp", "round_trip_p50_us")), "{report}");
    assert_eq!(of("asked", "loss_percent"), 10.0);
}

#[test]
fn wrong_parameters_are_refused_in_words() {
    let output = run(&["link", "--rtt", "10ms", "--jitter", "6ms", "--check"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("exceeds the one-way delay"), "{error}");
    let output = run(&["link", "--loss", "often", "--check"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("a chance such as 2%"), "{error}");
}

#[test]
fn without_root_it_says_that_it_needs_root() {
    if unsupported() {
        return;
    }
    let output = match quip_bench(&["link", "--", "true"]).uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => output,
        // The program lies in a folder that only root may enter.
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("needs root"), "{error}");
}

/// A link whose program waits for ever.
struct Waiting {
    harness: Child,
    program: Pid,
}

impl Waiting {
    fn start() -> Self {
        let mut command = quip_bench(&["link", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
        let mut harness = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(harness.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { harness, program: Pid::from_raw(line.trim().parse().unwrap()).unwrap() }
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.program.as_raw_nonzero()).into()
    }
}

/// Whether any process uses the network namespace.
fn is_used(namespace: &PathBuf) -> bool {
    let processes = fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| fs::read_link(process.path().join("ns/net")).is_ok_and(|net| net == *namespace))
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    if unsupported() {
        return;
    }
    let devices = || fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    let before = devices();
    let mut waiting = Waiting::start();
    let namespace = fs::read_link(waiting.proc("ns/net")).unwrap();
    assert_ne!(namespace, fs::read_link("/proc/self/ns/net").unwrap());
    let devices_inside = waiting.proc("net/dev");
    let inside = || fs::read_to_string(&devices_inside).unwrap();
    assert!(inside().contains("link:"));

    waiting.harness.kill().unwrap();
    waiting.harness.wait().unwrap();
    wait_until("the device is still there", || !inside().contains("link:"));
    assert!(run(&["link", "--", "true"]).status.success(), "another link while the program still runs");

    kill_process(waiting.program, Signal::KILL).unwrap();
    wait_until("the namespace is still used", || !is_used(&namespace));
    assert_eq!(devices(), before);
}

#[test]
fn the_program_ends_with_a_harness_that_is_told_to_end() {
    if unsupported() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut waiting = Waiting::start();
        kill_process(Pid::from_child(&waiting.harness), signal).unwrap();
        assert_eq!(waiting.harness.wait().unwrap().code(), Some(130));
        wait_until("the program still runs", || {
            // A dead process that nobody has waited for has no command line.
            fs::read(waiting.proc("cmdline")).map_or(true, |line| line.is_empty())
        });
    }
}

#[test]
fn quiet_conversations_are_compared_with_and_without_a_bulk() {
    let relay = PathBuf::from(env!("CARGO_BIN_EXE_quip-bench")).with_file_name("quip-relay");
    if unsupported() {
        return;
    }
    if !relay.is_file() {
        return eprintln!("skipped: there is no {}: run `cargo build -p quip-relay`", relay.display());
    }
    let network = ["--rtt", "10ms", "--loss", "1%"];
    let load = ["--seconds", "0.5", "--warmup", "0.2"];
    let output = run(&[&["--json", "--runs", "1", "hol"][..], &network, &load].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for system in ["quip", "one stream", "tcp", "tcp, full buffer"] {
        for (row, has_bulk) in [(system.to_owned(), false), (format!("{system} + bulk"), true)] {
            let of = |metric: &str| report["rows"][&row][metric]["median"].as_f64().unwrap();
            assert_eq!((of("measured"), of("lost")), (70.0, 0.0), "{row}");
            assert!(of("p50_us") >= 5_000.0, "{row} is faster than the link: {report}");
            assert_eq!(of("bulk_bytes_per_s") > 0.0, has_bulk, "{row}: {report}");
        }
    }
    assert!(report["tcp_p99_over_quip"].as_f64().unwrap() > 0.0);
}
