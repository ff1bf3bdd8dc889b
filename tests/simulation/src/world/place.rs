//! The conversations of a run, by name.

use quip_client::{OpenOptions, Start, Target};
use quip_protocol::{ConversationId, Kind, UserId};

/// A conversation that apps know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A room, by its name.
    Room(&'static str),
    /// A group, by what its id was drawn as; the first user makes it.
    Group([u8; 15], UserId),
    /// A direct conversation.
    Direct(UserId, UserId),
}

impl Place {
    /// Everything that apps know of. The last user is in no group and has no direct conversation.
    pub(super) fn all(users: &[UserId]) -> Vec<Self> {
        let (_, social) = users.split_last().expect("there are users");
        let rooms = ["open:lobby", "club:den", "quiet:hall", "secret:lair"].map(Self::Room);
        let groups = social.iter().zip(1..).take(2).map(|(owner, drawn)| Self::Group([drawn; 15], owner.clone()));
        let directs = social.windows(2).map(|pair| Self::Direct(pair[0].clone(), pair[1].clone()));
        rooms.into_iter().chain(groups).chain(directs).collect()
    }

    /// Which conversation this is.
    pub(super) fn id(&self) -> ConversationId {
        let anyone = UserId::parse("anyone").expect("a user");
        match self {
            Self::Direct(one, other) => ConversationId::direct(one, other),
            place => place.target(&anyone).expect("rooms and groups are everyone's").conversation(&anyone),
        }
    }

    /// What this user asks for; `None` when it cannot be theirs.
    pub(super) fn target(&self, user: &UserId) -> Option<Target> {
        match self {
            Self::Room(name) => Some(Target::room(name).expect("a room")),
            Self::Group(drawn, owner) if owner == user => Some(Target::group(*drawn)),
            Self::Group(drawn, _) => Some(Target::id(ConversationId::group(*drawn))),
            Self::Direct(one, other) if one == user => Target::direct(other.as_str()).ok(),
            Self::Direct(one, other) if other == user => Target::direct(one.as_str()).ok(),
            Self::Direct(..) => None,
        }
    }

    /// Whether this user may become a member by asking.
    pub(super) fn may_join(&self, user: &UserId) -> bool {
        match self {
            Self::Room(_) => true,
            Self::Group(_, owner) => owner == user,
            Self::Direct(one, other) => one == user || other == user,
        }
    }

    /// What kind of conversation this is.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Room(_) => Kind::Room,
            Self::Group(..) => Kind::Group,
            Self::Direct(..) => Kind::Direct,
        }
    }
}

/// How to open: on from the cursor that is kept, or from the beginning.
pub(super) fn options(join: bool, kept: bool) -> OpenOptions {
    let start = if kept { Start::Cursor } else { Start::Beginning };
    if join { OpenOptions::join().start(start) } else { OpenOptions::member().start(start) }
}
