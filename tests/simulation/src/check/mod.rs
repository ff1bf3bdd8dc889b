//! Judges a history by the promises of the design. Pure.

mod codes;
mod delivery;
mod order;
mod privacy;
mod sends;
mod sessions;
mod time;

use std::{fmt, time::Duration};

use crate::{
    history::{Entry, History},
    logs::Logs,
};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, since the start of the run.
    pub at: Duration,
    /// Which promise.
    pub promise: Promise,
    /// How.
    pub what: String,
}

/// The promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was accepted is durable and stays.
    Durable,
    /// Every event comes once, in order, without a hole that is not stated, and is the same for everyone.
    OnceInOrder,
    /// What an app did not handle is not acknowledged.
    Acknowledged,
    /// The fate of a command is the one that was decided.
    Fate,
    /// Nobody learns what is not for them.
    Private,
    /// What is said to be when is near the true time.
    Time,
    /// Codes that a conforming client gets are retryable, or need a person.
    Codes,
    /// Once the faults are over, everything settles.
    Settles,
    /// Nothing panics, and no side breaks the protocol.
    Sound,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} {:?}: {}", self.at.as_secs_f64(), self.promise, self.what)
    }
}

/// Every promise that a run broke, in order of time.
pub fn check(history: &History) -> Vec<Violation> {
    let (logs, mut found) = order::replay(history);
    found.extend(delivery::check(history, &logs));
    found.extend(sends::check(history, &logs));
    found.extend(privacy::check(history, &logs));
    found.extend(codes::check(history, &logs));
    found.extend(sessions::check(history));
    found.extend(time::check(history, &logs));
    found.extend(history.entries.iter().filter_map(|(at, entry)| sound(*at, entry)));
    found.sort_by_key(|violation| violation.at);
    found
}

fn sound(at: Duration, entry: &Entry) -> Option<Violation> {
    let (promise, what) = match entry {
        Entry::Unsettled(what) => (Promise::Settles, what.clone()),
        Entry::Fooled => (Promise::Private, "a client talked to someone who is not the relay".to_owned()),
        Entry::Panicked(what) => (Promise::Sound, format!("a task panicked: {what}")),
        Entry::Warned(what) if !EXPECTED.iter().any(|expected| what.contains(expected)) => {
            (Promise::Sound, what.clone())
        }
        _ => return None,
    };
    Some(Violation { at, promise, what })
}

/// Warnings that a run with faults may well lead to.
const EXPECTED: [&str; 1] = ["the system clock"];

/// Collects violations.
struct Found<'a> {
    logs: &'a Logs,
    violations: Vec<Violation>,
}

impl<'a> Found<'a> {
    fn new(logs: &'a Logs) -> Self {
        Self { logs, violations: Vec::new() }
    }

    fn add(&mut self, at: Duration, promise: Promise, what: impl Into<String>) {
        self.violations.push(Violation { at, promise, what: what.into() });
    }
}
