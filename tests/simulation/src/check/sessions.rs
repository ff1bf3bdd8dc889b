//! Once the faults are over, clients stay connected. A token that expires is renewed on the session.

use quip_client::ClientEvent;

use super::{Promise, Violation};
use crate::history::{App, Entry, History};

/// Judges connections after everything has settled.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let settled = history.entries.iter().skip_while(|(_, entry)| !matches!(entry, Entry::Settled));
    let lost = settled.filter_map(|(at, entry)| match entry {
        Entry::App(device, App::Told(ClientEvent::Reconnected { .. })) => Some((*at, *device)),
        _ => None,
    });
    lost.map(|(at, device)| {
        let what = format!("{device:?} lost its connection without a fault");
        Violation { at, promise: Promise::Settles, what }
    })
    .collect()
}
