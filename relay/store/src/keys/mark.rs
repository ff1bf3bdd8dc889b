//! `marks`: slot of the user 2 ‖ length of the user id 1 ‖ user id ‖ conversation 16, as in `members_by_user`.

use quip_protocol::{ConversationId, UserId};

pub(crate) fn encode(user: &UserId, id: ConversationId) -> Vec<u8> {
    super::membership::encode(user, id)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(&ann(), room());
        assert_eq!(hex(&key), "08ff03616e6e03ababababababababababababababab");
        assert_eq!(super::super::split_user(&key), Some((ann(), &room().0[..])));
    }
}
