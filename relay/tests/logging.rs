//! What the process says when one of its threads fails, also when nobody reads it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Write, pipe},
    process::{Command, Stdio},
    thread,
};

use quip_relay::{
    config::{LogConfig, LogFormat},
    logging,
};

/// In the environment of the process that fails.
const FAIL: &str = "QUIP_TEST_FAIL";

/// This test, in a process that fails.
fn failing(stderr: impl Into<Stdio>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_panic_is_a_line_of_the_log", "--nocapture"]).env(FAIL, "1");
    command.stdout(Stdio::null()).stderr(stderr);
    command
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    if std::env::var_os(FAIL).is_some() {
        logging::init(&LogConfig { format: LogFormat::Json, ..LogConfig::default() }).unwrap();
        let failed = thread::Builder::new().name("sequencer".to_owned()).spawn(|| panic!("the disk is on fire"));
        failed.unwrap().join().unwrap_err();
        return;
    }
    let output = failing(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((line["level"].as_str(), line["thread"].as_str()), (Some("ERROR"), Some("sequencer")), "{log}");
    assert!(line["message"].as_str().unwrap().contains("the disk is on fire"), "{log}");

    let (_unread, mut full) = pipe().unwrap();
    full.write_all(&[0; 64 << 10]).unwrap();
    assert!(failing(full).status().unwrap().success(), "it ends though nobody reads why");
}
