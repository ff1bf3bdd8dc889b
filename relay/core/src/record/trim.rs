//! Trimmed events whose bytes are still to be deleted. Every store deletes them at its own pace, so this is not part of the
//! state that follows from the log.
//!
//! Key: slot 2 ‖ conversation 16. Value: varints of `from` and `until`.

use quip_protocol::ConversationId;

use super::kind::{Kind, Stored, StoredKey, put_conversation, read_conversation};
use crate::codec::{Malformed, Reader, Sink};

/// Of which conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrimKey(pub ConversationId);

/// Events to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimRecord {
    /// The first one.
    pub from: u64,
    /// The first one that is kept.
    pub until: u64,
}

impl StoredKey for TrimKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        read_conversation(from).map(Self)
    }
}

impl TrimRecord {
    /// The prefix of all keys of this kind.
    pub const PREFIX: &[u8] = &[Self::NUMBER];
}

impl Stored for TrimRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.from);
        out.put_varint(self.until);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { from: from.varint()?, until: from.varint()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let trim = TrimRecord { from: 3, until: 300 };
        check(TrimKey(room()), trim, "800f6703ababababababababababababababab", "0103ac02");
    }

    proptest! {
        #[test]
        fn any_comes_back(from: u64, until: u64) {
            comes_back(TrimRecord { from, until });
        }
    }
}
