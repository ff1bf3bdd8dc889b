//! `members_by_user`: slot of the user 2 ‖ length of the user id 1 ‖ user id ‖ conversation 16.
//!
//! There is one for each present membership. It follows the member row and is written together with it.

use quip_protocol::{ConversationId, UserId};

pub(crate) fn encode(user: &UserId, id: ConversationId) -> Vec<u8> {
    let mut key = super::of_user(user, id.0.len());
    key.extend_from_slice(&id.0);
    key
}

/// What the keys of a user's memberships begin with.
pub(crate) fn prefix(user: &UserId) -> Vec<u8> {
    super::of_user(user, 0)
}

/// The conversation of a key.
pub(crate) fn conversation(key: &[u8]) -> Option<ConversationId> {
    let (_, id) = super::split_user(key)?;
    id.try_into().ok().map(ConversationId)
}

/// The value: version 1 ‖ role 1.
pub(crate) fn value(role: u8) -> [u8; 2] {
    [1, role]
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(&ann(), room());
        assert_eq!(hex(&key), "08ff03616e6e03ababababababababababababababab");
        assert_eq!(conversation(&key), Some(room()));
        assert_eq!(conversation(&prefix(&ann())), None);
        assert_eq!(value(3), [1, 3]);
    }

    #[test]
    fn a_longer_user_id_is_not_in_range() {
        let annie = UserId::parse("annie").unwrap();
        assert!(!encode(&annie, room()).starts_with(&prefix(&ann())));
    }
}
