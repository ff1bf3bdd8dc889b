//! Events, of which a conversation consists.

use serde::{Deserialize, Serialize};

use crate::{Blob, frame::Message};

/// One event of a conversation. Stored and sent as the same frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// Position in the conversation, from 1 without gaps.
    pub seq: u64,
    /// The number of messages up to and including this event, deleted ones too.
    pub number: u64,
    /// When it was ordered, in milliseconds since the Unix epoch; never earlier than the previous event.
    pub at: u64,
    /// Who did it.
    pub user: &'a str,
    /// One of [`kind`]; an unknown kind is passed on unchanged.
    pub kind: u64,
    /// The content; its format depends on the kind.
    #[serde(borrow)]
    pub body: Blob<'a>,
}

impl Message for Event<'_> {
    const TYPE: u64 = 0x52;
}

impl Event<'_> {
    /// Tells this event from another one with the same seq in another copy of the log: the first bytes of the BLAKE3 hash of
    /// seq, number, time and user as they are in the event's frame. A deletion does not change it.
    ///
    /// # Panics
    /// If the fields cannot be serialised. They always can be.
    pub fn digest(&self) -> [u8; 4] {
        let fields = (self.seq, self.number, self.at, self.user);
        let bytes = postcard::to_extend(&fields, Vec::with_capacity(96)).expect("plain data serialises into a Vec");
        let [a, b, c, d, ..] = *blake3::hash(&bytes).as_bytes();
        [a, b, c, d]
    }
}

/// Kinds of event, fixed for ever. The bodies are postcard except for [`kind::TEXT`] and [`kind::DATA`], which are raw.
pub mod kind {
    /// Text: UTF-8. Counts as unread.
    pub const TEXT: u64 = 1;
    /// Application data. Counts as unread.
    pub const DATA: u64 = 2;
    /// [`super::Edited`]: new content for an earlier text or data event.
    pub const EDITED: u64 = 3;
    /// [`super::Deleted`]: an earlier event's content was removed.
    pub const DELETED: u64 = 4;
    /// [`super::Reacted`]: a reaction was added or removed.
    pub const REACTED: u64 = 5;
    /// The user joined. Empty.
    pub const JOINED: u64 = 6;
    /// The user left. Empty.
    pub const LEFT: u64 = 7;
    /// [`super::Added`]: the user added another.
    pub const ADDED: u64 = 8;
    /// [`super::Removed`]: the user removed another.
    pub const REMOVED: u64 = 9;
    /// [`super::RoleChanged`]: the user changed another's role.
    pub const ROLE: u64 = 10;
    /// [`super::Titled`]: the user changed the title.
    pub const TITLE: u64 = 11;
    /// [`super::Tombstone`]: replaces a deleted event.
    pub const TOMBSTONE: u64 = 12;

    /// Whether events of this kind count as unread.
    pub fn counts(kind: u64) -> bool {
        matches!(kind, TEXT | DATA)
    }
}

/// Body of [`kind::EDITED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited<'a> {
    /// The event that gets new content.
    pub target: u64,
    /// The new content.
    #[serde(borrow)]
    pub body: Blob<'a>,
}

/// Body of [`kind::DELETED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The event whose content was removed; for a message, also that of its edits.
    pub target: u64,
}

/// Body of [`kind::REACTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reacted<'a> {
    /// The event that it is about.
    pub target: u64,
    /// False removes it.
    pub add: bool,
    /// The reaction, at most 32 bytes.
    pub reaction: &'a str,
}

/// Body of [`kind::ADDED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added<'a> {
    /// Who was added.
    pub user: &'a str,
}

/// Body of [`kind::REMOVED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed<'a> {
    /// Who was removed.
    pub user: &'a str,
    /// Whether they are banned until added again.
    pub ban: bool,
}

/// Body of [`kind::ROLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChanged<'a> {
    /// Whose role.
    pub user: &'a str,
    /// The new role, see [`role`].
    pub role: u8,
}

/// Body of [`kind::TITLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Titled<'a> {
    /// The new title, at most 128 bytes.
    pub title: &'a str,
}

/// Body of [`kind::TOMBSTONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The event that deleted it.
    pub by: u64,
}

/// Roles, fixed for ever.
pub mod role {
    /// Reads and posts.
    pub const MEMBER: u8 = 1;
    /// Adds and removes members, deletes others' messages.
    pub const ADMIN: u8 = 2;
    /// May do everything, including changing roles.
    pub const OWNER: u8 = 3;

    /// Whether this is a known role.
    pub fn is_known(role: u8) -> bool {
        (MEMBER..=OWNER).contains(&role)
    }
}
