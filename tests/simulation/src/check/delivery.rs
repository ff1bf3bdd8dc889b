//! Every event once, in order, without a hole that is not stated, the same for everyone; and none acknowledged unhandled.

use std::{collections::BTreeMap, time::Duration};

use quip_client::{Cursor, OwnedEvent, SkipReason};
use quip_protocol::ConversationId;

use super::{Found, Promise, Violation};
use crate::{
    history::{App, Device, History, Reading},
    truth::Truth,
};

/// Judges what apps were given.
pub(super) fn check(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut check = Check { history, found: Found::new(truth), readings: BTreeMap::new(), kept: BTreeMap::new() };
    for (at, device, app) in history.apps() {
        check.step(at, device, app);
    }
    check.found.violations
}

struct Check<'a> {
    history: &'a History,
    found: Found<'a>,
    readings: BTreeMap<Reading, State>,
    /// The cursor that a device keeps, and how far its app has handled what it was given.
    kept: BTreeMap<(Device, ConversationId), Handled>,
}

#[derive(Default)]
struct Handled {
    cursor: Option<Cursor>,
    /// The highest that the app was done with.
    seq: u64,
}

struct State {
    device: Device,
    conversation: ConversationId,
    /// After the last that was given.
    at: u64,
}

impl Check<'_> {
    fn step(&mut self, now: Duration, device: Device, app: &App) {
        match app {
            App::Opened { conversation, reading, from } => self.opened(now, device, *conversation, *reading, *from),
            App::Delivered { reading, event } => self.delivered(now, *reading, event),
            App::Skipped { reading, to, why } => self.skipped(now, *reading, *to, *why),
            App::Handled { reading, seq } => {
                if let Some(State { conversation, .. }) = self.readings.get(reading) {
                    let handled = self.kept.entry((device, *conversation)).or_default();
                    handled.seq = handled.seq.max(*seq);
                }
            }
            App::Reset { .. } => self.found.add(now, Promise::OnceInOrder, "a reset though no log was restored"),
            App::Kept { conversation, cursor } => self.kept(now, device, *conversation, *cursor),
            _ => {}
        }
    }

    fn opened(&mut self, now: Duration, device: Device, id: ConversationId, reading: Reading, from: Option<Cursor>) {
        let at = from.map_or(0, |cursor| cursor.seq);
        self.readings.insert(reading, State { device, conversation: id, at });
        let handled = self.kept.entry((device, id)).or_default();
        if from.is_some_and(|from| Some(from) != handled.cursor) {
            self.found.add(now, Promise::OnceInOrder, format!("{device:?} forgot its cursor in {id}"));
        }
    }

    fn delivered(&mut self, now: Duration, reading: Reading, event: &OwnedEvent) {
        let Some(state) = self.readings.get_mut(&reading) else { return };
        let (device, id, before) = (state.device, state.conversation, state.at);
        state.at = event.seq;
        if event.seq != before + 1 {
            let what = format!("{device:?} was given event {} of {id} after {before}", event.seq);
            self.found.add(now, Promise::OnceInOrder, what);
        }
        let stored = self.found.truth.conversations.get(&id).and_then(|known| known.events.get(event.seq as usize - 1));
        let same = stored.is_some_and(|stored| {
            let first = (stored.kind, &stored.body) == (event.kind, &event.body);
            let tombstone = stored.tombstones.iter().any(|(kind, body)| (*kind, body) == (event.kind, &event.body));
            let head = (stored.number, stored.at, &stored.user) == (event.number, event.at, &event.user);
            head && (first || tombstone) && stored.ordered <= now
        });
        if !same {
            let what = format!("{device:?} was given another event {} of {id} than was stored: {event:?}", event.seq);
            self.found.add(now, Promise::OnceInOrder, what);
        }
    }

    fn skipped(&mut self, now: Duration, reading: Reading, to: u64, why: SkipReason) {
        let Some(state) = self.readings.get_mut(&reading) else { return };
        let (device, id, before) = (state.device, state.conversation, state.at);
        state.at = to;
        if to <= before {
            let what = format!("{device:?} was told in {id} to skip to {to} after {before}");
            return self.found.add(now, Promise::OnceInOrder, what);
        }
        let user = self.history.user(device);
        // Nothing is trimmed here, and what comes before a membership is the one thing that is not for a member.
        let hidden = self.found.truth.conversations.get(&id).is_some_and(|conversation| {
            conversation.seen_between(user, Duration::ZERO, now).any(|visible| visible.from == to + 1)
        });
        if why != SkipReason::NotVisible || !hidden {
            let what = format!("{device:?} was told in {id} to skip from {before} to {to} ({why:?}) for no reason");
            self.found.add(now, Promise::OnceInOrder, what);
        }
    }

    fn kept(&mut self, now: Duration, device: Device, id: ConversationId, cursor: Cursor) {
        let handled = self.kept.entry((device, id)).or_default();
        handled.cursor = Some(cursor);
        if cursor.seq > handled.seq {
            let what = format!("{device:?} keeps cursor {} of {id}, and the app handled {}", cursor.seq, handled.seq);
            self.found.add(now, Promise::Acknowledged, what);
        }
    }
}
