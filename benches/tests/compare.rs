//! `compare`: rows for whoever can be started, and reasons for whoever cannot.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

/// All, with how one sees that their server is here.
const PEERS: [(&str, &str); 8] = [
    ("jetstream-always", "nats-server"),
    ("jetstream", "nats-server"),
    ("nats", "nats-server"),
    ("mosquitto", "mosquitto"),
    ("prosody", "prosody"),
    ("redis-always", "redis-server"),
    ("redis-pubsub", "redis-server"),
    ("mqtt-quic", "mqttv5"),
];

fn compare(peers: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quip-bench"));
    command.args(["--json", "--runs", "1", "compare", "--unpinned", "--peers", peers]).args(arguments);
    let output = command.args(["--rate", "100", "--seconds", "0.5", "--warmup", "0.1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every key is there, and every message arrived once and in order.
fn check(row: &Value, peer: &str) {
    assert_eq!(row["peer"], peer);
    assert_eq!(row["error"], Value::Null, "{row}");
    for key in ["p50_us", "p99_us", "p999_us", "max_us", "accepted_per_s"] {
        assert!(row[key].as_f64().is_some_and(|value| value > 0.0), "{key} of {row}");
    }
    assert!(row["relay_cpu_us_per_message"].is_number(), "{row}");
    for key in ["lost", "duplicated", "reordered"] {
        assert_eq!(row[key], 0.0, "{key} of {row}");
    }
}

#[test]
fn quip_and_the_bare_forwarder_stand_side_by_side() {
    let report = compare("quip,bare", &[]);
    let rows = report["rows"].as_array().unwrap();
    check(&rows[0], "quip");
    check(&rows[1], "bare");
    assert_eq!((&rows[0]["durable"], &rows[1]["durable"]), (&Value::Bool(true), &Value::Bool(false)));
}

#[test]
fn every_peer_that_is_here_delivers_and_the_others_say_why_not() {
    let names: Vec<&str> = PEERS.iter().map(|(peer, _)| *peer).collect();
    let report = compare(&names.join(","), &[]);
    for ((peer, server), row) in PEERS.iter().zip(report["rows"].as_array().unwrap()) {
        match row["error"].as_str() {
            None => check(row, peer),
            Some(error) => {
                assert!(error.contains(&format!("there is no {server} here")), "{peer}: {error}");
                assert_eq!(row["p50_us"], Value::Null);
                eprintln!("skipped {peer}: {error}");
            }
        }
    }
}

#[test]
fn a_report_tells_durable_from_not_and_names_who_is_faster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("REPORT.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quip-bench"));
    command.args(["--runs", "1", "compare", "--peers", "quip,bare,fdatasync", "--report"]).arg(&file);
    let output = command.args(["--rate", "100", "--seconds", "0.5", "--warmup", "0.1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(file).unwrap();
    for text in
        ["| quip | yes |", "| bare | no |", "| fdatasync | yes |", "## Unpinned", "* bare (not durable): Quip is"]
    {
        assert!(report.contains(text), "no {text} in:\n{report}");
    }
}
