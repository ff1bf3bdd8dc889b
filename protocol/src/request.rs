//! Messages of a request stream: one request, its answer, finish. An answer is any number of frames
//! and then [`crate::conversation::End`].

use serde::{Deserialize, Serialize};

use crate::{ConversationId, frame::types};

/// Client: a page of a conversation. Answered by [`Page`] and that many [`crate::Event`] frames in order of seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Which.
    pub conversation: ConversationId,
    /// False: the last events before `from`. True: the first events after `from`.
    pub forward: bool,
    /// Exclusive; 0 backward = from the newest.
    pub from: u64,
    /// How many at most; the relay may give fewer.
    pub limit: u64,
}

/// Relay: the head of a page of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Identity of the log.
    pub generation: u64,
    /// The oldest event that this user can get.
    pub first: u64,
    /// The newest one.
    pub head: u64,
    /// How many events follow.
    pub count: u64,
}

/// Client: the user's conversations, in order of id. Answered by [`Entry`] frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Exclusive; all zero = from the start.
    pub after: ConversationId,
    /// How many at most.
    pub limit: u64,
}

/// Relay: one conversation of the user's list. Unread is `number - read_number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// Room name, group title, or the other user of a direct conversation.
    pub name: &'a str,
    /// The user's role.
    pub role: u8,
    /// The newest event.
    pub head: u64,
    /// Its message number.
    pub number: u64,
    /// When that was, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The read mark: an event's seq.
    pub read: u64,
    /// How many of the `number` messages are not unread: those up to the read mark or the latest joining, and of those behind it
    /// the user's own and the deleted ones.
    pub read_number: u64,
}

/// Client: the members of a conversation, in order of user id. Answered by [`Member`] frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// Exclusive; empty = from the start.
    pub after: &'a str,
    /// How many at most.
    pub limit: u64,
}

/// Relay: one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member<'a> {
    /// Who.
    pub user: &'a str,
    /// See [`crate::event::role`].
    pub role: u8,
    /// The first event of this membership; 1 where members see all events.
    pub since: u64,
}

/// Client: presence of a conversation's members, in order of user id. Answered by
/// [`crate::session::Presence`] frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceIn<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// Exclusive; empty = from the start.
    pub after: &'a str,
    /// How many at most.
    pub limit: u64,
}

types! {
    History = 0x40;
    List = 0x42;
    Members<'_> = 0x44;
    PresenceIn<'_> = 0x46;
    Page = 0x70;
    Entry<'_> = 0x72;
    Member<'_> = 0x74;
}
