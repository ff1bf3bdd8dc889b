//! Decides one command.

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId, conversation::Outcome};

use crate::{Command, ConversationRow, EventRow, MarkRow, MemberRow, SendsRow, Timestamp};

/// The rows that a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys<'a> {
    /// The conversation's row.
    pub conversation: ConversationId,
    /// The acting user's member row.
    pub actor: Option<&'a UserId>,
    /// With this device, the send numbers row (only when the command carries an `n`).
    pub device: Option<DeviceId>,
    /// The member row of the user that the command is about.
    pub target: Option<&'a UserId>,
    /// The event that the command is about.
    pub event: Option<u64>,
    /// The acting user's read mark.
    pub mark: bool,
}

/// Those rows, as they are before the command and, in [`Folded`], after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The conversation.
    pub conversation: Option<ConversationRow>,
    /// The acting user's membership.
    pub actor: Option<MemberRow>,
    /// The membership of the user that the command is about.
    pub target: Option<MemberRow>,
    /// The device's send numbers.
    pub sends: Option<SendsRow>,
    /// The event that the command is about.
    pub event: Option<EventRow>,
    /// The acting user's read mark.
    pub mark: Option<MarkRow>,
}

/// Which of the rows the command changed and must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// [`Rows::conversation`].
    pub conversation: bool,
    /// [`Rows::actor`]; the membership-by-user row of the actor follows it.
    pub actor: bool,
    /// [`Rows::target`]; the membership-by-user row of the target follows it.
    pub target: bool,
    /// [`Rows::sends`].
    pub sends: bool,
    /// [`Rows::event`], rewritten in its place (a tombstone).
    pub event: bool,
    /// [`Rows::mark`].
    pub mark: bool,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The rows after the command.
    pub rows: Rows,
    /// Which of them to write.
    pub changed: Changed,
    /// The event that it became, to be written under its seq.
    pub event: Option<NewEvent>,
    /// What the submitter is told; `None` for read marks and a relay's own commands.
    pub outcome: Option<Outcome>,
    /// What else follows from it.
    pub effects: Vec<Effect>,
}

/// An event that has just been decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its seq.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// `event::kind`.
    pub kind: u64,
    /// What is stored; `row.frame` is what is sent.
    pub row: EventRow,
}

/// What follows from a command, besides rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What a user may see of the conversation changed: from `from` up to and including `to`.
    Visible {
        /// Who.
        user: UserId,
        /// The first event.
        from: u64,
        /// The last event; `u64::MAX` = open-ended.
        to: u64,
        /// The role now; 0 = no longer a member.
        role: u8,
    },
    /// A direct conversation has something new for this user.
    Touched {
        /// Who.
        user: UserId,
    },
    /// A user's read mark moved.
    Marked {
        /// Who.
        user: UserId,
        /// To where.
        mark: MarkRow,
    },
    /// The event at this seq was replaced by these bytes (a tombstone).
    Rewritten {
        /// Which.
        seq: u64,
        /// The new frame.
        frame: Bytes,
    },
}

/// The rows that a command needs, from its own fields alone.
pub fn keys(command: &Command) -> Keys<'_> {
    let _ = command;
    unimplemented!()
}

/// Decides one command. No IO, no clock, no state of its own.
pub fn fold(command: &Command, at: Timestamp, rows: Rows) -> Folded {
    let _ = (command, at, rows);
    unimplemented!()
}
