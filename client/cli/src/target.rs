//! TARGET: a conversation on the command line.

use std::{fmt, str::FromStr};

use quip_client::{ConversationId, InvalidName, RoomName, Target, UserId, name};
use thiserror::Error;

/// A conversation as written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetArg {
    /// `lobby:main`
    Room(String),
    /// `@bob`
    Direct(UserId),
    /// `#0203...`, or the same without `#`, which begins a comment in shells.
    Id(ConversationId),
}

/// Why a text is not a TARGET.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidTarget {
    /// After `@`.
    #[error("\"@{0}\": {1}")]
    User(String, InvalidName),
    /// After `#`.
    #[error("\"{0}\" is not a conversation id (32 hex digits that begin with 01, 02 or 03)")]
    Id(String),
    /// Anything else.
    #[error("\"{0}\" is not a room (lobby:main), a user (@bob) or a conversation id (32 hex digits)")]
    Room(String),
}

impl TargetArg {
    /// The same for the library.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Room(name) => Target::room(name).expect("checked when it was read"),
            Self::Direct(user) => Target::user(user.clone()),
            Self::Id(id) => Target::id(*id),
        }
    }
}

impl FromStr for TargetArg {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(user) = text.strip_prefix('@') {
            return name::user(user).map(Self::Direct).map_err(|error| InvalidTarget::User(user.to_owned(), error));
        }
        if let Some(digits) = text.strip_prefix('#') {
            return id(digits).map(Self::Id).ok_or_else(|| InvalidTarget::Id(text.to_owned()));
        }
        match (RoomName::parse(text), id(text)) {
            (Ok(name), _) => Ok(Self::Room(name.as_str().to_owned())),
            (_, Some(id)) => Ok(Self::Id(id)),
            _ => Err(InvalidTarget::Room(text.to_owned())),
        }
    }
}

impl fmt::Display for TargetArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(name) => f.write_str(name),
            Self::Direct(user) => write!(f, "@{user}"),
            Self::Id(id) => write!(f, "#{id}"),
        }
    }
}

/// Fills `bytes` from twice as many hex digits; returns false for any other text.
fn decode_hex(digits: &str, bytes: &mut [u8]) -> bool {
    let digit = |byte: u8| (byte as char).to_digit(16);
    if digits.len() != bytes.len() * 2 {
        return false;
    }
    bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
        (Some(high), Some(low)) => {
            *byte = (high << 4 | low) as u8;
            true
        }
        _ => false,
    })
}

fn id(digits: &str) -> Option<ConversationId> {
    let mut bytes = [0; 16];
    let id = decode_hex(digits, &mut bytes).then_some(ConversationId(bytes))?;
    id.kind().map(|_| id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_kind_has_its_own_form() {
        assert_eq!("lobby:main".parse(), Ok(TargetArg::Room("lobby:main".to_owned())));
        assert_eq!("@bob smith".parse(), Ok(TargetArg::Direct(UserId::parse("bob smith").unwrap())));
        assert_eq!("@A\u{308}nnchen".parse(), "@\u{c4}nnchen".parse::<TargetArg>());
        let id = TargetArg::Id(ConversationId::group([0xab; 15]));
        let digits = format!("02{}", "ab".repeat(15));
        assert_eq!(digits.parse(), Ok(id.clone()));
        assert_eq!(format!("#{digits}").parse(), Ok(id.clone()));
        assert_eq!(id.to_string(), format!("#{digits}"));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["lobby", "Lobby:Main", "@", "@bob ", "#", "#12", "", "a:b:c", &format!("#07{}", "ab".repeat(15))] {
            assert!(bad.parse::<TargetArg>().is_err(), "{bad}");
        }
    }
}
