//! Commands, the only way to change state.

pub(crate) mod codec;

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId};

pub use self::codec::{BESIDE, CommandError, VERSION};
use crate::{Policy, Timestamp, record::SendsKey};

/// The conversation of commands about a user. No conversation has this id, because its first byte is not a kind.
pub const NO_CONVERSATION: ConversationId = ConversationId([0; 16]);

/// One command about one conversation, or with [`Action::Seen`] about one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which conversation; [`NO_CONVERSATION`] in a command about a user.
    pub conversation: ConversationId,
    /// Who submits it, with which send number.
    pub by: By,
    /// What the submitting relay allows, from the token and its config.
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
    /// A relay, for standing policy, trimming, forgetting and who was seen when.
    Relay,
}

/// What the submitter may do, determined before ordering. The fold combines it with records and never sees the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authority {
    /// May join the room that this is about.
    pub join: bool,
    /// May post in it.
    pub post: bool,
    /// May create it.
    pub create: bool,
    /// May moderate it: delete others' messages, remove, ban.
    pub moderate: bool,
    /// May add the user that this is about to a group: they were not added too often lately.
    pub add: bool,
    /// The policy of a room that this command creates.
    pub policy: Policy,
    /// Maximum members of a group.
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
    /// Add or remove a reaction.
    React {
        /// The event.
        target: u64,
        /// False removes it.
        add: bool,
        /// 1 to 32 bytes of text.
        reaction: String,
    },
    /// Leave.
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
        /// Also ban them.
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
    /// Set a room's policy. By a relay only.
    SetPolicy {
        /// The policy.
        policy: Policy,
    },
    /// Trim events below `first_kept`. By a relay only.
    Trim {
        /// The oldest event to keep.
        first_kept: u64,
    },
    /// Forget the send numbers of a device that were not used since `before`. By a relay only.
    Forget {
        /// Whose device.
        user: UserId,
        /// The device.
        device: DeviceId,
        /// Later ones stay.
        before: Timestamp,
    },
    /// A user was heard from. By a relay only, without a conversation.
    Seen {
        /// Who.
        user: UserId,
        /// When, by the relay's clock.
        at: Timestamp,
    },
}

/// How a join finds or creates the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAs {
    /// It must exist.
    Existing,
    /// Creates the direct conversation with this user, who becomes a member too.
    Direct(UserId),
    /// Creates the room of this name.
    Room(String),
    /// Creates a group, with the joining user as its owner.
    NewGroup,
}

impl Command {
    /// The command for a user that was last heard from at `at`.
    pub fn seen(user: UserId, at: Timestamp) -> Self {
        let action = Action::Seen { user, at };
        Self { conversation: NO_CONVERSATION, by: By::Relay, authority: Authority::default(), action }
    }

    /// The command to forget the send numbers that are stored under a key, unless they were used since `before`.
    pub fn forget(SendsKey(conversation, device, user): SendsKey, before: Timestamp) -> Self {
        let action = Action::Forget { user, device, before };
        Self { conversation, by: By::Relay, authority: Authority::default(), action }
    }

    /// Its send number, if a device sent it with one.
    pub fn number(&self) -> Option<u64> {
        match self.by {
            By::Device { n, .. } if n > 0 => Some(n),
            _ => None,
        }
    }

    /// Whether it creates the conversation if there is none.
    pub fn may_create(&self) -> bool {
        let creates = matches!(&self.action, Action::Join(join) if *join != JoinAs::Existing);
        creates && self.authority.join && self.authority.create
    }

    /// The bytes that this command counts for in the limits on queued commands and on batches. More than its size for a command
    /// that writes many records, so that a batch writes a bounded number of records.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 192;
        /// For the record with the edits of a message.
        const EDITS: usize = 512;
        /// For the record with the reactions to a message.
        const REACTIONS: usize = 128;
        /// For the tombstones of all edits. 64 deletions still fit into the queue of one conversation.
        const TOMBSTONES: usize = 4096 - FIXED;
        FIXED
            + match &self.action {
                Action::Post { body, .. } => body.len(),
                Action::Edit { body, .. } => EDITS + body.len(),
                Action::Delete { .. } => TOMBSTONES,
                Action::React { .. } => REACTIONS,
                Action::SetTitle { title } => title.len(),
                _ => 0,
            }
    }
}
