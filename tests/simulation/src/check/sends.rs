//! The fate of a command is what was decided, and what it asked for happened once or, if it was refused, never.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quip_client::{Accepted, ReceiptError, kind};
use quip_protocol::{Code, ConversationId, DeviceId};

use super::{Found, Promise, Violation};
use crate::{
    history::{App, Device, History, Ticket},
    truth::{Stored, Truth},
};

/// Judges what became of commands.
pub(super) fn check(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut check =
        Check { history, found: Found::new(truth), sent: BTreeMap::new(), ids: BTreeMap::new(), index: index(truth) };
    for (at, device, app) in history.apps() {
        check.step(at, device, app);
    }
    check.times();
    check.found.violations
}

/// How often each content stands in each conversation.
type Index<'a> = BTreeMap<(ConversationId, u64, &'a Bytes), Vec<&'a Stored>>;

struct Check<'a> {
    history: &'a History,
    found: Found<'a>,
    sent: BTreeMap<Ticket, Sent>,
    /// The ids that a device has connected with: one, unless its store was lost.
    ids: BTreeMap<Device, DeviceId>,
    index: Index<'a>,
}

struct Sent {
    at: Duration,
    device: Device,
    conversation: ConversationId,
    kind: u64,
    body: Bytes,
    fate: Option<Result<Accepted, ReceiptError>>,
}

fn index(truth: &Truth) -> Index<'_> {
    let mut index = Index::new();
    for (id, conversation) in &truth.conversations {
        for stored in &conversation.events {
            index.entry((*id, stored.kind, &stored.body)).or_default().push(stored);
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
            App::Fate { ticket, fate } => self.fate(now, *ticket, *fate),
            _ => {}
        }
    }

    fn fate(&mut self, now: Duration, ticket: Ticket, fate: Result<Accepted, ReceiptError>) {
        let Some(sent) = self.sent.get_mut(&ticket) else { return };
        sent.fate = Some(fate);
        let (id, kind, device) = (sent.conversation, sent.kind, sent.device);
        let user = self.history.user(device);
        match fate {
            Ok(Accepted { seq: 0, .. }) if ONCE.contains(&kind) => {
                self.found.add(now, Promise::Fate, format!("{ticket:?} was accepted without an event"));
            }
            Ok(Accepted { seq: 0, .. }) => {}
            Ok(Accepted { seq, number, at }) => {
                let events = self.found.truth.conversations.get(&id).map_or(&[][..], |known| &known.events);
                let stands = events.get(seq as usize - 1).is_some_and(|stored| {
                    let place = (stored.number, stored.at, stored.kind) == (number, at, kind);
                    place && stored.user == *user && stored.body == sent.body && stored.ordered <= now
                });
                if !stands {
                    let what = format!("{ticket:?} was accepted as event {seq} of {id}, which is another");
                    self.found.add(now, Promise::Durable, what);
                }
            }
            Err(ReceiptError::Refused(code)) => {
                let decided =
                    self.ids.get(&device).and_then(|known| self.found.truth.outcomes.get(&(id, user.clone(), *known)));
                if !decided.is_some_and(|outcomes| outcomes.iter().any(|outcome| outcome.code == code)) {
                    let what = format!("{ticket:?} was refused with {code:?}, which was never decided");
                    self.found.add(now, Promise::Fate, what);
                }
                if !code.decides() || code == Code::DONE {
                    self.found.add(now, Promise::Codes, format!("{ticket:?} was refused with {code:?}"));
                }
            }
            Err(ReceiptError::Unknown) => {
                let left = self.found.truth.conversations.get(&id).and_then(|known| known.visible.get(user));
                if !left.is_some_and(|all| all.iter().any(|visible| visible.role == 0)) {
                    let what = format!("the fate of {ticket:?} is unknown though {user} never left {id}");
                    self.found.add(now, Promise::Fate, what);
                }
            }
            Err(ReceiptError::Closed) => {}
        }
    }

    /// How often what was asked for happened.
    fn times(&mut self) {
        for (ticket, sent) in &self.sent {
            let found = self.index.get(&(sent.conversation, sent.kind, &sent.body)).map_or(0, Vec::len);
            let fits = match sent.fate {
                _ if !ONCE.contains(&sent.kind) => true,
                Some(Ok(_)) => found == 1,
                Some(Err(ReceiptError::Refused(_))) => found == 0,
                _ => found <= 1,
            };
            if !fits {
                let what = format!("{ticket:?} with the fate {:?} is stored {found} times", sent.fate);
                self.found.violations.push(Violation { at: sent.at, promise: Promise::Fate, what });
            }
        }
    }
}

/// What apps make with content of its own each time, and always becomes an event.
const ONCE: [u64; 4] = [kind::TEXT, kind::EDITED, kind::REACTED, kind::TITLE];
