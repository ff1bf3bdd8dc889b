//! `conversations`: slot 2 ‖ conversation 16.

use quip_protocol::ConversationId;

pub(crate) fn encode(id: ConversationId) -> [u8; super::CONVERSATION] {
    super::of_conversation(id)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room());
        assert_eq!(hex(&key), "0f6703ababababababababababababababab");
        assert_eq!(super::super::split_conversation(&key), Some((room(), &[][..])));
    }
}
