//! `events`: slot 2 ‖ conversation 16 ‖ seq 8.

use quip_protocol::ConversationId;

pub(super) const LENGTH: usize = super::CONVERSATION + 8;

pub(crate) fn encode(id: ConversationId, seq: u64) -> [u8; LENGTH] {
    let mut key = [0; LENGTH];
    key[..super::CONVERSATION].copy_from_slice(&super::of_conversation(id));
    key[super::CONVERSATION..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The seq of a key of a known conversation.
pub(crate) fn seq(key: &[u8]) -> Option<u64> {
    let (_, seq) = key.split_first_chunk::<{ super::CONVERSATION }>()?;
    Some(u64::from_be_bytes(seq.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room(), 0x0102);
        assert_eq!(hex(&key), "0f6703ababababababababababababababab0000000000000102");
        assert_eq!(seq(&key), Some(0x0102));
        assert_eq!(seq(&key[..25]), None);
        assert!(encode(room(), 255) < encode(room(), 256), "keys sort by seq");
    }
}
