//! The edits of a message. With them a deletion finds every copy of the content, and an edit that changes nothing makes no
//! event. A record exists only for a message that was edited and not deleted.
//!
//! Key: slot 2 ‖ conversation 16 ‖ seq of the message 8. Value: varint of the count ‖ 8 bytes of hash of the newest content,
//! little-endian ‖ the edits, oldest first. An edit is varints of the differences of its seq, its message number and its time
//! to the previous edit, none of them negative; varint `n`; a byte, 0 = by the same device as the previous edit, 1 = 16 bytes
//! of device follow.

use quip_protocol::{ConversationId, DeviceId, limit};

use super::kind::{Stored, StoredKey, put_conversation, read_conversation, read_u64};
use crate::{
    Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// Of which conversation, and the seq of the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EditsKey(pub ConversationId, pub u64);

/// The edits of one message, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EditsRecord {
    /// At most [`limit::EDITS`](quip_protocol::limit::EDITS).
    pub edits: Vec<Origin>,
    /// The first 8 bytes of BLAKE3 of the newest edit's content.
    pub content: u64,
}

/// An event without its user and content: the fields that its tombstone keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its seq.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// The device that it came from.
    pub device: DeviceId,
    /// The send number.
    pub n: u64,
}

impl StoredKey for EditsKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
        out.put(&self.1.to_be_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_conversation(from)?, read_u64(from)?))
    }
}

const SAME_DEVICE: u8 = 0;
const OTHER_DEVICE: u8 = 1;

/// The base of the first edit's differences.
const BEFORE: Origin = Origin { seq: 0, number: 0, at: 0, device: DeviceId([0; 16]), n: 0 };

impl Stored for EditsRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.edits.len() as u64);
        out.put(&self.content.to_le_bytes());
        let mut before = BEFORE;
        for edit in &self.edits {
            debug_assert!(edit.seq > before.seq && edit.number >= before.number && edit.at >= before.at, "in order");
            out.put_varint(edit.seq - before.seq);
            out.put_varint(edit.number - before.number);
            out.put_varint(edit.at - before.at);
            out.put_varint(edit.n);
            if edit.device == before.device {
                out.put_u8(SAME_DEVICE);
            } else {
                out.put_u8(OTHER_DEVICE);
                out.put(&edit.device.0);
            }
            before = *edit;
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = usize::try_from(from.varint()?).map_err(|_| Malformed)?;
        if count > limit::EDITS {
            return Err(Malformed);
        }
        let content = u64::from_le_bytes(from.array()?);
        let mut before = BEFORE;
        let mut edits = Vec::with_capacity(count);
        for _ in 0..count {
            before = Origin::read(&before, from)?;
            edits.push(before);
        }
        Ok(Self { edits, content })
    }
}

impl Origin {
    fn read(before: &Self, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut next = |before: u64| before.checked_add(from.varint()?).ok_or(Malformed);
        let (seq, number, at) = (next(before.seq)?, next(before.number)?, next(before.at)?);
        if seq == before.seq {
            return Err(Malformed);
        }
        let n = from.varint()?;
        let device = match from.u8()? {
            SAME_DEVICE => before.device,
            OTHER_DEVICE => from.device()?,
            _ => return Err(Malformed),
        };
        Ok(Self { seq, number, at, device, n })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let at = 1_700_000_000_000;
        let edit = |seq, number, at, of, n| Origin { seq, number, at, device: device(of), n };
        let edits = vec![
            edit(300, 200, at, 0xdd, 9),
            edit(301, 200, at, 0xdd, 10),
            edit(303, 201, at + 200, 0xee, 1),
            edit(304, 201, at + 201, 0xee, 2),
        ];
        let value = [
            "0104",
            "0102030405060708",
            &["ac02", "c801", "80d095ffbc31", "09", "01", &"dd".repeat(16)].concat(),
            "0100000a00",
            &["02", "01", "c801", "01", "01", &"ee".repeat(16)].concat(),
            "0100010200",
        ];
        let key = "030f6703ababababababababababababababab0000000000000102";
        check(EditsKey(room(), 0x0102), EditsRecord { edits, content: 0x0807_0605_0403_0201 }, key, &value.concat());
        // More than there may be; an edit that is not after what it edits; neither the same device nor another.
        for (count, edit) in [(&[201, 1][..], &[][..]), (&[1], &[0, 0, 0, 0, 0]), (&[1], &[9, 0, 0, 0, 2])] {
            assert_malformed::<EditsRecord>(&[&[1], count, &[0; 8], edit].concat());
        }
    }

    proptest! {
        #[test]
        fn any_comes_back(
            edits in prop::collection::vec(
                (1..u64::MAX / 200, 0..u64::MAX / 200, 0..u64::MAX / 200, 0..3u8, any::<u64>()),
                0..=200,
            ),
            content: u64,
        ) {
            let mut last = (0, 0, 0);
            let edits = edits.into_iter().map(|(seq, number, at, of, n)| {
                last = (last.0 + seq, last.1 + number, last.2 + at);
                Origin { seq: last.0, number: last.1, at: last.2, device: device(of), n }
            });
            comes_back(EditsRecord { edits: edits.collect(), content });
        }
    }
}
