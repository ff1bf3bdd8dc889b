//! Typed reads.

use std::{
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;
use fjall::Slice;
use quip_core::{
    ConversationRecord, EditsRecord, EventRecord, Key, Kind, MarkRecord, MemberRecord, ReactionsRecord, Record,
    SendsRecord, Timestamp, UserRecord,
    record::{ConversationKey, EditsKey, EventKey, MarkKey, MemberKey, ReactionsKey, SendsKey, UserKey},
};
use quip_protocol::{ConversationId, DeviceId, UserId};

use crate::{Expired, ReadError, expired, list, read, store::Inner};

/// Everything that was announced to sinks. Cheap to clone; reads may wait for the disk, and for a commit that is under way.
#[derive(Clone)]
pub struct View {
    pub(crate) inner: Arc<Inner>,
}

/// From which end a page is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// With the oldest events of the range.
    Forward,
    /// With the newest events of the range.
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
pub struct EventPage {
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
    pub members: Vec<(UserId, MemberRecord)>,
    /// Where to go on (exclusive); `None` when there are no more.
    pub next: Option<UserId>,
}

/// One conversation of a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: ConversationId,
    /// The conversation.
    pub conversation: ConversationRecord,
    /// The user's membership.
    pub member: MemberRecord,
    /// The user's read mark; zeros when there is none.
    pub mark: MarkRecord,
}

/// A page of a user's conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Those that the user is a member of, in order of id.
    pub entries: Vec<Listed>,
    /// Where to go on (exclusive); `None` when there are no more.
    pub next: Option<ConversationId>,
}

impl View {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Identity of the log, drawn when the store was created; never 0.
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// The record under a key.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn get<K: Kind>(&self, key: K::Key) -> Result<Option<K>, ReadError> {
        read::get(&self.inner.snapshot()?, key)
    }

    /// The record under a key of any kind.
    pub(crate) fn read(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        read::read(&self.inner.snapshot()?, key)
    }

    /// The head of a conversation.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>, ReadError> {
        self.get(ConversationKey(id))
    }

    /// A user's membership, present or past.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn member(&self, id: ConversationId, user: &UserId) -> Result<Option<MemberRecord>, ReadError> {
        self.get(MemberKey(id, user.clone()))
    }

    /// A device's send numbers.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn sends(&self, id: ConversationId, user: &UserId, device: DeviceId) -> Result<Option<SendsRecord>, ReadError> {
        self.get(SendsKey(id, device, user.clone()))
    }

    /// One event.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn event(&self, id: ConversationId, seq: u64) -> Result<Option<EventRecord>, ReadError> {
        self.get(EventKey(id, seq))
    }

    /// The edits of a message.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn edits(&self, id: ConversationId, message: u64) -> Result<Option<EditsRecord>, ReadError> {
        self.get(EditsKey(id, message))
    }

    /// The reactions to a message.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn reactions(&self, id: ConversationId, message: u64) -> Result<Option<ReactionsRecord>, ReadError> {
        self.get(ReactionsKey(id, message))
    }

    /// A user's read mark.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn mark(&self, user: &UserId, id: ConversationId) -> Result<Option<MarkRecord>, ReadError> {
        self.get(MarkKey(user.clone(), id))
    }

    /// What is known of a user apart from conversations.
    ///
    /// # Errors
    /// When the record is damaged or the store fails.
    pub fn user(&self, user: &UserId) -> Result<Option<UserRecord>, ReadError> {
        self.get(UserKey(user.clone()))
    }

    /// The events of `seqs` that are stored, from one end until `limit` is reached.
    ///
    /// The caller keeps `seqs` to what is kept and visible. A page that begins later than asked, or is empty, means
    /// that events were trimmed meanwhile: read the conversation again. A page ends before a record that
    /// cannot be read.
    ///
    /// # Errors
    /// When the record that it would begin with cannot be read, or one is missing between others.
    pub fn page(
        &self,
        id: ConversationId,
        seqs: RangeInclusive<u64>,
        direction: Direction,
        limit: PageLimit,
    ) -> Result<EventPage, ReadError> {
        if seqs.is_empty() {
            return Ok(EventPage::default());
        }
        let [first, last] = [seqs.start(), seqs.end()].map(|seq| EventRecord::key(&EventKey(id, *seq)));
        let rows = self.inner.snapshot()?;
        let mut records = rows.range(Bound::Included(&first), Bound::Included(&last));
        let mut page = Filling { limit, bytes: 0, events: Vec::new() };
        let next = || match direction {
            Direction::Forward => records.next(),
            Direction::Backward => records.next_back(),
        };
        for record in std::iter::from_fn(next) {
            let (key, value) = match record {
                Ok(record) => record,
                Err(_) if !page.events.is_empty() => break,
                Err(error) => return Err(ReadError::engine(EventRecord::NAME, &first, error)),
            };
            if !page.add(&key, value).map_err(|why| ReadError::damaged(EventRecord::NAME, &key, why))? {
                break;
            }
        }
        Ok(page.finish(direction))
    }

    /// Reads the records that a command needs, and thereby has them in the store's memory when the sequencer looks for them.
    /// What cannot be read is left to the sequencer, which meets it again and says so.
    pub fn warm(&self, keys: &[Key]) {
        for key in keys {
            let _ = self.read(key);
        }
    }

    /// Present members after `after`, at most `limit`. Looks at a bounded number of records, so a page may be
    /// short, even empty, and still name a next one.
    ///
    /// # Errors
    /// When a record is damaged or the store fails.
    pub fn members(&self, id: ConversationId, after: Option<&UserId>, limit: usize) -> Result<Members, ReadError> {
        list::members(&self.inner, id, after, limit)
    }

    /// Devices behind `after` whose send numbers in a conversation were not used since `before`. Looks at about `looks` records,
    /// so a page may be short, even empty, and still name a next one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn expired(&self, after: Option<&SendsKey>, before: Timestamp, looks: usize) -> Result<Expired, ReadError> {
        expired::expired(&self.inner.snapshot()?, after, before, looks)
    }

    /// The user's conversations after `after`, at most `limit`, all as of the same moment.
    ///
    /// # Errors
    /// When a record is damaged or the store fails.
    pub fn list(&self, user: &UserId, after: Option<ConversationId>, limit: usize) -> Result<List, ReadError> {
        list::list(&self.inner, user, after, limit)
    }
}

/// A page on its way.
struct Filling {
    limit: PageLimit,
    bytes: usize,
    events: Vec<(u64, Slice)>,
}

impl Filling {
    /// Adds one more event; false when it does not fit any more.
    fn add(&mut self, key: &[u8], value: Slice) -> Result<bool, String> {
        let seq = EventRecord::seq(key).ok_or("it is no event's key")?;
        let frame = EventRecord::frame_of(&value).map_err(|error| error.to_string())?.len();
        if self.events.len() >= self.limit.events || !self.events.is_empty() && self.bytes + frame > self.limit.bytes {
            return Ok(false);
        }
        if self.events.last().is_some_and(|(before, _)| before.abs_diff(seq) != 1) {
            return Err("the event beside it is missing".to_owned());
        }
        self.bytes += frame;
        self.events.push((seq, value));
        Ok(true)
    }

    fn finish(mut self, direction: Direction) -> EventPage {
        if direction == Direction::Backward {
            self.events.reverse();
        }
        let mut frames = Vec::with_capacity(self.bytes);
        for (_, value) in &self.events {
            frames.extend_from_slice(EventRecord::frame_of(value).unwrap_or_default());
        }
        let seq = |event: Option<&(u64, Slice)>| event.map_or(0, |(seq, _)| *seq);
        let (first, last) = (seq(self.events.first()), seq(self.events.last()));
        EventPage { frames: frames.into(), first, last, count: self.events.len() }
    }
}
