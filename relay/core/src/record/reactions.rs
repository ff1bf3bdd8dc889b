//! The reactions to a message. With them a reaction that changes nothing makes no event. A record exists only for a message
//! that has reactions and is not deleted.
//!
//! Key: slot 2 ‖ conversation 16 ‖ seq of the message 8. Value: varint of the count ‖ 8 bytes of hash for each,
//! little-endian, in ascending order of the numbers that they are.

use quip_protocol::ConversationId;

use super::kind::{Stored, StoredKey, put_conversation, read_conversation, read_u64};
use crate::codec::{Malformed, Reader, Sink};

/// Of which conversation, and the seq of the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReactionsKey(pub ConversationId, pub u64);

/// The reactions to one message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReactionsRecord {
    /// The first 8 bytes of BLAKE3 of user and reaction, each after its length; in ascending order, at most [`Self::MOST`].
    pub hashes: Vec<u64>,
}

impl ReactionsRecord {
    /// Reactions that are noted of one message. Each reaction rewrites the record, which is 2 KiB long then.
    pub const MOST: usize = 256;

    /// Whether it takes no more, after which it says nothing: others may be there too.
    pub fn is_full(&self) -> bool {
        self.hashes.len() >= Self::MOST
    }

    /// Whether a reaction is noted.
    pub fn has(&self, hash: u64) -> bool {
        self.hashes.binary_search(&hash).is_ok()
    }

    /// Adds or removes one.
    pub fn set(&mut self, hash: u64, is_there: bool) {
        match (self.hashes.binary_search(&hash), is_there) {
            (Err(at), true) => self.hashes.insert(at, hash),
            (Ok(at), false) => _ = self.hashes.remove(at),
            _ => {}
        }
    }
}

impl StoredKey for ReactionsKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
        out.put(&self.1.to_be_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_conversation(from)?, read_u64(from)?))
    }
}

impl Stored for ReactionsRecord {
    fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.hashes.len() <= Self::MOST && self.hashes.is_sorted(), "as it is read");
        out.put_varint(self.hashes.len() as u64);
        self.hashes.iter().for_each(|hash| out.put(&hash.to_le_bytes()));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = usize::try_from(from.varint()?).map_err(|_| Malformed)?;
        if count > Self::MOST {
            return Err(Malformed);
        }
        let hashes = (0..count).map(|_| from.array().map(u64::from_le_bytes)).collect::<Result<Vec<_>, _>>()?;
        if hashes.is_sorted_by(|a, b| a < b) { Ok(Self { hashes }) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let reactions = ReactionsRecord { hashes: vec![1, 0x0807_0605_0403_0201, u64::MAX] };
        let value = ["0103", "0100000000000000", "0102030405060708", "ffffffffffffffff"].concat();
        let key = "090f6703ababababababababababababababab0000000000000102";
        check(ReactionsKey(room(), 0x0102), reactions, key, &value);
        // More than there may be; one that is there twice.
        assert_malformed::<ReactionsRecord>(&[&[1, 0x81, 2][..], &[0; 257 * 8]].concat());
        assert_malformed::<ReactionsRecord>(&[&[1, 2][..], &[7; 16]].concat());
    }

    proptest! {
        #[test]
        fn any_comes_back(hashes in prop::collection::btree_set(any::<u64>(), 0..=ReactionsRecord::MOST)) {
            comes_back(ReactionsRecord { hashes: hashes.into_iter().collect() });
        }

        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0..20u64, any::<bool>()), 0..100)) {
            let (mut record, mut set) = (ReactionsRecord::default(), std::collections::BTreeSet::new());
            for (hash, is_there) in steps {
                prop_assert_eq!(record.has(hash), set.contains(&hash));
                record.set(hash, is_there);
                if is_there { set.insert(hash) } else { set.remove(&hash) };
                prop_assert!(record.hashes.iter().eq(&set));
            }
        }
    }
}
