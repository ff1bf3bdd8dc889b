//! What every kind's own tests use. Each golden value is a stored format: it changes only with a new version byte.

use proptest::prelude::*;
use quip_protocol::{ConversationId, DeviceId, UserId};

use super::*;

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

pub(super) fn room() -> ConversationId {
    let mut id = [0xab; 16];
    id[0] = 3;
    ConversationId(id)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record of one part is written as this key and value, and read again.
pub(super) fn write_and_read<K>(key: K::Key, record: K, stored_key: &str, stored_value: &str)
where
    K: Kind + Clone + PartialEq + std::fmt::Debug,
    K::Key: Clone + PartialEq + std::fmt::Debug,
{
    let mut written = Vec::new();
    let write = |key: &[u8], value: &[u8]| written.push((hex(key), hex(value)));
    Into::<Record>::into(record.clone()).encode(&key.clone().into(), 1, write);
    assert_eq!(written, [(stored_key.to_owned(), stored_value.to_owned())]);
    let bytes = K::key(&key);
    assert_eq!((hex(&bytes), bytes[0]), (stored_key.to_owned(), K::NUMBER));
    assert_eq!(Into::<Key>::into(key.clone()).encode(), bytes);
    assert_eq!(K::read_key(&bytes), Some(key));
    for at in [0, 2] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_eq!(K::read_key(&other), None, "another kind or slot is no such key");
    }
    assert_eq!(K::decode(&record.value()), Ok(record));
}

/// As [`write_and_read`], of a value that says itself where it ends.
pub(super) fn check<K>(key: K::Key, record: K, stored_key: &str, stored_value: &str)
where
    K: Kind + Clone + PartialEq + std::fmt::Debug,
    K::Key: Clone + PartialEq + std::fmt::Debug,
{
    check_value(&record, stored_value);
    write_and_read(key, record, stored_key, stored_value);
}

pub(super) fn check_value<K: Kind + PartialEq + std::fmt::Debug>(record: &K, stored: &str) {
    let (kind, bytes) = (K::NAME, record.value());
    assert_eq!(hex(&bytes), stored);
    assert_eq!(K::decode(&bytes).as_ref(), Ok(record));
    for version in [0, 2, 255] {
        let other = [&[version], &bytes[1..]].concat();
        assert_eq!(K::decode(&other), Err(RecordError::UnknownVersion { kind, version }));
    }
    (0..bytes.len()).for_each(|length| assert_malformed::<K>(&bytes[..length]));
    assert_eq!(K::decode(&[&bytes[..], b"xy"].concat()), Err(RecordError::Trailing { kind, left: 2 }));
    let strategy = (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    let damage = |(at, byte, cut)| {
        damage::<K>(bytes.clone(), at, byte, cut);
        Ok(())
    };
    prop::test_runner::TestRunner::default().run(&strategy, damage).unwrap();
}

/// Damaged bytes never panic.
pub(super) fn damage<K: Kind>(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
    let at = at.index(bytes.len());
    bytes[at] = byte;
    bytes.truncate(cut.index(bytes.len() + 1));
    let _ = K::decode(&bytes);
}

pub(super) fn assert_malformed<K: Kind + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    assert_eq!(K::decode(bytes), Err(RecordError::Malformed { kind: K::NAME }), "{bytes:?}");
}

pub(super) fn comes_back<K: Kind + PartialEq + std::fmt::Debug>(record: K) {
    assert_eq!(K::decode(&record.value()), Ok(record));
}
