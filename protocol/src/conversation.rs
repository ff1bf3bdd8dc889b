//! Messages of a conversation stream.
//!
//! A client begins with [`Open`]; the relay answers [`Opened`] or [`End`]. Commands carry `n`, the
//! device's own count of its commands in this conversation, from 1 without holes.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Blob, Code, ConversationId, Item, Items, Kind, RoomName, UserId,
    frame::{Message as _, types},
    limit, varint,
};

/// Client: the first frame of a conversation stream. Built from and read as [`Target`] and [`Start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open<'a> {
    /// 0 = id, 1 = direct, 2 = room, 3 = new group.
    target_kind: u8,
    /// The 16 id bytes, the other user's id, or the room's name.
    #[serde(borrow)]
    target: Blob<'a>,
    /// 0 = do not join; otherwise the `n` of the join, which is a command like any other.
    pub join: u64,
    /// Names the conversation in datagrams of this connection; 0 = no datagrams.
    pub channel: u64,
    /// 0 = now, 1 = after a cursor, 2 = the last `value` events.
    start_kind: u8,
    /// The cursor's generation, or 0.
    generation: u64,
    /// The cursor's seq, or the number of events.
    value: u64,
    /// [`crate::Event::digest`] of the event at the cursor; zero if it is not known.
    pub digest: [u8; 4],
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// A conversation by its id.
    Id(ConversationId),
    /// The direct conversation with this user; joining creates it.
    Direct(UserId),
    /// The room of this name; joining creates it if the token allows.
    Room(RoomName<'a>),
    /// A group with an id that the client drew; joining creates it and makes the client its owner.
    NewGroup(ConversationId),
}

/// Where delivery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next new event.
    Now,
    /// With the event after a cursor.
    After {
        /// The log that `seq` refers to.
        generation: u64,
        /// The last event that the client has; 0 = none.
        seq: u64,
    },
    /// With the last events, this number of them.
    Last(u64),
}

/// Why an [`Open`] is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTarget {
    /// A user id, room name or group id that is not well-formed.
    #[error("the name is not well-formed")]
    Name,
    /// A number that is not assigned.
    #[error("unknown kind of target or start")]
    Unknown,
}

impl<'a> Open<'a> {
    /// An open of `target`, joining with send number `join` unless that is 0. It has no channel and no digest.
    pub fn new(target: &'a Target<'a>, join: u64, start: Start) -> Self {
        let (target_kind, target) = match target {
            Target::Id(id) => (0, &id.0[..]),
            Target::Direct(user) => (1, user.as_str().as_bytes()),
            Target::Room(name) => (2, name.as_str().as_bytes()),
            Target::NewGroup(id) => (3, &id.0[..]),
        };
        let (start_kind, generation, value) = match start {
            Start::Now => (0, 0, 0),
            Start::After { generation, seq } => (1, generation, seq),
            Start::Last(count) => (2, 0, count),
        };
        let (channel, digest) = (0, [0; 4]);
        Self { target_kind, target: Blob(target), join, channel, start_kind, generation, value, digest }
    }

    /// What to open.
    ///
    /// # Errors
    /// If the name is not well-formed or the number is unknown.
    pub fn target(&self) -> Result<Target<'a>, InvalidTarget> {
        let id = || <[u8; 16]>::try_from(self.target.0).map(ConversationId).map_err(|_| InvalidTarget::Name);
        let text = || std::str::from_utf8(self.target.0).map_err(|_| InvalidTarget::Name);
        match self.target_kind {
            0 => Ok(Target::Id(id()?)),
            1 => UserId::parse(text()?).map(Target::Direct).map_err(|_| InvalidTarget::Name),
            2 => RoomName::parse(text()?).map(Target::Room).map_err(|_| InvalidTarget::Name),
            3 => match id()? {
                id if id.kind() == Some(Kind::Group) => Ok(Target::NewGroup(id)),
                _ => Err(InvalidTarget::Name),
            },
            _ => Err(InvalidTarget::Unknown),
        }
    }

    /// Where delivery starts.
    ///
    /// # Errors
    /// If the number is unknown.
    pub fn start(&self) -> Result<Start, InvalidTarget> {
        match self.start_kind {
            0 => Ok(Start::Now),
            1 => Ok(Start::After { generation: self.generation, seq: self.value }),
            2 => Ok(Start::Last(self.value)),
            _ => Err(InvalidTarget::Unknown),
        }
    }
}

/// Relay: the conversation is open; events follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened<'a> {
    /// Which.
    pub conversation: ConversationId,
    /// Identity of the log. If it differs from the cursor's, delivery starts at `first_kept`, and
    /// commands without an outcome get new numbers from `last_n + 1`.
    pub generation: u64,
    /// The oldest event that is still kept, and visible to this user.
    pub first_kept: u64,
    /// The newest event; 0 = none.
    pub head: u64,
    /// Its message number; of a former member, at the end of the membership.
    pub number: u64,
    /// Seq of the first event that will be delivered.
    pub start: u64,
    /// The user's role, see [`crate::event::role`]; 0 = no longer a member.
    pub role: u8,
    /// The last `n` of this device that was decided; 0 = none.
    pub last_n: u64,
    /// The latest outcomes of this device, oldest first.
    #[serde(borrow)]
    pub outcomes: Items<'a, Outcome>,
    /// The user's read mark: an event's seq.
    pub read: u64,
    /// How many of the `number` messages are not unread.
    pub read_number: u64,
    /// Room name, group title, or the other user of a direct conversation. A former member gets the title that the group had at
    /// the end of the membership.
    pub name: &'a str,
    /// Number of members; 0 for a former member.
    pub members: u64,
    /// Number of connections to this relay on which the conversation is open, including this one; 0 for a former member.
    pub present: u64,
}

/// The outcome of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The command.
    pub n: u64,
    /// [`Code::DONE`] = accepted, otherwise why not.
    pub code: Code,
    /// The event that it became; 0 = none.
    pub seq: u64,
    /// Message number of that event.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The command's [`check`].
    pub check: [u8; 4],
}

impl Item<'_> for Outcome {
    const MAX: usize = limit::UNANSWERED as usize;
}

/// Tells a command from another one with its number: the first 4 bytes of the BLAKE3 hash of its type number and its fields
/// after `n`, as they are in its frame. Of a join, which may name the conversation in several ways, of the type alone.
pub fn check(kind: u64, fields: &[u8]) -> [u8; 4] {
    let mut hashed = Vec::with_capacity(fields.len() + 2);
    varint::write(kind, &mut hashed);
    hashed.extend_from_slice(fields);
    let [a, b, c, d, ..] = *blake3::hash(&hashed).as_bytes();
    [a, b, c, d]
}

/// The [`check`] of every join.
pub const JOIN_CHECK: [u8; 4] = [0x00, 0x26, 0x3c, 0xa9];

/// Client: a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post<'a> {
    /// The send number.
    pub n: u64,
    /// [`crate::event::kind::TEXT`] or [`crate::event::kind::DATA`].
    pub kind: u64,
    /// The content.
    #[serde(borrow)]
    pub body: Blob<'a>,
}

/// Client: new content for an own text or data event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit<'a> {
    /// The send number.
    pub n: u64,
    /// The event.
    pub target: u64,
    /// The new content.
    #[serde(borrow)]
    pub body: Blob<'a>,
}

/// Client: remove the content of an own message with its edits, or of one edit; as admin or moderator of anyone's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The send number.
    pub n: u64,
    /// The event.
    pub target: u64,
}

/// Client: add or remove a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct React<'a> {
    /// The send number.
    pub n: u64,
    /// The event.
    pub target: u64,
    /// False removes it.
    pub add: bool,
    /// The reaction, 1 to 32 bytes.
    pub reaction: &'a str,
}

/// Client: leave. The stream ends after that event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The send number.
    pub n: u64,
}

/// Client: add a user to a group, or lift a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add<'a> {
    /// The send number.
    pub n: u64,
    /// Who.
    pub user: &'a str,
}

/// Client: remove a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove<'a> {
    /// The send number.
    pub n: u64,
    /// Who.
    pub user: &'a str,
    /// Also ban them.
    pub ban: bool,
}

/// Client: change a member's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRole<'a> {
    /// The send number.
    pub n: u64,
    /// Who.
    pub user: &'a str,
    /// See [`crate::event::role`].
    pub role: u8,
}

/// Client: change the title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTitle<'a> {
    /// The send number.
    pub n: u64,
    /// At most 128 bytes.
    pub title: &'a str,
}

/// Client: everything up to here is read. Has no `n`, because marks merge to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The event.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
}

/// Relay: the event that command `n` of this stream became, in order of delivery. Moves the cursor to `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The command.
    pub n: u64,
    /// The event's seq.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Relay: command `n` was accepted. Does not move the cursor: the event is delivered in order, or `seq` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The command.
    pub n: u64,
    /// The event's seq; 0 = the command became no event.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Relay: command `n` was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The command.
    pub n: u64,
    /// Why; [`Code::decides`] says whether `n` is used up, [`Code::retry`] whether it may be sent again.
    pub code: Code,
    /// Milliseconds to wait before sending again.
    pub retry_after: u64,
    /// For [`Code::MISSING`] the last decided `n`, otherwise 0.
    pub info: u64,
}

/// Relay: events up to and including `to` will not be delivered. Moves the cursor there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The last seq that is skipped.
    pub to: u64,
    /// One of [`skip`].
    pub why: u8,
}

/// Reasons of [`Skip`], fixed for ever.
pub mod skip {
    /// No longer kept.
    pub const TRIMMED: u8 = 1;
    /// From when the user was not a member.
    pub const NOT_VISIBLE: u8 = 2;
    /// The log was restored from a backup and has a new identity.
    pub const RESTORED: u8 = 3;
}

/// Relay: the last frame of every stream that the relay ends, and of every answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End<'a> {
    /// Why.
    pub code: Code,
    /// Milliseconds to wait before trying again.
    pub retry_after: u64,
    /// For [`Code::BEHIND`] the head, for [`Code::MISSING`] the last decided `n`, for
    /// [`Code::DONE`] 1 if there are more items; otherwise 0.
    pub info: u64,
    /// For people, at most 256 bytes.
    pub text: &'a str,
}

types! {
    Open<'_> = 0x20;
    Post<'_> = 0x22;
    Edit<'_> = 0x24;
    Delete = 0x26;
    React<'_> = 0x28;
    Leave = 0x2a;
    Add<'_> = 0x2c;
    Remove<'_> = 0x2e;
    SetRole<'_> = 0x30;
    SetTitle<'_> = 0x32;
    Mark = 0x34;
    Opened<'_> = 0x50;
    Accepted = 0x54;
    Ack = 0x56;
    Rejected = 0x58;
    Skip = 0x5a;
    End<'_> = 0x5c;
}

/// Whether a frame type is a command with a number of its own, `n`, the first field of its body.
pub fn is_numbered(kind: u64) -> bool {
    matches!(
        kind,
        Post::TYPE
            | Edit::TYPE
            | Delete::TYPE
            | React::TYPE
            | Leave::TYPE
            | Add::TYPE
            | Remove::TYPE
            | SetRole::TYPE
            | SetTitle::TYPE
    )
}
