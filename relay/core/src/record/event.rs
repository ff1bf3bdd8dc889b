//! One event.
//!
//! Key: slot 2 ‖ conversation 16 ‖ seq 8. Value: user (length, bytes) ‖ device 16 ‖ varint of `n` ‖ frame.

use bytes::Bytes;
use quip_protocol::{ConversationId, DeviceId, UserId};

use super::{
    RecordError,
    kind::{self, Stored, StoredKey, put_conversation, read_conversation, read_u64},
};
use crate::codec::{Malformed, Reader, Sink};

/// Of which conversation, and its seq.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub ConversationId, pub u64);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Who.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The send number; 0 = from the relay.
    pub n: u64,
    /// The `Event` frame as it is sent.
    pub frame: Bytes,
}

impl StoredKey for EventKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
        out.put(&self.1.to_be_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_conversation(from)?, read_u64(from)?))
    }
}

impl EventRecord {
    /// The seq in a key.
    pub fn seq(key: &[u8]) -> Option<u64> {
        let (_, seq) = key.split_at_checked(1 + 2 + 16)?;
        Some(u64::from_be_bytes(seq.try_into().ok()?))
    }

    /// The frame of a stored value, without parsing the rest.
    ///
    /// # Errors
    /// If the version is unknown or the value is malformed.
    pub fn frame_of(bytes: &[u8]) -> Result<&[u8], RecordError> {
        kind::read::<Self, _>(bytes, |from| {
            from.blob()?;
            from.device()?;
            from.varint()?;
            Ok(from.rest())
        })
    }
}

impl Stored for EventRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_blob(self.user.as_str().as_bytes());
        out.put(&self.device.0);
        out.put_varint(self.n);
        out.put(&self.frame);
    }

    /// The frame gets an allocation of its own.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            user: from.user()?,
            device: from.device()?,
            n: from.varint()?,
            frame: Bytes::copy_from_slice(from.rest()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Kind, tests::*},
        *,
    };

    fn event() -> EventRecord {
        EventRecord { user: user("ann"), device: device(0xdd), n: 300, frame: Bytes::from_static(b"frame") }
    }

    #[test]
    fn golden() {
        let key = "020f6703ababababababababababababababab0000000000000102";
        let value = ["01", "03616e6e", &"dd".repeat(16), "ac02", "6672616d65"].concat();
        write_and_read(EventKey(room(), 0x0102), event(), key, &value);
        assert_eq!(EventRecord::frame_of(&event().value()), Ok(&b"frame"[..]));
        let key = EventRecord::key(&EventKey(room(), 0x0102));
        assert_eq!((EventRecord::seq(&key), EventRecord::seq(&key[..26])), (Some(0x0102), None));
        assert!(
            EventRecord::key(&EventKey(room(), 255)) < EventRecord::key(&EventKey(room(), 256)),
            "keys sort by seq"
        );
        // No user is called that.
        assert_malformed::<EventRecord>(&[1, 1, b'\n', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn too_short_a_value_is_damage_and_the_rest_is_the_frame() {
        let bytes = event().value();
        for length in 1..bytes.len() - 5 {
            assert_malformed::<EventRecord>(&bytes[..length]);
            assert!(EventRecord::frame_of(&bytes[..length]).is_err());
        }
        assert!(EventRecord::decode(&[&bytes[..], b"xy"].concat()).is_ok());
    }

    proptest! {
        #[test]
        fn any_comes_back(name in "[a-z]{1,64}", n: u64, frame: Vec<u8>) {
            let record = EventRecord { user: user(&name), n, frame: frame.into(), ..event() };
            prop_assert_eq!(EventRecord::decode(&record.value()), Ok(record));
        }

        #[test]
        fn damaged_bytes_never_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            damage::<EventRecord>(event().value(), at, byte, cut);
        }
    }
}
