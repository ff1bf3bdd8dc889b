//! What the commands of a log come to: the fold over records in a map, independent of the relay's store and of what it tells.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quip_client::OwnedEvent;
use quip_core::{By, Effect, EventRecord, Key, Loaded, Record, fold, keys};
use quip_order::Ordered;
use quip_protocol::{
    ConversationId, DeviceId, Event, Kind, UserId,
    conversation::Outcome,
    event::{Titled, kind},
    frame, limit,
};

/// Everything that was decided.
#[derive(Default)]
pub struct Truth {
    records: BTreeMap<Key, Record>,
    /// The conversations.
    pub conversations: BTreeMap<ConversationId, Conversation>,
    /// What each device was to be told of its commands.
    pub outcomes: BTreeMap<(ConversationId, UserId, DeviceId), Vec<Outcome>>,
    /// Up to which events users had read, each time that it was told.
    pub marks: BTreeMap<(ConversationId, UserId), Vec<u64>>,
}

/// One conversation.
#[derive(Default)]
pub struct Conversation {
    /// Its events from seq 1 on, as they were first.
    pub events: Vec<Stored>,
    /// Who could see what, from when on: the latest of each user is the present one.
    pub visible: BTreeMap<UserId, Vec<Visible>>,
    /// When events were given up, and up to but not including which.
    pub trimmed: Vec<(Duration, u64)>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Place.
    pub seq: u64,
    /// Message number.
    pub number: u64,
    /// Time by the relay's clock.
    pub at: u64,
    /// Who.
    pub user: UserId,
    /// What.
    pub kind: u64,
    /// The content.
    pub body: Bytes,
    /// What stands in its place later, once it was deleted; an edit alone, and again with its message.
    pub tombstones: Vec<(u64, Bytes)>,
    /// When it was ordered, since the start of the run.
    pub ordered: Duration,
}

/// What a user may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visible {
    /// From when on, since the start of the run.
    pub since: Duration,
    /// The first event.
    pub from: u64,
    /// The last event; `u64::MAX` = open-ended.
    pub to: u64,
    /// The role; 0 = not a member.
    pub role: u8,
}

impl Truth {
    /// Folds the next command.
    pub fn apply(&mut self, ordered: &Ordered, now: Duration) {
        let command = &ordered.command;
        let needed = keys(command).into_iter().map(|key| (key.clone(), self.records.get(&key).cloned()));
        let folded = fold(command, ordered.at, Loaded::new(needed.collect()));
        for (key, record) in folded.writes {
            match record {
                Some(record) => _ = self.records.insert(key, record),
                None => _ = self.records.remove(&key),
            }
        }
        let id = command.conversation;
        if let (By::Device { user, device, n: 1.. }, Some(outcome)) = (&command.by, folded.outcome) {
            self.outcomes.entry((id, user.clone(), *device)).or_default().push(outcome);
        }
        let conversation = self.conversations.entry(id).or_default();
        conversation.events.extend(folded.event.map(|event| Stored::read(&event.record, now)));
        for effect in folded.effects {
            match effect {
                Effect::Visible { user, from, to, role, .. } => {
                    conversation.visible.entry(user).or_default().push(Visible { since: now, from, to, role });
                }
                Effect::Rewritten { seq, record } => {
                    let tombstone = Stored::read(&record, now);
                    conversation.events[seq as usize - 1].tombstones.push((tombstone.kind, tombstone.body));
                }
                Effect::Marked { user, seq, .. } => self.marks.entry((id, user)).or_default().push(seq),
                Effect::Trimmed { until, .. } => conversation.trimmed.push((now, until)),
                Effect::Touched { .. } | Effect::Seen { .. } => {}
            }
        }
    }

    /// Whether two users were together in a small conversation at some time from `since` to `until`.
    pub fn were_together(&self, one: &UserId, other: &UserId, since: Duration, until: Duration) -> bool {
        self.conversations.iter().any(|(id, conversation)| {
            let small = matches!(id.kind(), Some(Kind::Direct | Kind::Group));
            small && conversation.together(one, other, since, until)
        })
    }
}

impl Conversation {
    /// What a user could see at some time from `since` to `until`.
    pub fn seen_between(&self, user: &UserId, since: Duration, until: Duration) -> impl Iterator<Item = &Visible> {
        let all = self.visible.get(user).map_or(&[][..], |all| all);
        let last_before = all.iter().rposition(|visible| visible.since <= since).unwrap_or(0);
        all[last_before..].iter().filter(move |visible| visible.since <= until)
    }

    /// The events that were for a user at some time until `until`, as first and last ones: each membership shows what it covers,
    /// up to its end.
    pub fn ranges(&self, user: &UserId, until: Duration) -> impl Iterator<Item = (u64, u64)> {
        let all = self.visible.get(user).map_or(&[][..], |all| all);
        let all = &all[..all.partition_point(|visible| visible.since <= until)];
        all.iter().enumerate().map(|(at, visible)| {
            let end = all.get(at + 1).map_or(u64::MAX, |next| next.to);
            (visible.from, visible.to.min(end))
        })
    }

    /// Whether an event was the first that a user could see, at some time until `now`: of a membership, or of what was kept. To
    /// one who has left and to whom nothing is kept, it is the one behind the end.
    pub fn is_first(&self, user: &UserId, seq: u64, now: Duration) -> bool {
        let kept = || [1].into_iter().chain(self.trimmed.iter().filter(|(at, _)| *at <= now).map(|(_, until)| *until));
        let nothing_left = |visible: &Visible| {
            let kept = self.first_kept(now);
            !self.ranges(user, visible.since).any(|(from, to)| from.max(kept) <= to)
        };
        self.seen_between(user, Duration::ZERO, now).any(|visible| {
            let is_kept = || seq > visible.from && kept().any(|first| first == seq);
            seq == visible.from || is_kept() || (seq == visible.to.saturating_add(1) && nothing_left(visible))
        })
    }

    /// Whether a user could see none of the events behind `before` up to `to`, after one of the changes to what they may see until
    /// `now`.
    pub fn hides(&self, user: &UserId, before: u64, to: u64, now: Duration) -> bool {
        let kept = self.first_kept(now);
        self.seen_between(user, Duration::ZERO, now).any(|visible| {
            let mut ranges = self.ranges(user, visible.since);
            !ranges.any(|(from, last)| from.max(kept).max(before + 1) <= last.min(to))
        })
    }

    /// The title that it had at event `seq`.
    pub fn title(&self, seq: u64) -> String {
        let titles = self.events.iter().take(seq as usize).filter(|event| event.kind == kind::TITLE);
        let last = titles.last().and_then(|event| postcard::from_bytes::<Titled<'_>>(&event.body).ok());
        last.map_or_else(String::new, |titled| titled.title.to_owned())
    }

    /// The oldest event that was kept at `now`.
    pub fn first_kept(&self, now: Duration) -> u64 {
        let before = self.trimmed.iter().rev().find(|(at, _)| *at <= now);
        before.map_or(1, |(_, until)| *until)
    }

    /// Whether both were members at some time from `since` to `until`.
    fn together(&self, one: &UserId, other: &UserId, since: Duration, until: Duration) -> bool {
        let spans = |user| {
            let all = self.visible.get(user).map_or(&[][..], |all| all);
            let ends = all.iter().skip(1).map(|next| next.since).chain([Duration::MAX]);
            all.iter().zip(ends).filter(|(visible, _)| visible.role > 0).map(|(visible, end)| (visible.since, end))
        };
        spans(one)
            .any(|(begin, end)| spans(other).any(|(from, to)| begin.max(from).max(since) <= end.min(to).min(until)))
    }
}

impl Stored {
    /// As an app would be given it.
    pub fn to_event(&self) -> OwnedEvent {
        let Self { seq, number, at, kind, .. } = *self;
        OwnedEvent { seq, number, at, user: self.user.clone(), kind, body: self.body.clone(), own: None }
    }

    fn read(record: &EventRecord, ordered: Duration) -> Self {
        let (frame, _) = frame::split(&record.frame, limit::FRAME).expect("a good frame").expect("a whole frame");
        let event: Event<'_> = frame::decode(frame.body).expect("an event");
        Self {
            seq: event.seq,
            number: event.number,
            at: event.at,
            user: record.user.clone(),
            kind: event.kind,
            body: Bytes::copy_from_slice(event.body.0),
            tombstones: Vec::new(),
            ordered,
        }
    }
}
