//! What an event says.

use quip_protocol::event::{
    Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, Tombstone,
    kind::{ADDED, DATA, DELETED, EDITED, JOINED, LEFT, REACTED, REMOVED, ROLE, TEXT, TITLE, TOMBSTONE},
};

use crate::OwnedEvent;

/// The content of an event. Users are named as they are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content<'a> {
    /// A text message.
    Text(&'a str),
    /// Application data.
    Data(&'a [u8]),
    /// A message has new content.
    Edited {
        /// The message.
        target: u64,
        /// The new content; of a text message, UTF-8.
        content: &'a [u8],
    },
    /// A message's content, or that of one edit, was removed.
    Deleted {
        /// The message or the edit.
        target: u64,
    },
    /// A reaction was added or removed.
    Reacted {
        /// The event that it is about.
        target: u64,
        /// The reaction.
        reaction: &'a str,
        /// False if it was removed.
        added: bool,
    },
    /// The author joined.
    Joined,
    /// The author left.
    Left,
    /// The author added a user.
    Added {
        /// The user.
        user: &'a str,
    },
    /// The author removed a user.
    Removed {
        /// The user.
        user: &'a str,
        /// Whether the user is banned until added again.
        banned: bool,
    },
    /// The author changed a member's role.
    RoleChanged {
        /// The member.
        user: &'a str,
        /// One of [`crate::role`].
        role: u8,
    },
    /// The author changed the title.
    Titled {
        /// The new title.
        title: &'a str,
    },
    /// The content was deleted.
    Tombstone {
        /// Seq of the deletion.
        by: u64,
    },
    /// A kind that this version of the library does not know, or content that does not fit its kind.
    Unknown {
        /// The kind.
        kind: u64,
        /// The content as it came.
        content: &'a [u8],
    },
}

impl OwnedEvent {
    /// What the event says.
    pub fn content(&self) -> Content<'_> {
        self.known().unwrap_or(Content::Unknown { kind: self.kind, content: &self.body })
    }

    fn known(&self) -> Option<Content<'_>> {
        Some(match self.kind {
            TEXT => Content::Text(std::str::from_utf8(&self.body).ok()?),
            DATA => Content::Data(&self.body),
            EDITED => {
                self.read::<Edited<'_>>().map(|Edited { target, body }| Content::Edited { target, content: body.0 })?
            }
            DELETED => self.read::<Deleted>().map(|Deleted { target }| Content::Deleted { target })?,
            REACTED => self.read::<Reacted<'_>>().map(|Reacted { target, add, reaction }| Content::Reacted {
                target,
                reaction,
                added: add,
            })?,
            JOINED => Content::Joined,
            LEFT => Content::Left,
            ADDED => self.read::<Added<'_>>().map(|Added { user }| Content::Added { user })?,
            REMOVED => {
                self.read::<Removed<'_>>().map(|Removed { user, ban }| Content::Removed { user, banned: ban })?
            }
            ROLE => {
                self.read::<RoleChanged<'_>>().map(|RoleChanged { user, role }| Content::RoleChanged { user, role })?
            }
            TITLE => self.read::<Titled<'_>>().map(|Titled { title }| Content::Titled { title })?,
            TOMBSTONE => self.read::<Tombstone>().map(|Tombstone { by }| Content::Tombstone { by })?,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quip_protocol::{Blob, UserId};

    use super::*;

    fn event(kind: u64, body: &[u8]) -> OwnedEvent {
        let user = UserId::parse("alice").expect("a user");
        OwnedEvent { seq: 1, number: 1, at: 1, user, kind, body: Bytes::copy_from_slice(body), own: None }
    }

    fn packed(body: &impl serde::Serialize) -> Vec<u8> {
        postcard::to_extend(body, Vec::new()).expect("plain data")
    }

    #[test]
    fn each_kind_is_decoded_as_itself() {
        let user = "bob";
        let table: Vec<(u64, Vec<u8>, Content<'_>)> = vec![
            (TEXT, b"hi".into(), Content::Text("hi")),
            (DATA, vec![0xff], Content::Data(&[0xff])),
            (EDITED, packed(&Edited { target: 4, body: Blob(b"new") }), Content::Edited { target: 4, content: b"new" }),
            (DELETED, packed(&Deleted { target: 4 }), Content::Deleted { target: 4 }),
            (
                REACTED,
                packed(&Reacted { target: 4, add: true, reaction: "+1" }),
                Content::Reacted { target: 4, reaction: "+1", added: true },
            ),
            (JOINED, vec![], Content::Joined),
            (LEFT, vec![], Content::Left),
            (ADDED, packed(&Added { user }), Content::Added { user }),
            (REMOVED, packed(&Removed { user, ban: true }), Content::Removed { user, banned: true }),
            (ROLE, packed(&RoleChanged { user, role: 2 }), Content::RoleChanged { user, role: 2 }),
            (TITLE, packed(&Titled { title: "plans" }), Content::Titled { title: "plans" }),
            (TOMBSTONE, packed(&Tombstone { by: 9 }), Content::Tombstone { by: 9 }),
            (99, b"x".into(), Content::Unknown { kind: 99, content: b"x" }),
            (TEXT, vec![0xff], Content::Unknown { kind: TEXT, content: &[0xff] }),
            (TITLE, vec![200], Content::Unknown { kind: TITLE, content: &[200] }),
        ];
        for (kind, body, expected) in table {
            assert_eq!(event(kind, &body).content(), expected, "kind {kind}");
        }
    }
}
