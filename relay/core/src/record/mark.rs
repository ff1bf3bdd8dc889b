//! How far a user has read a conversation.
//!
//! Key: slot of the user 2 ‖ length of the user id 1 ‖ user id ‖ conversation 16. Value: varints of `seq` and `number`.

use quip_protocol::{ConversationId, UserId};

use super::kind::{Stored, StoredKey, put_user, read_user};
use crate::codec::{Malformed, Reader, Sink};

/// Whose, and in which conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkKey(pub UserId, pub ConversationId);

/// How far a user has read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkRecord {
    /// Read up to this event.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
}

impl StoredKey for MarkKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_user(&self.0, out);
        out.put(&self.1.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_user(from)?, ConversationId(from.array()?)))
    }
}

impl Stored for MarkRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.seq);
        out.put_varint(self.number);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { seq: from.varint()?, number: from.varint()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let key = "0708ff03616e6e03ababababababababababababababab";
        check(MarkKey(user("ann"), room()), MarkRecord { seq: 300, number: 2 }, key, "01ac0202");
        // Over 64 bits.
        assert_malformed::<MarkRecord>(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0]);
    }

    proptest! {
        #[test]
        fn any_comes_back(seq: u64, number: u64) {
            comes_back(MarkRecord { seq, number });
        }
    }
}
