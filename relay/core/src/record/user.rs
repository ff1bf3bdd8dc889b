//! What is known of a user apart from conversations.
//!
//! Key: slot of the user 2 ‖ length of the user id 1 ‖ user id. Value: varint of `seen`.

use quip_protocol::UserId;

use super::kind::{Stored, StoredKey, put_user, read_user};
use crate::{
    Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// Who.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey(pub UserId);

/// What is known of a user apart from conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserRecord {
    /// When a relay last heard from them, as far as it was recorded; 0 = never.
    pub seen: Timestamp,
}

impl StoredKey for UserKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_user(&self.0, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        read_user(from).map(Self)
    }
}

impl Stored for UserRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.seen);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { seen: from.varint()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        check(UserKey(user("ann")), UserRecord { seen: 1_700_000_000_000 }, "0808ff03616e6e", "0180d095ffbc31");
    }

    proptest! {
        #[test]
        fn any_comes_back(seen: u64) {
            comes_back(UserRecord { seen });
        }
    }
}
