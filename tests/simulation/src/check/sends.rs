//! The fate of a command is what was decided, and what it asked for happened once or, if it was refused, never.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use quip_client::{Accepted, ReceiptError, kind};
use quip_protocol::{Code, ConversationId, DeviceId};

use super::{Found, Promise, Violation, codes::OPEN};
use crate::{
    history::{App, Device, History, Ticket},
    logs::Logs,
    truth::Truth,
};

/// Judges what became of commands.
pub(super) fn check(history: &History, logs: &Logs) -> Vec<Violation> {
    let mut check = Check {
        history,
        found: Found::new(logs),
        sent: BTreeMap::new(),
        ids: BTreeMap::new(),
        unopened: BTreeSet::new(),
    };
    for (at, device, app) in history.apps() {
        check.step(at, device, app);
    }
    check.times();
    check.found.violations
}

/// How often each content stands in each conversation.
type Index<'a> = BTreeMap<(ConversationId, u64, &'a Bytes), usize>;

struct Check<'a> {
    history: &'a History,
    found: Found<'a>,
    sent: BTreeMap<Ticket, Sent>,
    /// The ids that a device has connected with: one, unless its store was lost.
    ids: BTreeMap<Device, DeviceId>,
    /// Conversations that a device uses without having waited for the opening.
    unopened: BTreeSet<(Device, ConversationId)>,
}

struct Sent {
    at: Duration,
    device: Device,
    conversation: ConversationId,
    kind: u64,
    body: Bytes,
    /// What became of it, and when the app was told.
    fate: Option<(Duration, Result<Accepted, ReceiptError>)>,
}

fn index(truth: &Truth) -> Index<'_> {
    let mut index = Index::new();
    for (id, conversation) in &truth.conversations {
        for stored in &conversation.events {
            *index.entry((*id, stored.kind, &stored.body)).or_default() += 1;
        }
    }
    index
}

impl Check<'_> {
    fn step(&mut self, now: Duration, device: Device, app: &App) {
        match app {
            App::Connected { id } => {
                let before = self.ids.insert(device, *id);
                if before.is_some_and(|known| known != *id) {
                    self.found.add(now, Promise::Fate, format!("{device:?} has another device id than before"));
                }
            }
            App::Sent { ticket, conversation, kind, body } => {
                let (conversation, kind, body) = (*conversation, *kind, body.clone());
                self.sent.insert(*ticket, Sent { at: now, device, conversation, kind, body, fate: None });
            }
            App::Opened { conversation, waited: false, .. } => _ = self.unopened.insert((device, *conversation)),
            App::Opened { conversation, .. } => _ = self.unopened.remove(&(device, *conversation)),
            App::Fate { ticket, fate } => self.fate(now, *ticket, *fate),
            _ => {}
        }
    }

    fn fate(&mut self, now: Duration, ticket: Ticket, fate: Result<Accepted, ReceiptError>) {
        let Some(sent) = self.sent.get_mut(&ticket) else { return };
        sent.fate = Some((now, fate));
        let (id, kind, device) = (sent.conversation, sent.kind, sent.device);
        let user = self.history.user(device);
        // It may have been decided in any log that there was meanwhile.
        let logs = self.found.logs.between(sent.at, now);
        match fate {
            // A reaction may have been there already; once it must be stored.
            Ok(Accepted { seq: 0, .. }) if ONCE.contains(&kind) && kind != kind::REACTED => {
                self.found.add(now, Promise::Fate, format!("{ticket:?} was accepted without an event"));
            }
            Ok(Accepted { seq: 0, .. }) => {}
            Ok(Accepted { seq, number, at }) => {
                let events = logs.filter_map(|log| Some(&log.truth.conversations.get(&id)?.events));
                let mut stored = events.filter_map(|events| events.get(seq as usize - 1));
                let stands = stored.any(|stored| {
                    let place = (stored.number, stored.at, stored.kind) == (number, at, kind);
                    place && stored.user == *user && stored.body == sent.body && stored.ordered <= now
                });
                if !stands {
                    let what = format!("{ticket:?} was accepted as event {seq} of {id}, which is another");
                    self.found.add(now, Promise::Durable, what);
                }
            }
            Err(ReceiptError::Refused(code)) => {
                let by = self.ids.get(&device).map(|known| (id, user.clone(), *known));
                let mut decided = logs.filter_map(|log| log.truth.outcomes.get(by.as_ref()?)).flatten();
                // One that was sent before the opening is refused with it.
                let unopened = OPEN.contains(&code) && self.unopened.contains(&(device, id));
                if !unopened && !decided.any(|outcome| outcome.code == code) {
                    let what = format!("{ticket:?} was refused with {code:?}, which was never decided");
                    self.found.add(now, Promise::Fate, what);
                }
                if !code.decides() || code == Code::DONE {
                    self.found.add(now, Promise::Codes, format!("{ticket:?} was refused with {code:?}"));
                }
            }
            Err(ReceiptError::Unknown) => {
                let mut logs = logs;
                let left = logs.any(|log| {
                    let known = log.truth.conversations.get(&id);
                    let seen =
                        |by| known.into_iter().flat_map(move |known| known.seen_between(user, Duration::ZERO, by));
                    // A log that was restored to before the user came is as good as left, also if they come again.
                    let restored = log.restored().is_some_and(|at| seen(at.min(now)).next().is_none());
                    restored || seen(now).any(|visible| visible.role == 0)
                });
                if !left {
                    let what = format!("the fate of {ticket:?} is unknown though {user} never left {id}");
                    self.found.add(now, Promise::Fate, what);
                }
            }
            Err(ReceiptError::Closed) => {}
        }
    }

    /// How often what was asked for happened: once in the log in which it was accepted, and nowhere twice.
    fn times(&mut self) {
        let logs = self.found.logs.between(Duration::ZERO, Duration::MAX);
        let index: BTreeMap<u64, Index<'_>> = logs.map(|log| (log.generation, index(&log.truth))).collect();
        let mut wrong = Vec::new();
        for (ticket, sent) in self.sent.iter().filter(|(_, sent)| ONCE.contains(&sent.kind)) {
            let content = (sent.conversation, sent.kind, &sent.body);
            let times = |generation| index[generation].get(&content).copied().unwrap_or(0);
            let told = sent.fate.map_or(Duration::MAX, |(at, _)| at);
            let mut meanwhile = self.found.logs.between(sent.at, told).map(|log| times(&log.generation));
            let fits = match sent.fate {
                Some((_, Ok(_))) => meanwhile.any(|times| times == 1),
                // The one may be accepted and the other refused.
                Some((_, Err(ReceiptError::Refused(_)))) if sent.kind == kind::REACTED => true,
                Some((_, Err(ReceiptError::Refused(_)))) => meanwhile.any(|times| times == 0),
                _ => true,
            };
            if !fits || index.keys().any(|generation| times(generation) > 1) {
                let times: Vec<_> = index.keys().map(times).collect();
                let what = format!("{ticket:?} with the fate {:?} is stored {times:?} times", sent.fate);
                wrong.push(Violation { at: sent.at, promise: Promise::Fate, what });
            }
        }
        self.found.violations.append(&mut wrong);
    }
}

/// What apps make with content of its own each time, and becomes an event once. A reaction comes twice.
const ONCE: [u64; 4] = [kind::TEXT, kind::EDITED, kind::REACTED, kind::TITLE];
