//! The documents are true: their links lead somewhere, and the files and tests that they name exist.
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file under a folder whose name ends so, without what is built.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

fn documents() -> Vec<(PathBuf, String)> {
    let found = files(&root(), "md");
    assert!(found.len() > 10, "the documents were not found");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What stands between two marks, again and again.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inside, _)| inside))
}

/// What stands in backticks within one line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The anchors that headings have.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor =
        |line: &str| line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>();
    headings.map(|line| anchor(line).replace(' ', "-")).collect()
}

#[test]
fn links_lead_somewhere() {
    for (document, text) in documents() {
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{}: {link} leads to no heading of {there:?}", document.display());
            }
        }
    }
}

#[test]
fn what_is_named_exists() {
    const FOLDERS: [&str; 7] = ["benches/", "client/", "docs/", "protocol/", "relay/", "scripts/", "tests/"];
    let sources: String = files(&root(), "rs").into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let words: BTreeSet<_> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_name =
        |text: &&str| text.matches('_').count() >= 2 && text.chars().all(|c| c == '_' || c.is_ascii_lowercase());
    let is_path =
        |text: &&str| !text.contains([' ', '*', '{']) && FOLDERS.iter().any(|folder| text.starts_with(folder));
    let mut names = 0;
    for (document, text) in documents() {
        // The wire also names what others define.
        let is_ours = !document.ends_with("WIRE.md");
        for name in code(&text).filter(is_name).filter(|_| is_ours) {
            assert!(words.contains(name), "{}: there is no {name}", document.display());
            names += 1;
        }
        for path in code(&text).filter(is_path) {
            assert!(root().join(path).exists(), "{}: there is no {path}", document.display());
        }
    }
    assert!(names > 50, "hardly any test is named: {names}");
}
