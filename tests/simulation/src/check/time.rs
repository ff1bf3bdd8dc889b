//! Events have about the time at which they were ordered, and nobody was last seen in the future, whatever the relay's clock says.

use std::time::Duration;

use quip_client::ClientEvent;

use super::{Found, Promise, Violation};
use crate::{
    history::{App, History},
    logs::Logs,
    world::BEGIN,
};

/// Judges the times of events and of presence.
pub(super) fn check(history: &History, logs: &Logs) -> Vec<Violation> {
    let mut found = Found::new(logs);
    for log in logs.between(Duration::ZERO, Duration::MAX) {
        for (id, known) in &log.truth.conversations {
            for stored in known.events.iter().filter(|stored| !is_near(stored.at, stored.ordered)) {
                let what = format!("event {} of {id} has the time {}", stored.seq, stored.at);
                found.add(stored.ordered, Promise::Time, what);
            }
        }
    }
    for (at, _, app) in history.apps() {
        let presences = match app {
            App::Told(ClientEvent::Presence(presence)) => std::slice::from_ref(presence),
            App::Present { members, .. } => &members[..],
            _ => continue,
        };
        for presence in presences {
            if presence.last_seen.is_some_and(|seen| seen > millis(BEGIN + at + OFF)) {
                found.add(at, Promise::Time, format!("{} was last seen in the future: {presence:?}", presence.user));
            }
        }
    }
    found.violations
}

fn is_near(time: u64, ordered: Duration) -> bool {
    time.abs_diff(millis(BEGIN + ordered)) <= millis(OFF)
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// How far a time may be off: a clock that nobody minds, and what an order takes.
const OFF: Duration = Duration::from_secs(60);
