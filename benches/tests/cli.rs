//! The harness as its users see it: the program, its JSON, its refusals.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn quip_bench(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_quip-bench");
    Command::new(program).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = quip_bench(&[&["--json", "--runs", "2"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn bare_pairs_deliver_every_message() {
    let report = json(&["bare", "pairs", "--pairs", "2", "--rate", "200", "--seconds", "1", "--warmup", "0.2"]);
    let bare = &report["rows"]["bare"];
    assert_eq!(report["scenario"], "bare pairs");
    assert_eq!(bare["measured"]["median"], 200.0);
    assert_eq!(bare["lost"]["max"], 0.0);
    for metric in ["p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "generator_lag_p99_us"] {
        assert!(bare[metric]["min"].as_f64().unwrap() > 0.0, "{metric}: {}", bare[metric]);
    }
    assert!(bare["server_rss_bytes"]["min"].as_f64().unwrap() > 1e6);
}

#[test]
fn bare_ingest_counts_answers_and_datagrams() {
    let report = json(&["bare", "ingest", "--senders", "3", "--seconds", "0.5", "--warmup", "0.1"]);
    let bare = &report["rows"]["bare"];
    assert!(bare["accepted_per_s"]["min"].as_f64().unwrap() > 100.0);
    assert!(bare["messages_per_datagram_to_server"]["min"].as_f64().unwrap() > 0.1);
    assert_eq!(bare["refusals"]["max"], 0.0);
}

#[test]
fn commits_are_measured_beside_plain_syncs() {
    let report = json(&["commit", "--seconds", "0.1", "--batch", "1,16"]);
    for row in ["store 1", "fdatasync 1", "store 16", "fdatasync 16"] {
        let p50 = report["rows"][row]["p50_us"]["median"].as_f64();
        assert!(p50.is_some_and(|p50| p50 > 0.0), "{row}");
    }
}

#[test]
fn a_scenario_has_runs_of_its_own_unless_they_are_said() {
    let commit = ["--json", "commit", "--seconds", "0.01", "--batch", "1"];
    for (said, expected) in [(&[][..], 4), (&["--runs", "1"], 1), (&["--runs", "5"], 5)] {
        let report: Value = serde_json::from_slice(&quip_bench(&[said, &commit].concat()).stdout).unwrap();
        assert_eq!(report["runs"], expected);
    }
}

#[test]
fn a_missing_relay_is_an_error_that_says_what_to_do() {
    let output = quip_bench(&["latency", "--relay-bin", "/nowhere/quip-relay"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("cargo build --release -p quip-relay"), "{error}");
}

#[test]
fn the_table_names_every_row_and_metric() {
    let output = quip_bench(&["--runs", "1", "bare", "pairs", "--rate", "100", "--seconds", "0.2", "--warmup", "0.1"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["bare", "p99_9_us", "achieved_per_s", "server_cpu_percent"] {
        assert!(table.contains(word), "no {word} in:\n{table}");
    }
}
