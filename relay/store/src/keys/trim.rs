//! `local`: `t` ‖ conversation 16 -> version 1 ‖ from 8 ‖ until 8: events that were given up and whose bytes are still
//! to be deleted. Every store does this at its own pace, so it is no part of what follows from the log.

use std::ops::Range;

use quip_protocol::ConversationId;

/// What the keys begin with.
pub(crate) const PREFIX: &[u8] = b"t";
const VERSION: u8 = 1;

pub(crate) fn encode(id: ConversationId) -> [u8; 17] {
    let mut key = [PREFIX[0]; 17];
    key[1..].copy_from_slice(&id.0);
    key
}

/// The conversation of a key.
pub(crate) fn conversation(key: &[u8]) -> Option<ConversationId> {
    key.strip_prefix(PREFIX)?.try_into().ok().map(ConversationId)
}

pub(crate) fn value(seqs: &Range<u64>) -> [u8; 17] {
    let mut value = [VERSION; 17];
    value[1..9].copy_from_slice(&seqs.start.to_be_bytes());
    value[9..].copy_from_slice(&seqs.end.to_be_bytes());
    value
}

/// Reads what [`value`] made.
pub(crate) fn seqs(value: &[u8]) -> Option<Range<u64>> {
    let (from, until) = value.strip_prefix(&[VERSION])?.split_first_chunk::<8>()?;
    Some(u64::from_be_bytes(*from)..u64::from_be_bytes(until.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let (key, value) = (encode(room()), value(&(3..0x104)));
        assert_eq!(hex(&key), "7403ababababababababababababababab");
        assert_eq!(hex(&value), "0100000000000000030000000000000104");
        assert_eq!((conversation(&key), seqs(&value)), (Some(room()), Some(3..0x104)));
        assert_eq!(seqs(&value[..16]), None);
    }
}
