//! Typed reads.

use std::ops::RangeInclusive;

use bytes::Bytes;
use quip_core::{ConversationRow, EventRow, MarkRow, MemberRow, SendsRow};
use quip_protocol::{ConversationId, DeviceId, UserId};

use crate::ReadError;

/// Everything that is committed. Cheap to clone; reads block on the disk.
#[derive(Clone)]
pub struct View {}

/// From which end a page is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The oldest events of the range.
    Forward,
    /// The newest events of the range.
    Backward,
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Bytes of frames. A page holds one event even if that alone is larger.
    pub bytes: usize,
    /// Events.
    pub events: usize,
}

/// Consecutive events, in order of seq whatever the direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The `Event` frames as they are sent, one after the other.
    pub frames: Bytes,
    /// Seq of the first one; 0 when there is none.
    pub first: u64,
    /// Seq of the last one; 0 when there is none.
    pub last: u64,
    /// How many.
    pub count: usize,
}

/// A page of members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Present members in order of user id.
    pub members: Vec<(UserId, MemberRow)>,
    /// Where to go on (exclusive); `None` when there are no more.
    pub next: Option<UserId>,
}

/// One conversation of a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: ConversationId,
    /// The conversation.
    pub conversation: ConversationRow,
    /// The user's membership.
    pub member: MemberRow,
    /// The user's read mark.
    pub mark: MarkRow,
}

/// A page of a user's conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Those that the user is a member of, in order of id.
    pub entries: Vec<Listed>,
    /// Where to go on (exclusive); `None` when there are no more.
    pub next: Option<ConversationId>,
}

#[allow(unused_variables)]
impl View {
    /// Identity of the log, drawn when the store was created.
    pub fn generation(&self) -> u64 {
        unimplemented!()
    }

    /// The head of a conversation.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRow>, ReadError> {
        unimplemented!()
    }

    /// A user's membership, present or past.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn member(&self, id: ConversationId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        unimplemented!()
    }

    /// A device's send numbers.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn sends(&self, id: ConversationId, user: &UserId, device: DeviceId) -> Result<Option<SendsRow>, ReadError> {
        unimplemented!()
    }

    /// One event.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn event(&self, id: ConversationId, seq: u64) -> Result<Option<EventRow>, ReadError> {
        unimplemented!()
    }

    /// A user's read mark.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn mark(&self, user: &UserId, id: ConversationId) -> Result<Option<MarkRow>, ReadError> {
        unimplemented!()
    }

    /// The events of `seqs` that are stored, from one end until `limit` is reached. A page that begins later than
    /// asked (or is empty) means that events were trimmed meanwhile: read the conversation again.
    ///
    /// # Errors
    /// When a record is damaged or missing between others, or the store fails.
    pub fn page(
        &self,
        id: ConversationId,
        seqs: RangeInclusive<u64>,
        direction: Direction,
        limit: PageLimit,
    ) -> Result<Page, ReadError> {
        unimplemented!()
    }

    /// Present members after `after`, at most `limit`. Looks at a bounded number of records, so a page may be
    /// short and still name a next one.
    ///
    /// # Errors
    /// When a record is damaged or the store fails.
    pub fn members(&self, id: ConversationId, after: Option<&UserId>, limit: usize) -> Result<Members, ReadError> {
        unimplemented!()
    }

    /// The user's conversations after `after`, at most `limit`.
    ///
    /// # Errors
    /// When a record is damaged or the store fails.
    pub fn list(&self, user: &UserId, after: Option<ConversationId>, limit: usize) -> Result<List, ReadError> {
        unimplemented!()
    }
}
