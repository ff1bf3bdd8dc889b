//! Errors of `quip` without a relay, or with the wrong one.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Output},
};

/// Made for this test; signs for no relay.
const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIMXhQg7WbH1Mv5LrXhxsW1/ARnZNbMmvR6CCijbKw3u5\n\
    -----END PRIVATE KEY-----\n";

fn quip(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quip")).args(args).current_dir(folder).env_remove("QUIP_TOKEN").output().unwrap()
}

/// Exit status and standard error.
fn fails(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = quip(folder, args);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Makes a data folder as a relay does, with this address.
fn data_folder(folder: &Path, listen: &str) {
    fs::create_dir_all(folder.join("quip-data/keys")).unwrap();
    fs::write(folder.join("quip-data/keys/signing.pem"), PEM).unwrap();
    fs::write(folder.join("quip-data/fingerprint"), "ab".repeat(32)).unwrap();
    fs::write(folder.join("quip-data/listen"), listen).unwrap();
}

#[test]
fn without_a_login_the_error_names_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let (status, text) = fails(folder.path(), &["list"]);
    assert_eq!(status, 1);
    assert!(text.contains("--as NAME") && text.contains("--token"), "{text}");
}

#[test]
fn without_a_data_folder_the_error_says_how_to_start_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let (status, text) = fails(folder.path(), &["list", "--as", "alice"]);
    assert_eq!(status, 1);
    assert!(text.contains("quip-relay --data quip-data"), "{text}");
}

#[test]
fn an_unreachable_relay_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    data_folder(folder.path(), &address);
    let (status, text) = fails(folder.path(), &["send", "lobby:main", "hello", "--as", "alice"]);
    assert_eq!(status, 3, "{text}");
    assert!(text.contains(&format!("Is a relay running at {address}?")), "{text}");
    assert!(text.contains("quip-relay --data quip-data"), "{text}");
}

#[test]
fn a_wrong_command_line_has_its_own_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["chat", "lobby"][..], &["send", "lobby:main"], &["tail", "@bob", "--from", "then"], &["nonsense"]] {
        let (status, text) = fails(folder.path(), args);
        assert_eq!(status, 2, "{args:?}: {text}");
    }
}
