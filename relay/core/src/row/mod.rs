//! The records that the fold reads and writes.

mod codec;
mod edits_codec;
mod sends;
mod sends_codec;

use std::collections::VecDeque;

use bytes::Bytes;
use quip_protocol::{Code, DeviceId, UserId};

pub use self::codec::{RowError, VERSION};
use crate::Timestamp;

/// The head of a conversation. A deleted or emptied one keeps it, so that `head` never starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// When it came into being.
    pub created_at: Timestamp,
    /// Seq of the newest event; 0 = none.
    pub head: u64,
    /// Message number: how many events that count as unread there have been.
    pub number: u64,
    /// The oldest event that is kept; 1 when nothing was trimmed.
    pub first_kept: u64,
    /// Time of the newest event.
    pub last_at: Timestamp,
    /// How many are members now.
    pub members: u64,
    /// How many of them are owners.
    pub owners: u64,
    /// Standing policy.
    pub policy: Policy,
    /// What it is called.
    pub naming: Naming,
}

/// What a conversation is called, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// The two users, in byte order (the same twice for a conversation with oneself).
    Direct(UserId, UserId),
    /// A group's title, empty at first.
    Group(String),
    /// A room's name and its title.
    Room(String, String),
}

/// Standing policy of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Members may read what precedes their joining.
    pub history_open: bool,
    /// Joins and leaves are events that everyone sees.
    pub joins_shown: bool,
}

/// A user's membership of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRow {
    /// Where it stands.
    pub state: MemberState,
    /// `event::role`; the last one held when no longer a member.
    pub role: u8,
    /// The first event that this member may see.
    pub from: u64,
    /// The last event that this member may see; `u64::MAX` for a present member.
    pub to: u64,
    /// The message number just before the joining, from which unread counts.
    pub number: u64,
    /// When this state began.
    pub at: Timestamp,
}

/// Where a membership stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MemberState {
    /// A member.
    Member = 1,
    /// Was one, may come back.
    Left = 2,
    /// Kept out (perhaps without ever having been a member; then `to` is 0).
    Banned = 3,
}

/// A device's send numbers in a conversation, or a stored part of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SendsRow {
    /// The last `n` that was decided.
    pub last: u64,
    /// Outcomes of the latest, ending with `last`, without holes: at least 64 once there are so many.
    pub latest: VecDeque<Recorded>,
}

/// The outcome of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// `Code::DONE` = accepted.
    pub code: Code,
    /// The event that it became; 0 = none.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The first 8 bytes of BLAKE3 of what the command asked for.
    pub hash: u64,
}

/// One stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Who.
    pub user: UserId,
    /// With which device.
    pub device: DeviceId,
    /// As which of its commands; 0 = by the relay.
    pub n: u64,
    /// The `Event` frame as it is sent.
    pub frame: Bytes,
}

/// The edits of one message, oldest first: by them its deletion finds every copy of the content. There is a row only for
/// a message that was edited and not deleted since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EditsRow {
    /// At most [`limit::EDITS`](quip_protocol::limit::EDITS).
    pub edits: Vec<Origin>,
}

/// An event without its user and content: what of its row and frame a tombstone keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its seq.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// The device that it came from.
    pub device: DeviceId,
    /// As which of its commands.
    pub n: u64,
}

/// How far a user has read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkRow {
    /// Read up to this event.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
}

/// What is known of a user apart from conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserRow {
    /// When a relay last heard of them, as far as it was written down; 0 = never.
    pub seen: Timestamp,
}
