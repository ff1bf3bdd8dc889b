//! Everything that changes something is a command.

pub(crate) mod codec;

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId};

pub use self::codec::{BESIDE, CommandError, VERSION};
use crate::{Policy, Timestamp};

/// Stands where a command about a user has no conversation. No conversation has this id: its first byte is no kind.
pub const NO_CONVERSATION: ConversationId = ConversationId([0; 16]);

/// One command about one conversation, or with [`Action::Seen`] about one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which conversation; [`NO_CONVERSATION`] in a command about a user.
    pub conversation: ConversationId,
    /// Who, and as which of their commands.
    pub by: By,
    /// What the submitting relay found in the token, the config and its limits.
    pub authority: Authority,
    /// What to do.
    pub action: Action,
}

/// Who submits a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A device; `n` counts its commands in this conversation from 1.
    Device {
        /// The user.
        user: UserId,
        /// The device.
        device: DeviceId,
        /// The send number; 0 only for [`Action::Mark`].
        n: u64,
    },
    /// A relay, for standing policy, trimming and who was seen when.
    Relay,
}

/// What the submitter may do, decided before ordering. The fold combines it with rows and never sees config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authority {
    /// May join the room that this is about.
    pub join: bool,
    /// May post in it.
    pub post: bool,
    /// May bring it into being.
    pub create: bool,
    /// May moderate it: delete others' messages, remove, ban.
    pub moderate: bool,
    /// What a room gets as its policy when this command brings it into being.
    pub policy: Policy,
    /// How many members a group may have.
    pub group_members: u32,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Become a member; creates the conversation where [`JoinAs`] and the authority allow.
    Join(JoinAs),
    /// A message.
    Post {
        /// `event::kind::TEXT` or `DATA`.
        kind: u64,
        /// 1 byte to the message limit; checked by the submitter.
        body: Bytes,
    },
    /// New content for an own message.
    Edit {
        /// The event.
        target: u64,
        /// The new content.
        body: Bytes,
    },
    /// Replace a message and its edits, or one edit, by tombstones.
    Delete {
        /// The message or edit.
        target: u64,
    },
    /// Add a reaction or take it back.
    React {
        /// The event.
        target: u64,
        /// False takes it back.
        add: bool,
        /// 1 to 32 bytes of text.
        reaction: String,
    },
    /// End the own membership.
    Leave,
    /// Make another user a member, or lift a ban.
    Add {
        /// Who.
        user: UserId,
    },
    /// End another's membership.
    Remove {
        /// Who.
        user: UserId,
        /// Also keep them out.
        ban: bool,
    },
    /// Change a member's role.
    SetRole {
        /// Who.
        user: UserId,
        /// One of `event::role`; checked by the submitter.
        role: u8,
    },
    /// Change the title of a group or room.
    SetTitle {
        /// At most 128 bytes of text.
        title: String,
    },
    /// Move the own read mark forward.
    Mark {
        /// Read up to this event.
        seq: u64,
        /// Its message number.
        number: u64,
    },
    /// Set a room's standing policy. By a relay only.
    SetPolicy {
        /// The policy.
        policy: Policy,
    },
    /// Give up events below `first_kept`. By a relay only.
    Trim {
        /// The oldest event to keep.
        first_kept: u64,
    },
    /// A user was heard. By a relay only, and of no conversation.
    Seen {
        /// Who.
        user: UserId,
        /// When, by the relay's clock.
        at: Timestamp,
    },
}

/// As what a join may create the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAs {
    /// Not at all: it must exist.
    Existing,
    /// As the direct conversation with this user, who becomes a member too.
    Direct(UserId),
    /// As the room of this name.
    Room(String),
    /// As a group of which the joining user is the owner.
    NewGroup,
}

impl Command {
    /// What a relay submits of a user that it heard at `at`.
    pub fn seen(user: UserId, at: Timestamp) -> Self {
        let action = Action::Seen { user, at };
        Self { conversation: NO_CONVERSATION, by: By::Relay, authority: Authority::default(), action }
    }

    /// Bytes that this command holds while it waits, and more for one that writes much. What the limits on waiting commands and
    /// on batches count, so that a batch writes a bounded number of records.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 192;
        /// Of the record that lists the edits of a message.
        const EDITS: usize = 512;
        /// Of a tombstone for each edit. 64 deletions still fit into what one conversation may have waiting.
        const TOMBSTONES: usize = 4096 - FIXED;
        FIXED
            + match &self.action {
                Action::Post { body, .. } => body.len(),
                Action::Edit { body, .. } => EDITS + body.len(),
                Action::Delete { .. } => TOMBSTONES,
                Action::SetTitle { title } => title.len(),
                _ => 0,
            }
    }
}
