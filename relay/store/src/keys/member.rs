//! `members`: slot 2 ‖ conversation 16 ‖ user id.

use quip_protocol::{ConversationId, UserId};

pub(crate) fn encode(id: ConversationId, user: &UserId) -> Vec<u8> {
    [&prefix(id)[..], user.as_str().as_bytes()].concat()
}

/// What the keys of a conversation's members begin with.
pub(crate) fn prefix(id: ConversationId) -> [u8; super::CONVERSATION] {
    super::of_conversation(id)
}

/// The user of a key.
pub(crate) fn user(key: &[u8]) -> Option<UserId> {
    let (_, user) = super::split_conversation(key)?;
    UserId::parse(std::str::from_utf8(user).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room(), &ann());
        assert_eq!(hex(&key), "0f6703ababababababababababababababab616e6e");
        assert_eq!(user(&key), Some(ann()));
        assert_eq!(user(&prefix(room())), None);
    }
}
