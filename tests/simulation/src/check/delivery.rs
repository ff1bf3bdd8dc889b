//! Every event once, in order, without a hole that is not stated, the same for everyone; none acknowledged unhandled, and none
//! without a good token. Of another log than before only after a reset.

use std::{collections::BTreeMap, time::Duration};

use quip_client::{Cursor, OwnedEvent, SkipReason};
use quip_protocol::{ConversationId, DeviceId};

use super::{Found, Promise, Violation};
use crate::{
    history::{App, Device, History, Reading},
    logs::{Log, Logs},
    truth::Conversation,
};

/// Judges what apps were given.
pub(super) fn check(history: &History, logs: &Logs) -> Vec<Violation> {
    let mut check = Check {
        history,
        found: Found::new(logs),
        readings: BTreeMap::new(),
        kept: BTreeMap::new(),
        tokens: BTreeMap::new(),
        ids: BTreeMap::new(),
    };
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
    /// When the last token of each device expires, where tokens do.
    tokens: BTreeMap<Device, Duration>,
    ids: BTreeMap<Device, DeviceId>,
}

#[derive(Default)]
struct Handled {
    cursor: Option<Cursor>,
    /// The highest that the app was done with, in each log.
    seqs: BTreeMap<u64, u64>,
}

struct State {
    device: Device,
    conversation: ConversationId,
    /// The log that the app reads.
    generation: u64,
    /// After the last that was given.
    at: u64,
}

impl Check<'_> {
    fn step(&mut self, now: Duration, device: Device, app: &App) {
        match app {
            App::Connected { id } => _ = self.ids.insert(device, *id),
            App::Token { until } => _ = self.tokens.insert(device, *until),
            App::Opened { conversation, reading, from, generation, .. } => {
                self.opened(now, device, *conversation, *from);
                // A cursor of another log is left with a reset.
                let (generation, seq) = from.map_or((*generation, 0), |from| (from.generation, from.seq));
                self.kept.entry((device, *conversation)).or_default().seqs.entry(generation).or_default();
                self.readings.insert(*reading, State { device, conversation: *conversation, generation, at: seq });
            }
            App::Delivered { reading, event } => self.delivered(now, *reading, event),
            App::Skipped { reading, to, why } => self.skipped(now, *reading, *to, *why),
            App::Reset { reading, generation, first } => self.reset(now, *reading, *generation, *first),
            App::Handled { reading, seq } => {
                if let Some(State { conversation, generation, .. }) = self.readings.get(reading) {
                    let handled = self.kept.entry((device, *conversation)).or_default();
                    let handled = handled.seqs.entry(*generation).or_default();
                    *handled = (*handled).max(*seq);
                }
            }
            App::Kept { conversation, cursor } => self.kept(now, device, *conversation, *cursor),
            _ => {}
        }
    }

    fn opened(&mut self, now: Duration, device: Device, id: ConversationId, from: Option<Cursor>) {
        let handled = self.kept.entry((device, id)).or_default();
        if from.is_some_and(|from| Some(from) != handled.cursor) {
            self.found.add(now, Promise::OnceInOrder, format!("{device:?} forgot its cursor in {id}"));
        }
    }

    fn delivered(&mut self, now: Duration, reading: Reading, event: &OwnedEvent) {
        let Some(state) = self.readings.get_mut(&reading) else { return };
        let State { device, conversation: id, generation, at: before } = *state;
        state.at = event.seq;
        if event.seq != before + 1 {
            let what = format!("{device:?} was given event {} of {id} after {before}", event.seq);
            self.found.add(now, Promise::OnceInOrder, what);
        }
        let known = conversation(self.found.logs.get(generation, now), id);
        let stored = known.and_then(|known| known.events.get(event.seq as usize - 1));
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
        if let Some(n) = event.own {
            let user = self.history.user(device);
            let by = self.ids.get(&device).map(|device| (id, user.clone(), *device));
            let outcomes = self.found.logs.get(generation, now).and_then(|log| log.truth.outcomes.get(&by?));
            let known =
                outcomes.is_some_and(|all| all.iter().any(|outcome| (outcome.n, outcome.seq) == (n, event.seq)));
            if !known {
                let what = format!("{device:?} was given event {} of {id} as its command {n}", event.seq);
                self.found.add(now, Promise::Fate, what);
            }
        }
        let until = self.tokens.get(&device).map_or(Duration::MAX, |until| until.saturating_add(NOTICED));
        if stored.is_some_and(|stored| stored.ordered > until) {
            let what = format!("{device:?} learned event {} of {id} with a token that had expired", event.seq);
            self.found.add(now, Promise::Private, what);
        }
    }

    fn reset(&mut self, now: Duration, reading: Reading, generation: u64, first: u64) {
        let Some(state) = self.readings.get_mut(&reading) else { return };
        let State { device, conversation: id, generation: before, .. } = *state;
        (state.generation, state.at) = (generation, 0);
        let user = self.history.user(device);
        let log = self.found.logs.get(generation, now);
        let begins = conversation(log, id).is_some_and(|known| known.is_first(user, first, now));
        if log.is_none() || generation == before || !begins {
            let what =
                format!("{device:?} was told in {id} to begin at {first} of log {generation} after log {before}");
            self.found.add(now, Promise::OnceInOrder, what);
        }
    }

    fn skipped(&mut self, now: Duration, reading: Reading, to: u64, why: SkipReason) {
        let Some(state) = self.readings.get_mut(&reading) else { return };
        let State { device, conversation: id, generation, at: before } = *state;
        state.at = to;
        if to <= before {
            let what = format!("{device:?} was told in {id} to skip to {to} after {before}");
            return self.found.add(now, Promise::OnceInOrder, what);
        }
        let user = self.history.user(device);
        let founded = conversation(self.found.logs.get(generation, now), id).is_some_and(|known| match why {
            // What comes before a membership, and is of no earlier one, is the one thing that is not for a member.
            SkipReason::NotVisible => known.is_first(user, to + 1, now) && known.hides(user, before, to, now),
            SkipReason::Trimmed => to < known.first_kept(now),
            _ => false,
        });
        if !founded {
            let what = format!("{device:?} was told in {id} to skip from {before} to {to} ({why:?}) for no reason");
            self.found.add(now, Promise::OnceInOrder, what);
        }
    }

    fn kept(&mut self, now: Duration, device: Device, id: ConversationId, cursor: Cursor) {
        let handled = self.kept.entry((device, id)).or_default();
        // The beginning of the first log that a device sees is nothing to handle.
        if handled.cursor.replace(cursor).is_none() && cursor.seq == 0 {
            handled.seqs.entry(cursor.generation).or_default();
        }
        let handled = handled.seqs.get(&cursor.generation).copied();
        if handled.is_none_or(|handled| cursor.seq > handled) {
            let what = format!("{device:?} keeps {cursor:?} of {id}, and the app handled {handled:?}");
            self.found.add(now, Promise::Acknowledged, what);
        }
    }
}

fn conversation(log: Option<&Log>, id: ConversationId) -> Option<&Conversation> {
    log?.truth.conversations.get(&id)
}

/// Within this a relay notices that a token has expired.
const NOTICED: Duration = Duration::from_secs(5);
