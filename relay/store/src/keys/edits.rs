//! `edits`: slot 2 ‖ conversation 16 ‖ seq of the message 8, as in `events`.

use quip_protocol::ConversationId;

pub(crate) fn encode(id: ConversationId, message: u64) -> [u8; super::event::LENGTH] {
    super::event::encode(id, message)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room(), 0x0102);
        assert_eq!(hex(&key), "0f6703ababababababababababababababab0000000000000102");
    }
}
