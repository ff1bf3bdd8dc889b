//! Requests and their answers.

use quip_protocol::{ConversationId, UserId, request as wire};

use crate::OwnedEvent;

/// A query for a page of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whether to page towards newer events.
    pub forward: bool,
    /// The seq to start from, exclusive; backward, 0 = from the newest event.
    pub from: u64,
    /// Maximum number of events; the relay may send fewer.
    pub limit: u64,
}

impl HistoryQuery {
    /// The newest events.
    pub fn newest(limit: u64) -> Self {
        Self { forward: false, from: 0, limit }
    }

    /// The events just before `seq`.
    pub fn before(seq: u64, limit: u64) -> Self {
        Self { forward: false, from: seq, limit }
    }

    /// The events just after `seq`.
    pub fn after(seq: u64, limit: u64) -> Self {
        Self { forward: true, from: seq, limit }
    }
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Generation of the log.
    pub generation: u64,
    /// Seq of the oldest event visible to this user.
    pub first: u64,
    /// Seq of the newest event.
    pub head: u64,
    /// The events in order of seq.
    pub events: Vec<OwnedEvent>,
    /// Whether there is more in that direction.
    pub more: bool,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items in order.
    pub items: Vec<T>,
    /// Whether there is more after them.
    pub more: bool,
}

/// One conversation of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The conversation.
    pub conversation: ConversationId,
    /// Room name, group title, or the other user of a direct conversation.
    pub name: String,
    /// One of [`crate::role`].
    pub role: u8,
    /// Seq of the newest event.
    pub head: u64,
    /// Its message number.
    pub number: u64,
    /// Its time, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The read mark: seq of the last read event.
    pub read: u64,
    /// How many of the `number` messages are not unread: those up to the read mark or the latest joining, and of those behind it
    /// the user's own and the deleted ones.
    pub read_number: u64,
}

impl Entry {
    pub(crate) fn read(entry: &wire::Entry<'_>) -> Self {
        Self {
            conversation: entry.conversation,
            name: entry.name.to_owned(),
            role: entry.role,
            head: entry.head,
            number: entry.number,
            at: entry.at,
            read: entry.read,
            read_number: entry.read_number,
        }
    }

    /// How many messages are unread.
    pub fn unread(&self) -> u64 {
        self.number.saturating_sub(self.read_number)
    }
}

/// One member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// One of [`crate::role`].
    pub role: u8,
    /// The first event of this membership; 1 where members see all events.
    pub since: u64,
}

impl Member {
    /// `None` if it is not a user id.
    pub(crate) fn read(member: &wire::Member<'_>) -> Option<Self> {
        Some(Self { user: UserId::parse(member.user).ok()?, role: member.role, since: member.since })
    }
}
