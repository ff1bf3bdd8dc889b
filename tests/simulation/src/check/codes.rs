//! The codes that a conforming client may get, and when.

use std::time::Duration;

use quip_client::{ClientEvent, ReceiptError, kind};
use quip_protocol::{Code, ConversationId, Retry, UserId};

use super::{Found, Promise, Violation};
use crate::{
    history::{App, Device, History, Reading, Ticket},
    logs::Logs,
};

/// Judges the codes that apps got.
pub(super) fn check(history: &History, logs: &Logs) -> Vec<Violation> {
    let mut check = Check { history, found: Found::new(logs), sent: Vec::new(), readings: Vec::new() };
    for (at, device, app) in history.apps() {
        check.step(at, device, app);
    }
    check.found.violations
}

struct Check<'a> {
    history: &'a History,
    found: Found<'a>,
    sent: Vec<(Ticket, u64)>,
    /// Which conversation each is of, since when, and whether the app waited for the opening.
    readings: Vec<(Reading, ConversationId, Duration, bool)>,
}

impl Check<'_> {
    fn step(&mut self, now: Duration, device: Device, app: &App) {
        let user = self.history.user(device);
        match app {
            App::Sent { ticket, kind, .. } => self.sent.push((*ticket, *kind)),
            App::Fate { ticket, fate: Err(ReceiptError::Refused(code)) } => {
                let of = self.sent.iter().rev().find(|(known, _)| known == ticket);
                if of.is_some_and(|(_, kind)| !refuses(*kind, *code)) {
                    self.found.add(now, Promise::Codes, format!("{ticket:?} of {user} was refused with {code:?}"));
                }
            }
            App::Opened { conversation, reading, waited, .. } => {
                self.readings.push((*reading, *conversation, now, *waited));
            }
            App::Ended { reading, code } => {
                let of = self.readings.iter().rev().find(|(known, ..)| known == reading);
                let ended = of.is_some_and(|(_, id, since, waited)| {
                    // One who left before there was any event is like one who never came, in this log or in another.
                    let never_came = || self.was_restored(*since, now) || self.saw_nothing(user, *id, now);
                    let fits = *code == Code::ENDED
                        || (*code == Code::NOT_FOUND && never_came())
                        || (!waited && OPEN.contains(code));
                    fits && self.was_outside(user, *id, *since, now)
                });
                if !ended {
                    self.found.add(now, Promise::Codes, format!("{reading:?} of {user} ended with {code:?}"));
                }
            }
            App::NotOpened { conversation, code: Some(code) } => {
                let person = OPEN.contains(code) && self.was_outside(user, *conversation, now, now);
                if !person && !is_passing(*code) {
                    self.found.add(now, Promise::Codes, format!("{user} could not open {conversation}: {code:?}"));
                }
            }
            App::NotAnswered { conversation, code: Some(code) } => {
                let person = REQUEST.contains(code) && self.was_outside(user, *conversation, now, now);
                if !person && !is_passing(*code) {
                    self.found.add(now, Promise::Codes, format!("{user} asked about {conversation}: {code:?}"));
                }
            }
            App::Refused { why, may_retry: false } => {
                self.found.add(now, Promise::Codes, format!("{user}'s client is closed for good: {why}"));
            }
            App::Told(ClientEvent::Notice { code, .. }) if !is_passing(*code) => {
                self.found.add(now, Promise::Codes, format!("{user} had a notice of {code:?}"));
            }
            _ => {}
        }
    }

    fn was_restored(&self, since: Duration, now: Duration) -> bool {
        self.found.logs.between(since, now).count() > 1
    }

    /// Whether at some time the user was not a member and none of the events until then was ever for them. The answer may be
    /// as old as any, and by now another device of the user may have joined.
    fn saw_nothing(&self, user: &UserId, id: ConversationId, now: Duration) -> bool {
        let since = now.saturating_sub(ANSWERED);
        self.found.logs.between(now, now).all(|log| {
            let Some(known) = log.truth.conversations.get(&id) else { return true };
            let saw = |at: Duration| {
                let mut stored = known.events.iter().filter(|stored| stored.ordered <= at);
                stored.any(|stored| known.ranges(user, at).any(|(from, to)| from <= stored.seq && stored.seq <= to))
            };
            let outside = known.seen_between(user, since, now).filter(|visible| visible.role == 0);
            !saw(now) || outside.map(|visible| visible.since.max(since)).any(|at| !saw(at))
        })
    }

    /// Whether the user was not a member at some time from shortly before `since` until now.
    fn was_outside(&self, user: &UserId, id: ConversationId, since: Duration, now: Duration) -> bool {
        let since = since.saturating_sub(ANSWERED);
        self.found.logs.between(since, now).any(|log| {
            let Some(known) = log.truth.conversations.get(&id) else { return true };
            let all: Vec<_> = known.seen_between(user, since, now).collect();
            let joined_later = all.iter().all(|visible| visible.since > since);
            joined_later || all.iter().any(|visible| visible.role == 0)
        })
    }
}

/// Whether waiting or going elsewhere helps.
fn is_passing(code: Code) -> bool {
    matches!(code.retry(), Retry::Done | Retry::Later | Retry::Elsewhere)
}

/// Whether a command that becomes an event of this kind may be refused with this code.
fn refuses(kind: u64, code: Code) -> bool {
    let of_the_kind: &[Code] = match kind {
        kind::TEXT | kind::DATA => &[],
        kind::EDITED => &[Code::NO_TARGET, Code::FORBIDDEN, Code::TOO_MANY_EDITS],
        kind::DELETED => &[Code::NO_TARGET, Code::FORBIDDEN],
        kind::REACTED => &[Code::NO_TARGET],
        kind::LEFT => &[Code::LAST_OWNER, Code::WRONG_KIND],
        kind::ADDED => {
            &[Code::FORBIDDEN, Code::NO_TARGET, Code::WRONG_KIND, Code::CONVERSATION_FULL, Code::ADDED_TOO_OFTEN]
        }
        kind::REMOVED => &[Code::FORBIDDEN, Code::NO_TARGET, Code::WRONG_KIND],
        kind::ROLE => &[Code::FORBIDDEN, Code::NO_TARGET, Code::LAST_OWNER, Code::WRONG_KIND],
        kind::TITLE => &[Code::FORBIDDEN, Code::WRONG_KIND],
        _ => &[],
    };
    OUTSIDE.contains(&code) || of_the_kind.contains(&code)
}

/// Of a command of one who is not a member.
const OUTSIDE: [Code; 3] = [Code::NOT_FOUND, Code::NOT_A_MEMBER, Code::BANNED];
/// Of an open by one who is not a member.
pub(super) const OPEN: [Code; 3] = [Code::NOT_FOUND, Code::FORBIDDEN, Code::BANNED];
/// Of a request by one who is not a member.
const REQUEST: [Code; 2] = [Code::NOT_FOUND, Code::NOT_A_MEMBER];
/// How long an answer may take.
const ANSWERED: Duration = Duration::from_secs(20);
