//! What to open and from where.

use quip_protocol::{
    ConversationId, RoomName, UserId, conversation as wire,
    id::{InvalidRoom, InvalidUser},
};

use crate::Cursor;

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Id(ConversationId),
    Direct(UserId),
    Room(Box<str>),
    NewGroup(ConversationId),
}

impl Target {
    /// A conversation by its id, as [`crate::Client::list`] and [`crate::ClientEvent::Changed`] tell it. Opening by id joins
    /// only what exists.
    pub fn id(id: ConversationId) -> Self {
        Self(Kind::Id(id))
    }

    /// The direct conversation with this user; joining creates it.
    ///
    /// # Errors
    /// When it is not a user id.
    pub fn direct(user: &str) -> Result<Self, InvalidUser> {
        UserId::parse(user).map(|user| Self(Kind::Direct(user)))
    }

    /// The room of this name, `namespace:name`; joining creates it if the token allows.
    ///
    /// # Errors
    /// When it is not a room name.
    pub fn room(name: &str) -> Result<Self, InvalidRoom> {
        RoomName::parse(name).map(|name| Self(Kind::Room(name.as_str().into())))
    }

    /// A group with an id drawn now; joining creates it and makes this user its owner.
    #[allow(clippy::disallowed_methods, reason = "no client is there yet; group is for ids from elsewhere")]
    pub fn new_group() -> Self {
        Self::group(rand::random())
    }

    /// The same with an id that the app drew. Joining again with the same id makes no second group.
    pub fn group(drawn: [u8; 15]) -> Self {
        Self(Kind::NewGroup(ConversationId::group(drawn)))
    }

    /// The id of the conversation, as `user` sees it.
    pub fn conversation(&self, user: &UserId) -> ConversationId {
        match &self.0 {
            Kind::Id(id) | Kind::NewGroup(id) => *id,
            Kind::Direct(other) => ConversationId::direct(user, other),
            Kind::Room(name) => ConversationId::room(&room_name(name)),
        }
    }

    pub(crate) fn to_wire(&self) -> wire::Target<'_> {
        match &self.0 {
            Kind::Id(id) => wire::Target::Id(*id),
            Kind::Direct(user) => wire::Target::Direct(user.clone()),
            Kind::Room(name) => wire::Target::Room(room_name(name)),
            Kind::NewGroup(id) => wire::Target::NewGroup(*id),
        }
    }
}

fn room_name(name: &str) -> RoomName<'_> {
    RoomName::parse(name).expect("checked when the target was made")
}

/// Where delivery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After the last event that this device had, as the state store knows it; with what comes next when it knows nothing.
    #[default]
    Cursor,
    /// With what comes next.
    Now,
    /// With the oldest event that is kept.
    Beginning,
    /// With the last so many events.
    Last(u64),
    /// With the event after this seq of the present log.
    After(u64),
    /// After a cursor that the app kept. If the log is another one now, that is said by [`crate::ConversationEvent::Reset`].
    Resume(Cursor),
}

impl Start {
    /// What to ask the relay for.
    pub(crate) fn to_wire(self, saved: Option<Cursor>, generation: u64) -> wire::Start {
        let after = |Cursor { generation, seq }| wire::Start::After { generation, seq };
        match self {
            Self::Cursor => saved.map_or(wire::Start::Now, after),
            Self::Now => wire::Start::Now,
            Self::Beginning => wire::Start::After { generation: 0, seq: 0 },
            Self::Last(count) => wire::Start::Last(count),
            Self::After(seq) => wire::Start::After { generation, seq },
            Self::Resume(cursor) => after(cursor),
        }
    }
}

/// How to open a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Become a member if not one already; creates what may be created.
    pub join: bool,
    /// Where delivery starts.
    pub start: Start,
}

impl OpenOptions {
    /// Joins, and starts at the cursor.
    pub fn join() -> Self {
        Self { join: true, start: Start::Cursor }
    }

    /// Does not join: the user must be, or have been, a member. Starts at the cursor.
    pub fn member() -> Self {
        Self::default()
    }

    /// The same with another start.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }
}

/// What was found when a conversation was opened, last time that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Which.
    pub conversation: ConversationId,
    /// Identity of the log.
    pub generation: u64,
    /// The oldest event that is kept and visible to this user.
    pub first_kept: u64,
    /// The newest event that is visible to this user; 0 = none.
    pub head: u64,
    /// Its message number.
    pub number: u64,
    /// Seq of the first event that was delivered.
    pub start: u64,
    /// One of [`crate::role`]; 0 = no longer a member.
    pub role: u8,
    /// The user's read mark: an event's seq.
    pub read: u64,
    /// The message number at the read mark.
    pub read_number: u64,
    /// Room name, group title, or the other user of a direct conversation.
    pub name: String,
    /// How many members there are.
    pub members: u64,
    /// How many connections of the same relay have it open, this one included.
    pub present: u64,
}

impl Opened {
    /// How many messages were unread.
    pub fn unread(&self) -> u64 {
        self.number.saturating_sub(self.read_number)
    }
}
