//! Rooms, many conversations and charts against a real relay, briefly: all is delivered, and a message that is lost,
//! comes twice or out of order is found. The binaries must be there: `cargo build --workspace --bins`.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

const FANOUT: &[&str] = &["fanout", "--members", "3,20", "--rate", "40", "--seconds", "0.5", "--warmup", "0.1"];
const MANY: &[&str] = &["many", "--conversations", "30", "--rate", "200", "--seconds", "1", "--warmup", "0.2"];
const FAULTS: [&str; 3] = ["lost", "duplicated", "reordered"];

/// The report, and whether the command ended well.
fn run(arguments: &[&str]) -> (Value, bool) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_quip-bench"));
    assert!(program.with_file_name("quip-relay").is_file(), "no quip-relay: run `cargo build --workspace --bins`");
    let output = Command::new(program).args(["--json", "--runs", "1"]).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {error}"));
    (report, output.status.success())
}

fn metric(report: &Value, row: &str, name: &str) -> f64 {
    report["rows"][row][name]["median"].as_f64().unwrap_or_else(|| panic!("no {name} of {row} in {report}"))
}

/// Counts of lost, duplicated and reordered messages over all rows.
fn faults(report: &Value) -> [f64; 3] {
    let rows = || report["rows"].as_object().unwrap().values();
    FAULTS.map(|name| rows().filter_map(|row| row[name]["max"].as_f64()).sum())
}

fn finds_what_is_planted(arguments: &[&str]) {
    for (fault, expected) in [("loss", [1.0, 0.0, 0.0]), ("duplicate", [0.0, 1.0, 0.0]), ("swap", [0.0, 0.0, 1.0])] {
        let (report, well) = run(&[&["--plant", fault], arguments].concat());
        assert_eq!(faults(&report), expected, "{fault}: {report}");
        assert!(!well, "{fault}");
    }
}

#[test]
fn every_member_of_a_room_gets_every_message() {
    let (report, well) = run(FANOUT);
    assert!(well && faults(&report) == [0.0; 3], "{report}");
    for (row, measured) in [("quip 3", 60.0), ("bare 3", 60.0), ("quip 20", 400.0), ("bare 20", 400.0)] {
        assert_eq!(metric(&report, row, "measured"), measured, "{row}");
        assert!(metric(&report, row, "first_p50_us") <= metric(&report, row, "last_p50_us"), "{row}");
        assert!(metric(&report, row, "datagrams_per_delivery") > 0.1, "{row}");
        for name in ["relay_cpu_us_per_delivery", "deliveries_per_s", "client_receive_drops", "client_lost_packets"] {
            assert!(metric(&report, row, name) >= 0.0);
        }
    }
}

#[test]
fn a_room_beside_a_reader_who_does_not_read() {
    let (report, well) = run(&[&FANOUT[..1], &["--members", "3", "--unread", "5"], &FANOUT[3..]].concat());
    assert!(well && faults(&report) == [0.0; 3], "{report}");
    for row in ["quip 3, without the reader", "quip 3, beside the reader"] {
        assert_eq!(metric(&report, row, "measured"), 60.0, "{row}");
        assert!(metric(&report, row, "posted_beside") > 10.0, "{row}");
    }
    assert!(report["unread_p99_ratio"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn faults_in_a_room_are_found() {
    finds_what_is_planted(FANOUT);
}

#[test]
fn a_small_conversation_is_measured_beside_a_room_and_alone() {
    let (report, well) =
        run(&["fanout", "--members", "10", "--rate", "50", "--seconds", "0.5", "--warmup", "0.1", "--beside"]);
    assert!(well, "{report}");
    for row in ["beside 10, alone", "beside 10"] {
        assert_eq!(metric(&report, row, "measured"), 100.0, "{row}");
    }
    assert!(report["beside_p99_ratio"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn many_conversations_get_all_messages_in_one_order() {
    let (report, well) = run(MANY);
    assert!(well && faults(&report) == [0.0; 3], "{report}");
    assert!(metric(&report, "quip", "measured") > 100.0);
    assert!(metric(&report, "quip", "recipients_per_message") >= 1.0);
    assert!(metric(&report, "quip", "payload_mean_bytes") >= 8.0);
}

#[test]
fn faults_in_many_conversations_are_found() {
    finds_what_is_planted(MANY);
}

#[test]
fn without_logs_the_table_is_used() {
    let (report, well) = run(&[MANY, &["--logs", "/nowhere"]].concat());
    assert!(well && report["settings"]["mix"] == "built-in table", "{report}");
}

#[test]
fn several_rates_have_rows_of_their_own_and_charts() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().to_str().unwrap();
    let (report, well) = run(&["--plot", plot, "latency", "--rate", "50,100", "--seconds", "0.5", "--warmup", "0.1"]);
    assert!(well, "{report}");
    for (row, measured) in [("quip at 50", 25.0), ("quip at 100", 50.0), ("bare at 50", 25.0), ("bare at 100", 50.0)] {
        assert_eq!(metric(&report, row, "measured"), measured, "{row}");
    }
    assert!(report["over_floor_p50_us_50"].is_number() && report["over_floor_p99_us_100"].is_number(), "{report}");
    for (chart, text) in [("latency-load", "messages per second"), ("latency-percentiles", "quip at 100")] {
        let svg = fs::read_to_string(folder.path().join(format!("{chart}.svg"))).unwrap();
        assert!(svg.contains(text), "no {text} in {chart}");
    }
}

#[test]
fn several_losses_are_compared_by_hol_only() {
    let program = env!("CARGO_BIN_EXE_quip-bench");
    let refused = Command::new(program).args(["link", "--loss", "0,1%", "--", "true"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a link has one loss"));

    let hol = ["--json", "--runs", "1", "hol", "--rtt", "2ms", "--loss", "0,1%", "--seconds", "0.3", "--warmup", "0.1"];
    let output = Command::new(program).args(hol).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("needs root") || error.contains("no /dev/net/tun") {
        return eprintln!("skipped: {error}");
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {error}"));
    for row in ["quip at 0 %", "quip + bulk at 1 %", "tcp + bulk at 0 %", "one stream at 1 %"] {
        assert!(metric(&report, row, "measured") > 0.0, "{row}");
    }
    assert_eq!(report["settings"]["loss_percent"], serde_json::json!([0.0, 1.0]));
    assert!(report["quip_p99_over_own_at_0"].is_number() && report["tcp_p99_over_quip_at_1"].is_number(), "{report}");
}
