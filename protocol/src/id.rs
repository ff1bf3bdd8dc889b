//! Names of users, devices, rooms and conversations.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limit;

/// A user id: 1 to 64 bytes of UTF-8 without control characters, compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

/// Why a text is not a user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a user id has 1 to 64 bytes of UTF-8 without control characters")]
pub struct InvalidUser;

impl UserId {
    /// Parses a user id.
    ///
    /// # Errors
    /// If it is empty, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidUser> {
        let fits = (1..=limit::USER).contains(&text.len());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(InvalidUser) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

sixteen_bytes! {
    /// A device, scoped to its user: random bytes that a client stores with its outbox.
    DeviceId
}
sixteen_bytes! {
    /// One start of a client process: random, never stored.
    InstanceId
}
sixteen_bytes! {
    /// A conversation. The first byte is its [`Kind`].
    ConversationId
}

/// What a conversation is. The number is the first byte of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Two users.
    Direct = 1,
    /// Members with roles, by invitation.
    Group = 2,
    /// A named place that anyone with the grant may join.
    Room = 3,
}

impl ConversationId {
    /// The direct conversation of two users (or of a user with itself), in either order.
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (first, second) = if a.as_str().as_bytes() <= b.as_str().as_bytes() { (a, b) } else { (b, a) };
        Self::derived(Kind::Direct, &[first.as_str(), second.as_str()])
    }

    /// The room of that name.
    pub fn room(name: &RoomName<'_>) -> Self {
        Self::derived(Kind::Room, &[name.as_str()])
    }

    /// A group, from 15 random bytes of its creator.
    pub fn group(random: [u8; 15]) -> Self {
        let mut id = [Kind::Group as u8; 16];
        id[1..].copy_from_slice(&random);
        Self(id)
    }

    /// The kind, or `None` for a first byte that is not assigned.
    pub fn kind(&self) -> Option<Kind> {
        match self.0[0] {
            1 => Some(Kind::Direct),
            2 => Some(Kind::Group),
            3 => Some(Kind::Room),
            _ => None,
        }
    }

    fn derived(kind: Kind, parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind as u8]);
        for part in parts {
            hasher.update(&[part.len() as u8]).update(part.as_bytes());
        }
        let mut id = [kind as u8; 16];
        id[1..].copy_from_slice(&hasher.finalize().as_bytes()[..15]);
        Self(id)
    }
}

/// A room's name, `namespace:name`; each part is `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomName<'a>(&'a str);

/// Why a text is not a room name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a room is namespace:name, each part 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit (try lobby:main)"
)]
pub struct InvalidRoom;

impl<'a> RoomName<'a> {
    /// Parses a name.
    ///
    /// # Errors
    /// If it does not have exactly two parts of the allowed characters.
    pub fn parse(text: &'a str) -> Result<Self, InvalidRoom> {
        match text.split_once(':') {
            Some((namespace, name)) if is_part(namespace) && is_part(name) => Ok(Self(text)),
            _ => Err(InvalidRoom),
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The part before the colon.
    pub fn namespace(&self) -> &'a str {
        self.0.split_once(':').map_or(self.0, |(namespace, _)| namespace)
    }
}

fn is_part(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=limit::ROOM_PART).contains(&part.len())
        && alphanumeric(part.as_bytes()[0])
        && part.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte))
}
