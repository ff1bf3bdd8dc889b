//! Nobody learns what is not for them.

use std::{collections::HashMap, time::Duration};

use quip_client::{ClientEvent, Entry as ListEntry, History as HistoryPage, Opened, OwnedEvent};
use quip_core::MarkRecord;
use quip_protocol::{ConversationId, Kind, UserId, event::kind};

use super::{Found, Promise, Violation};
use crate::{
    history::{App, Device, History, Reading},
    logs::Logs,
    truth::{Conversation, Visible},
};

/// Judges what apps learned.
pub(super) fn check(history: &History, logs: &Logs) -> Vec<Violation> {
    let mut check = Check { history, found: Found::new(logs), readings: HashMap::new() };
    for (at, device, app) in history.apps() {
        check.step(at, device, app);
    }
    check.found.violations
}

struct Check<'a> {
    history: &'a History,
    found: Found<'a>,
    /// What each reading is of, and the log that it reads now.
    readings: HashMap<Reading, (ConversationId, u64)>,
}

impl Check<'_> {
    fn step(&mut self, now: Duration, device: Device, app: &App) {
        let user = self.history.user(device);
        match app {
            App::Opened { conversation, reading, from, generation, .. } => {
                let generation = from.map_or(*generation, |from| from.generation);
                self.readings.insert(*reading, (*conversation, generation));
            }
            App::Reset { reading, generation, .. } => {
                if let Some((_, log)) = self.readings.get_mut(reading) {
                    *log = *generation;
                }
            }
            App::Delivered { reading, event } => {
                if let Some((id, generation)) = self.readings.get(reading).copied() {
                    let logs = self.found.logs;
                    let known = logs.get(generation, now).and_then(|log| log.truth.conversations.get(&id));
                    self.event(now, user, id, event, known);
                }
            }
            App::Read { conversation, page } => self.page(now, user, *conversation, page),
            App::Members { conversation, members } => self.members(now, user, *conversation, members.iter()),
            App::Present { conversation, members } => {
                self.members(now, user, *conversation, members.iter().map(|presence| &presence.user));
            }
            App::Listed(entries) => {
                for entry in entries {
                    self.notified(now, user, entry.conversation, entry.head, entry.number);
                    self.unread(now, user, entry);
                }
            }
            App::Shown(opened) => self.shown(now, user, opened),
            App::Told(event) => self.told(now, user, event),
            _ => {}
        }
    }

    /// One who is no longer a member sees a conversation as it was when they left.
    fn shown(&mut self, now: Duration, user: &UserId, opened: &Opened) {
        let Opened { conversation: id, role, head, number, ref name, members, present, .. } = *opened;
        if role > 0 {
            return;
        }
        let since = now.saturating_sub(UNDER_WAY);
        let as_it_was = self.found.logs.conversation(id, since, now).any(|known| {
            let mut ends = known.seen_between(user, since, now).filter(|visible| visible.role == 0);
            ends.any(|Visible { to, .. }| {
                let last = to.checked_sub(1).and_then(|at| known.events.get(at as usize));
                let named = id.kind() != Some(Kind::Group) || *name == known.title(*to);
                // A membership without events ends behind the newest that they can have.
                head <= *to && named && number == last.map_or(0, |stored| stored.number)
            })
        });
        if !as_it_was || (members, present) != (0, 0) {
            self.leak(now, user, format!("what came after they left {id}: {opened:?}"));
        }
    }

    fn told(&mut self, now: Duration, user: &UserId, event: &ClientEvent) {
        let since = now.saturating_sub(UNDER_WAY);
        match event {
            ClientEvent::Presence(presence) => {
                let other = &presence.user;
                if other != user && !self.were_together(user, other, since, now) {
                    self.leak(now, user, format!("the presence of {other}"));
                }
            }
            ClientEvent::Changed { conversation, head, number, role, kind, user: author, preview, at, .. } => {
                self.notified(now, user, *conversation, *head, *number);
                let shows = Shown { seq: *head, kind: *kind, user: author.as_ref(), preview, at: *at };
                if !self.found.logs.conversation(*conversation, since, now).any(|known| shows.is_for(user, known)) {
                    self.leak(now, user, format!("what is not for them of {conversation}: {event:?}"));
                }
                // A change of role is an event; this tells only of memberships, begun and ended.
                let was = self.found.logs.conversation(*conversation, since, now).any(|known| {
                    known.seen_between(user, since, now).any(|visible| (visible.role == 0) == (*role == 0))
                });
                if !was {
                    self.leak(now, user, format!("news of {conversation} as role {role}"));
                }
            }
            ClientEvent::Marked { conversation, seq, .. } => {
                let of = (*conversation, user.clone());
                let mut logs = self.found.logs.between(since, now);
                if !logs.any(|log| log.truth.marks.get(&of).is_some_and(|all| all.contains(seq))) {
                    self.leak(now, user, format!("a read mark at {seq} in {conversation} that was never set"));
                }
            }
            ClientEvent::Signal { conversation, user: from, .. } => {
                let mut logs = self.found.logs.conversation(*conversation, since, now);
                if !logs.any(|known| [user, from].iter().all(|who| is_member(known, who, since, now))) {
                    self.leak(now, user, format!("a signal of {from} in {conversation}"));
                }
            }
            _ => {}
        }
    }

    /// Judges an event by the conversation as it is in the logs that it may be from.
    fn event<'b>(
        &mut self,
        now: Duration,
        user: &UserId,
        id: ConversationId,
        event: &OwnedEvent,
        known: impl IntoIterator<Item = &'b Conversation>,
    ) {
        if !known
            .into_iter()
            .any(|known| known.ranges(user, Duration::MAX).any(|(from, to)| (from..=to).contains(&event.seq)))
        {
            self.leak(now, user, format!("event {} of {id}", event.seq));
        }
    }

    fn page(&mut self, now: Duration, user: &UserId, id: ConversationId, page: &HistoryPage) {
        let logs = self.found.logs;
        for event in &page.events {
            // A page does not say which log it is from.
            self.event(now, user, id, event, logs.conversation(id, now.saturating_sub(UNDER_WAY), now));
        }
        let dense = page.events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq);
        if !dense {
            self.found.add(now, Promise::OnceInOrder, format!("{user} was given a page of {id} with a hole: {page:?}"));
        }
    }

    fn members<'b>(
        &mut self,
        now: Duration,
        user: &UserId,
        id: ConversationId,
        members: impl Iterator<Item = &'b UserId>,
    ) {
        let since = now.saturating_sub(UNDER_WAY);
        let is_member =
            |who| self.found.logs.conversation(id, since, now).any(|known| is_member(known, who, since, now));
        let (knows, strangers) = (is_member(user), members.filter(|member| !is_member(member)).collect::<Vec<_>>());
        if !knows {
            self.leak(now, user, format!("members of {id}"));
        }
        for member in strangers {
            self.leak(now, user, format!("{member} as a member of {id}"));
        }
    }

    /// Told of a conversation and its newest event.
    fn notified(&mut self, now: Duration, user: &UserId, id: ConversationId, head: u64, number: u64) {
        let logs = || self.found.logs.conversation(id, now.saturating_sub(UNDER_WAY), now);
        let mut stored = logs().filter_map(|known| known.events.get(head.checked_sub(1)? as usize));
        if head > 0 && !stored.any(|stored| stored.number == number && stored.ordered <= now) {
            self.found.add(
                now,
                Promise::OnceInOrder,
                format!("{user} was told of event {head} of {id}, which is not there"),
            );
        }
        let logs = || self.found.logs.conversation(id, now.saturating_sub(UNDER_WAY), now);
        if !logs().any(|known| known.seen_between(user, Duration::ZERO, now).next().is_some()) {
            self.leak(now, user, format!("that there is {id}"));
        }
    }

    /// What one says oneself is not unread, but for what is said long before the mark.
    fn unread(&mut self, now: Duration, user: &UserId, entry: &ListEntry) {
        let most = |known: &Conversation| {
            let until = known.events.iter().take(entry.head as usize);
            let (own, others): (Vec<_>, Vec<_>) =
                until.filter(|stored| kind::counts(stored.kind)).partition(|stored| stored.user == *user);
            (others.len() + own.len().saturating_sub(MarkRecord::OWN)) as u64
        };
        let mut logs = self.found.logs.conversation(entry.conversation, now.saturating_sub(UNDER_WAY), now);
        if !logs.any(|known| entry.unread() <= most(known)) {
            self.found.add(now, Promise::OnceInOrder, format!("what {user} said is unread for them: {entry:?}"));
        }
    }

    fn were_together(&self, one: &UserId, other: &UserId, since: Duration, now: Duration) -> bool {
        self.found.logs.between(since, now).any(|log| log.truth.were_together(one, other, since, now))
    }

    fn leak(&mut self, now: Duration, user: &UserId, what: String) {
        self.found.add(now, Promise::Private, format!("{user} learned {what}"));
    }
}

/// What a notification shows of an event.
struct Shown<'a> {
    seq: u64,
    kind: u64,
    user: Option<&'a UserId>,
    preview: &'a str,
    at: u64,
}

impl Shown<'_> {
    /// Whether the user may see the event, and it is that.
    fn is_for(&self, user: &UserId, known: &Conversation) -> bool {
        let Self { seq, kind, preview, at, .. } = *self;
        if seq == 0 {
            return (kind, self.user, preview, at) == (0, None, "", 0);
        }
        let Some(stored) = known.events.get(seq as usize - 1) else { return false };
        let is_whole = kind == stored.kind && stored.body.starts_with(preview.as_bytes());
        let is_deleted = kind == kind::TOMBSTONE && preview.is_empty() && !stored.tombstones.is_empty();
        known.ranges(user, Duration::MAX).any(|(from, to)| (from..=to).contains(&seq))
            && (self.user, at) == (Some(&stored.user), stored.at)
            && (is_whole || is_deleted)
    }
}

fn is_member(known: &Conversation, user: &UserId, since: Duration, until: Duration) -> bool {
    known.seen_between(user, since, until).any(|visible| visible.role > 0)
}

/// How long something that a relay has told may be under way: until its connection is given up.
const UNDER_WAY: Duration = Duration::from_secs(40);
