//! `compare`: rows for the systems that can be started, and reasons for the others.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

/// All, with how one sees that their server is here.
const PEERS: [(&str, &str); 10] = [
    ("jetstream-always", "nats-server"),
    ("jetstream", "nats-server"),
    ("nats", "nats-server"),
    ("mosquitto", "mosquitto"),
    ("prosody", "prosody"),
    ("redis-always", "redis-server"),
    ("redis-pubsub", "redis-server"),
    ("valkey-always-plain", "valkey-server"),
    ("postgres", "postgres"),
    ("mqtt-quic", "mqttv5"),
];

/// What this program itself is enough for.
const OWN: [(&str, &str); 3] = [("quip", ""), ("bare", ""), ("bare-s2n", "")];

/// Little load, for a short time.
const BRIEF: &[&str] = &["--rate", "100", "--seconds", "0.5", "--warmup", "0.1", "--senders", "3", "--window", "4"];

fn run(peers: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quip-bench"));
    command.args(["--json", "--runs", "1", "compare", "--unpinned", "--peers", peers]).args(BRIEF);
    command.args(arguments).output().unwrap()
}

fn compare(peers: &str, arguments: &[&str]) -> Value {
    let output = run(peers, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether a row has figures; one without says that its server is not here.
fn is_here(row: &Value, peer: &str, server: &str) -> bool {
    let Some(error) = row["error"].as_str() else { return true };
    assert!(error.contains(&format!("{server} is not installed")), "{peer}: {error}");
    assert_eq!(row["p50_us"], Value::Null);
    eprintln!("skipped {peer}: {error}");
    false
}

/// Every key is there, and every message arrived once and in order.
fn check(row: &Value, peer: &str) {
    assert_eq!(row["peer"], peer);
    assert_eq!(row["error"], Value::Null, "{row}");
    assert_eq!(row["sent"], 50.0, "{row}");
    for key in ["p50_us", "p99_us", "p999_us", "max_us", "accepted_per_s", "wire_bytes_per_message"] {
        assert!(row[key].as_f64().is_some_and(|value| value > 0.0), "{key} of {row}");
    }
    assert!(row["relay_cpu_us_per_message"].is_number(), "{row}");
    for key in ["lost", "duplicated", "reordered"] {
        assert_eq!(row[key], 0.0, "{key} of {row}");
    }
}

#[test]
fn quip_and_the_bare_forwarders_stand_side_by_side() {
    let report = compare("quip,bare,bare-s2n", &[]);
    let rows = report["rows"].as_array().unwrap();
    for (row, (peer, durable)) in rows.iter().zip([("quip", true), ("bare", false), ("bare-s2n", false)]) {
        check(row, peer);
        assert_eq!(row["durable"], durable);
    }
}

#[test]
fn every_peer_that_is_here_delivers_and_the_others_say_why_not() {
    let names: Vec<&str> = PEERS.iter().map(|(peer, _)| *peer).collect();
    let report = compare(&names.join(","), &[]);
    for ((peer, server), row) in PEERS.iter().zip(report["rows"].as_array().unwrap()) {
        if is_here(row, peer, server) {
            check(row, peer);
        }
    }
}

#[test]
fn everyone_who_acknowledges_accepts_messages() {
    let names = PEERS.iter().map(|(peer, _)| *peer).collect::<Vec<_>>().join(",");
    let report = compare(&format!("quip,bare,bare-s2n,{names}"), &["--scenario", "ingest"]);
    let rows = report["rows"].as_array().unwrap();
    for ((peer, server), row) in OWN.iter().chain(&PEERS).zip(rows) {
        match *peer {
            "nats" if row["error"].as_str().is_some_and(|error| error.contains("has no acknowledgements")) => {}
            _ if is_here(row, peer, server) => {
                assert!(row["accepted_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
                assert!(row["relay_cpu_us_per_message"].is_number(), "{row}");
            }
            _ => {}
        }
    }
}

#[test]
fn everyone_hands_each_message_to_each_of_many() {
    let names = PEERS.iter().map(|(peer, _)| *peer).collect::<Vec<_>>().join(",");
    let room = ["--scenario", "fanout", "--members", "7", "--deliveries", "280"];
    let report = compare(&format!("quip,bare,bare-s2n,{names},fdatasync"), &room);
    let rows = report["rows"].as_array().unwrap();
    for ((peer, server), row) in OWN.iter().chain(&PEERS).zip(rows) {
        if !is_here(row, peer, server) {
            continue;
        }
        assert_eq!(row["sent"], 20.0, "{row}");
        for key in ["lost", "duplicated", "reordered"] {
            assert_eq!(row[key], 0.0, "{key} of {row}");
        }
        for key in ["deliveries_per_s", "wire_bytes_per_delivery", "first_p50_us"] {
            assert!(row[key].as_f64().is_some_and(|value| value > 0.0), "{key} of {row}");
        }
        assert!(row["last_p50_us"].as_f64() >= row["first_p50_us"].as_f64(), "{row}");
        assert!(row["relay_cpu_us_per_delivery"].is_number(), "{row}");
    }
    assert_eq!(rows.last().unwrap()["error"], "a file has no receivers");
}

/// Shared memory that no process uses and the system keeps.
fn unused_shared_memory() -> HashSet<String> {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let fields = segments.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[6] == "0").map(|fields| fields[1].to_owned()).collect()
}

#[test]
fn nothing_is_left_of_postgres() {
    let (folder, before) = (tempfile::tempdir().unwrap(), unused_shared_memory());
    // The server is another user when this one is root.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    compare("postgres", &["--dir", folder.path().to_str().unwrap()]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // Those of the tests beside this one are unused for a moment.
    let is_clean = || unused_shared_memory().is_subset(&before);
    assert!(
        (0..100).any(|_| is_clean() || {
            sleep(Duration::from_millis(50));
            false
        }),
        "{:?}",
        unused_shared_memory()
    );
}

#[test]
fn a_message_that_quip_loses_is_a_failure() {
    let output = run("quip", &["--plant", "loss"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["rows"][0]["lost"], 1.0);
}

#[test]
fn a_report_tells_durable_from_not_and_names_who_is_faster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("REPORT.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quip-bench"));
    command.args(["--runs", "1", "compare", "--peers", "quip,bare,fdatasync"]).args(BRIEF).arg("--report").arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(file).unwrap();
    for text in [
        "| quip | yes |",
        "| bare | no |",
        "| fdatasync | yes |",
        "## Latency, unpinned",
        "## Ingest, unpinned",
        "## Fan-out, unpinned",
        "* bare (not durable): Quip is",
        "* bare (not durable): Quip accepts",
        "* bare (not durable): Quip has it at the last receiver",
    ] {
        assert!(report.contains(text), "no {text} in:\n{report}");
    }
    let charts = report.lines().filter_map(|line| line.strip_prefix("![")?.split_once("](")?.1.strip_suffix(')'));
    let charts: Vec<&str> = charts.collect();
    assert_eq!(charts.len(), 4, "{report}");
    for chart in charts {
        assert!(folder.path().join(chart).is_file(), "no {chart}");
    }
}
