//! What to open, and where to start.

use quip_protocol::{ConversationId, RoomName, UserId, conversation as wire, id::InvalidRoom};

use crate::{Cursor, InvalidName, name};

/// A conversation to open.
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
    /// A conversation by id, as in [`crate::Client::list`] and [`crate::ClientEvent::Changed`]. Joining by id does not create
    /// the conversation.
    pub fn id(id: ConversationId) -> Self {
        Self(Kind::Id(id))
    }

    /// The direct conversation with the user of this name, as a person typed it; joining creates it. The name is normalised
    /// to Unicode's NFC.
    ///
    /// # Errors
    /// If `name` cannot be that of a user.
    pub fn direct(name: &str) -> Result<Self, InvalidName> {
        name::user(name).map(Self::user)
    }

    /// The direct conversation with this user, as the relay names them.
    pub fn user(user: UserId) -> Self {
        Self(Kind::Direct(user))
    }

    /// The room `namespace:name`; joining creates it if the token allows. Names of rooms are ASCII, in one form.
    ///
    /// # Errors
    /// If `name` is not a room name.
    pub fn room(name: &str) -> Result<Self, InvalidRoom> {
        RoomName::parse(name).map(|name| Self(Kind::Room(name.as_str().into())))
    }

    /// A new group with a random id; joining creates it and makes this user its owner.
    #[allow(clippy::disallowed_methods, reason = "there is no client yet; `group` takes an id from elsewhere")]
    pub fn new_group() -> Self {
        Self::group(rand::random())
    }

    /// The same with an id that the app drew. Joining again with the same id makes no second group.
    pub fn group(drawn: [u8; 15]) -> Self {
        Self(Kind::NewGroup(ConversationId::group(drawn)))
    }

    /// The id of the conversation for `user`.
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
    /// After the last event that this device took, according to the state store; if that has none, as [`Start::Now`].
    #[default]
    Cursor,
    /// With new events only.
    Now,
    /// With the oldest stored event.
    Beginning,
    /// With this many of the newest events.
    Last(u64),
    /// With the event after this seq of the current log.
    After(u64),
    /// After a cursor that the app stored. If the log was replaced, [`crate::ConversationEvent::Reset`] is delivered first.
    Resume(Cursor),
}

impl Start {
    /// The cursor that it stands for, or else the start on the wire.
    pub(crate) fn cursor(self, saved: Option<Cursor>, generation: u64) -> Result<Cursor, wire::Start> {
        match self {
            Self::Cursor => saved.ok_or(wire::Start::Now),
            Self::Now => Err(wire::Start::Now),
            Self::Beginning => Ok(Cursor { generation: 0, seq: 0, digest: [0; 4] }),
            Self::Last(count) => Err(wire::Start::Last(count)),
            Self::After(seq) => Ok(Cursor { generation, seq, digest: [0; 4] }),
            Self::Resume(cursor) => Ok(cursor),
        }
    }
}

/// How to open a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Whether to join, if not a member already, and to create the conversation if allowed.
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

    /// Sets where delivery starts.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }
}

/// What the relay reported at the latest (re)opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The conversation.
    pub conversation: ConversationId,
    /// Generation of the log.
    pub generation: u64,
    /// Seq of the oldest event that is stored and visible to this user.
    pub first_kept: u64,
    /// Seq of the newest event visible to this user; 0 = none.
    pub head: u64,
    /// Its message number.
    pub number: u64,
    /// Seq of the first delivered event.
    pub start: u64,
    /// One of [`crate::role`]; 0 = not a member.
    pub role: u8,
    /// The user's read mark: seq of the last read event.
    pub read: u64,
    /// How many of the `number` messages are not unread, as in [`crate::Entry`].
    pub read_number: u64,
    /// Room name, group title, or the other user of a direct conversation.
    pub name: String,
    /// Number of members.
    pub members: u64,
    /// Number of connections to the same relay that have it open, this one included.
    pub present: u64,
}

impl Opened {
    /// How many messages were unread.
    pub fn unread(&self) -> u64 {
        self.number.saturating_sub(self.read_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_name_is_normalised_and_one_from_the_relay_is_not() {
        let decomposed = "A\u{308}nnchen";
        let me = UserId::parse("me").expect("a user");
        let conversation = |name| ConversationId::direct(&me, &UserId::parse(name).expect("a user"));
        assert_eq!(Target::direct(decomposed).expect("a name").conversation(&me), conversation("\u{c4}nnchen"));
        let user = UserId::parse(decomposed).expect("a user");
        assert_eq!(Target::user(user).conversation(&me), conversation(decomposed));
        assert_eq!(Target::direct("bob "), Err(InvalidName::Blank));
        for room in [" lobby:main", "lobby:main ", "lobby:ma\u{131}n", "lobby:a\u{308}"] {
            assert!(Target::room(room).is_err(), "{room}");
        }
    }
}
