//! What the parts of the relay may not name, so that the hub has no sockets and everything runs in virtual time.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every line of code under a folder, with where it stands. Comments are left out.
fn code(folder: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
            lines.extend(numbered.map(|(at, line)| (format!("{}:{}", path.display(), at + 1), line.to_owned())));
        }
    }
    assert!(lines.len() > 100, "no code in {folder}");
    lines
}

fn assert_absent(folder: &str, names: &[&str]) {
    for (place, line) in code(folder) {
        for name in names {
            assert!(!line.contains(name), "{folder} names {name}: {place}: {line}");
        }
    }
}

#[test]
fn the_hub_names_no_network() {
    assert_absent("hub", &["quinn", "tokio::net", "std::net", "crate::net", "super::net"]);
}

#[test]
fn net_and_hub_have_no_clock_and_no_randomness_of_their_own() {
    for folder in ["hub", "net"] {
        assert_absent(
            folder,
            &["SystemTime::now", "thread::sleep", "thread::spawn", "rand::", "std::time::Instant::now"],
        );
    }
    // quinn's congestion controllers are given std's `Instant`; everything else has tokio's.
    assert_absent("hub", &["std::time::Instant", "Duration, Instant}"]);
}
