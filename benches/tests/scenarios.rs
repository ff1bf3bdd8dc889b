//! Every scenario against a real relay, briefly: it ends well, and it ends badly when a message is lost, comes twice or
//! out of order. The binaries must be there: `cargo build --workspace --bins`.

#![allow(clippy::unwrap_used)]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

const LATENCY: &[&str] = &["latency", "--rate", "100", "--seconds", "0.5", "--warmup", "0.1"];
const TAIL: &[&str] =
    &["tail", "--pairs", "2", "--rate", "100", "--seconds", "0.5", "--warmup", "0.1", "--slowest", "3"];
const PAIRS: &[&str] = &["bare", "pairs", "--rate", "100", "--seconds", "0.5", "--warmup", "0.1"];
const BARE_INGEST: &[&str] = &["bare", "ingest", "--senders", "2", "--seconds", "0.3", "--warmup", "0.1"];
const INGEST: &[&str] = &["ingest", "--senders", "2", "--window", "4", "--seconds", "0.3", "--warmup", "0.1"];
const HISTORY: &[&str] = &["history", "--page", "5", "--conversations", "4", "--messages", "10"];
const MIGRATE: &[&str] = &["migrate", "--rate", "200", "--seconds", "1", "--warmup", "0.1", "--changes", "2"];
const RECONNECT: &[&str] = &["reconnect", "--clients", "6", "--jitter", "5ms"];
const IDLE: &[&str] =
    &["idle", "--connections", "3,5", "--conversations", "2", "--seconds", "0.2", "--calm", "0.1", "--gso", "both"];
const STRANGERS: &[&str] =
    &["strangers", "--refused", "50", "--pairs", "2", "--rate", "100", "--seconds", "0.5", "--warmup", "0.1"];
const HOL: &[&str] = &["hol", "--rtt", "2ms", "--seconds", "0.3", "--warmup", "0.1"];

fn run(arguments: &[&str]) -> Output {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_quip-bench"));
    assert!(program.with_file_name("quip-relay").is_file(), "no quip-relay: run `cargo build --workspace --bins`");
    Command::new(program).args(["--json", "--runs", "1"]).args(arguments).output().unwrap()
}

fn report(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report; {error}"))
}

/// The report of a scenario in which all goes well.
fn sound(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let report = report(&output);
    assert!(output.status.success() && report["sound"] == true, "{report}");
    report
}

/// All the numbers of one metric.
fn sum(report: &Value, metric: &str) -> f64 {
    let rows = report["rows"].as_object().unwrap().values();
    rows.filter_map(|row| row[metric]["max"].as_f64()).sum()
}

/// A scenario that counts faults reports the planted one, and nothing else, and fails.
fn counts_what_is_planted(arguments: &[&str]) {
    for (fault, metric) in [("loss", "lost"), ("duplicate", "duplicated"), ("swap", "reordered")] {
        let output = run(&[&["--plant", fault], arguments].concat());
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{fault}: {report}");
        assert_eq!(report["sound"], false, "{fault}");
        for other in ["lost", "duplicated", "reordered"] {
            assert_eq!(sum(&report, other), f64::from(u8::from(other == metric)), "{fault}: {other} in {report}");
        }
    }
}

/// A scenario that checks answers or pages ends with an error at once.
fn stops_at_what_is_planted(arguments: &[&str], words: &str) {
    for fault in ["loss", "duplicate", "swap"] {
        let output = run(&[&["--plant", fault], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{fault}: {error}");
        assert!(output.stdout.is_empty() && error.contains(words), "{fault}: {error}");
    }
}

#[test]
fn latency() {
    let report = sound(LATENCY);
    assert_eq!(sum(&report, "accepted"), 50.0);
    let quip = &report["rows"]["quip"];
    // "sender-0".
    assert_eq!(quip["sender_id_bytes"]["max"], 8.0);
    for (metric, most) in [("framing_bytes_per_delivery", 16.0), ("framing_bytes_per_post", 6.0)] {
        let bytes = quip[metric]["max"].as_f64().unwrap();
        assert!(bytes > 2.0 && bytes <= most, "{metric}: {bytes}");
    }
    counts_what_is_planted(LATENCY);
}

#[test]
fn tail() {
    let report = sound(&[&["--relay-set", "store.memtable_bytes=\"1MiB\""], TAIL].concat());
    let row = &report["rows"]["quip"];
    assert_eq!(row["measured"]["median"], 50.0);
    assert_eq!(report["settings"]["relay_set"][0], "store.memtable_bytes=\"1MiB\"");
    for result in ["p99_9_us", "max_us"] {
        assert!(report[result].as_f64().unwrap() > 0.0, "{result}: {report}");
    }
    // So short a run reaches none of these, and says so.
    for result in ["flushes", "rotations", "compactions"] {
        assert_eq!(report[result], 0.0, "{result}: {report}");
    }
    assert_eq!(row["doubts"].as_array().unwrap().iter().filter(|doubt| doubt.to_string().contains(": no ")).count(), 3);
    let slowest = report["slowest"].as_array().unwrap();
    assert_eq!(slowest.len(), 3);
    let micros = |moment: &Value| moment["us"].as_f64().unwrap();
    assert!(slowest.is_sorted_by(|one, next| micros(one) >= micros(next)), "{report}");
    for moment in slowest {
        assert!((0.0..=0.5).contains(&moment["at_s"].as_f64().unwrap()), "{moment}");
        assert_eq!(moment["beside"], "nothing in the store");
    }
    counts_what_is_planted(TAIL);
}

#[test]
fn bare_pairs() {
    counts_what_is_planted(PAIRS);
}

#[test]
fn ingest() {
    assert!(sound(INGEST)["accepted_per_s"].as_f64().unwrap() > 0.0);
    stops_at_what_is_planted(INGEST, "the answer to message");
    stops_at_what_is_planted(BARE_INGEST, "the answer to message");
}

#[test]
fn history() {
    assert!(sound(HISTORY)["page_cold_p50_us"].as_f64().unwrap() > 0.0);
    stops_at_what_is_planted(HISTORY, "a page with Faults");
}

#[test]
fn start() {
    let report = sound(&["start", "--messages", "20000"]);
    let metric = |row: &str, metric: &str| report["rows"][row][metric]["median"].as_f64().unwrap();
    assert!(metric("stopped", "start_us") > 0.0);
    assert_eq!(metric("stopped", "commands"), 0.0, "an orderly end leaves nothing in the log");
    assert!(metric("killed", "commands") > 0.0, "a kill under load leaves something in the log");
    assert!(metric("killed", "before_rss_peak_bytes") > 1e6);
}

#[test]
fn migrate() {
    let report = sound(MIGRATE);
    for row in ["still", "port", "address"] {
        assert_eq!(report["rows"][row]["measured"]["min"], 200.0, "{row}");
    }
    for result in ["port_gap_max_ms", "address_gap_max_ms"] {
        assert!(report[result].as_f64().unwrap() >= 0.0, "{result}");
    }
    counts_what_is_planted(MIGRATE);
}

#[test]
fn reconnect() {
    let report = sound(RECONNECT);
    for result in
        ["welcomes_per_s", "bare_handshakes_per_s", "welcomes_over_bare", "first_message_p50_us", "all_caught_up_ms"]
    {
        assert!(report[result].as_f64().unwrap() > 0.0, "{result}");
    }
    counts_what_is_planted(RECONNECT);
}

#[test]
fn reconnect_beside_others_who_talk() {
    let beside = ["--cut", "clients", "--talking", "4", "--rate", "100", "--seconds", "0.5"];
    let report = sound(&[&["--relay-set", "limits.incoming=64"], RECONNECT, &beside].concat());
    assert_eq!(report["rows"]["talking alone"]["measured"]["median"], 50.0);
    assert!(report["talking_storm_p99_us"].as_f64().unwrap() > 0.0);
    let output = run(&[RECONNECT, &["--talking", "4"]].concat());
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--cut clients"));
}

#[test]
fn strangers() {
    let report = sound(STRANGERS);
    assert!(report["p99_beside_over_alone"].as_f64().unwrap() > 0.0);
    assert!(report["rows"]["beside strangers"]["refused_per_s"]["median"].as_f64().unwrap() > 1.0);
    counts_what_is_planted(STRANGERS);
}

#[test]
fn idle_has_a_row_for_each_size_and_offload() {
    let report = sound(IDLE);
    for row in ["quip 3, gso off", "quip 3, gso on", "quip 5, gso off", "quip 5, gso on"] {
        assert!(report["rows"][row]["relay_bytes_per_connection"]["median"].is_number(), "{row}: {report}");
        assert!(report["rows"][row]["server_cpu_percent"]["median"].is_number(), "{row}: {report}");
    }
    let one = sound(&["idle", "--connections", "3", "--conversations", "0", "--seconds", "0.1", "--calm", "0.1"]);
    assert!(one["relay_bytes_per_connection"].is_number() && one["rows"]["quip"].is_object(), "{one}");
    assert_eq!(one["settings"]["connections"], 3);
}

#[test]
fn hol() {
    let output = run(HOL);
    if !may_link(&output) {
        return;
    }
    counts_what_is_planted(HOL);
}

#[test]
fn hol_with_nats_in_the_place_of_the_relay() {
    // NATS sends no bulk until its consumer is there, which takes longer on a busy machine.
    let nats = ["hol", "--rtt", "2ms", "--seconds", "1.5", "--warmup", "0.1", "--systems", "nats"];
    let output = run(&nats);
    if !may_link(&output) {
        return;
    }
    let notes = report(&output)["notes"].to_string();
    if notes.contains("nats-server is not installed") {
        return eprintln!("skipped: {notes}");
    }
    counts_what_is_planted(&nats);
    let report = sound(&nats);
    for row in ["nats", "nats + bulk"] {
        assert!(report["rows"][row]["p99_us"]["median"].as_f64().is_some_and(|p99| p99 > 1000.0), "{row}: {report}");
    }
    assert!(report["rows"]["nats + bulk"]["bulk_bytes_per_s"]["median"].as_f64() > Some(0.0), "{report}");
    assert_eq!(report["rows"]["quip"], Value::Null);
}

/// Whether there can be a bad network here.
fn may_link(output: &Output) -> bool {
    let error = String::from_utf8_lossy(&output.stderr);
    let missing = error.contains("needs root") || error.contains("no /dev/net/tun");
    if missing {
        eprintln!("skipped: {error}");
    }
    !missing
}
