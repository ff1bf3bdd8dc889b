//! The traits and encodings shared by all kinds of records.

use quip_protocol::{ConversationId, UserId};

use super::{Key, Record, RecordError, SLOTS};
use crate::codec::{Malformed, Reader, Sink};

/// A kind of record.
pub trait Kind: Stored + Into<Record> + Sized {
    /// The key of its records.
    type Key: StoredKey + Into<Key>;
    /// The first byte of its keys; fixed for ever.
    const NUMBER: u8;
    /// Its name in messages.
    const NAME: &'static str;

    /// The record, if it is of this kind.
    fn of(record: Record) -> Option<Self>;

    /// A key as it is stored; with [`Stored::PARTS`] the prefix of the keys of its parts.
    fn key(key: &Self::Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.put_u8(Self::NUMBER);
        key.put(&mut out);
        out
    }

    /// Parses what [`Self::key`] returned.
    fn read_key(bytes: &[u8]) -> Option<Self::Key> {
        let mut from = Reader::new(bytes);
        let key = (from.u8() == Ok(Self::NUMBER)).then(|| Self::Key::read(&mut from).ok())??;
        (from.left() == 0).then_some(key)
    }

    /// Every key that the record of a key may be stored under.
    fn stored_keys(key: &Self::Key) -> Vec<Vec<u8>> {
        let key = Self::key(key);
        match Self::PARTS {
            0 => vec![key],
            parts => (0..parts).map(|part| [&key[..], &[part]].concat()).collect(),
        }
    }

    /// Encodes the record. `changes` is the number of commands that changed it since it was last written.
    fn encode(&self, key: &Self::Key, changes: u64, write: &mut impl FnMut(&[u8], &[u8])) {
        let mut key = Self::key(key);
        self.parts(changes, |part, value| match part {
            None => write(&key, value),
            Some(Part(part)) => {
                key.push(part);
                write(&key, value);
                key.pop();
            }
        });
    }

    /// The value of a record of one part.
    fn value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.put_u8(VERSION);
        self.put(&mut out);
        out
    }

    /// Reads a value, or one of its parts.
    ///
    /// # Errors
    /// If the version is unknown or the value is malformed.
    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        read::<Self, _>(bytes, Self::read)
    }
}

/// The number of a part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part(pub u8);

/// The bytes of a value.
pub trait Stored: Sized {
    /// In how many places its parts are stored, which are read and written separately; 0 = it is stored whole.
    const PARTS: u8 = 0;

    #[doc(hidden)]
    fn put(&self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Encodes the values to write.
    fn parts(&self, _changes: u64, mut write: impl FnMut(Option<Part>, &[u8]))
    where
        Self: Kind,
    {
        write(None, &self.value());
    }

    /// Puts stored parts together, in any order.
    fn join(mut parts: Vec<Self>) -> Option<Self> {
        let part = parts.pop();
        part.filter(|_| parts.is_empty())
    }
}

/// The bytes of a key behind its kind.
pub trait StoredKey: Sized {
    #[doc(hidden)]
    fn put(&self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// The version of every value, in its first byte.
pub(super) const VERSION: u8 = 1;

/// Reads a versioned value, which must have no bytes left over.
pub(super) fn read<'a, K: Kind, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, RecordError> {
    let (kind, mut from) = (K::NAME, Reader::new(bytes));
    let malformed = |_| RecordError::Malformed { kind };
    match from.u8().map_err(malformed)? {
        VERSION => {}
        version => return Err(RecordError::UnknownVersion { kind, version }),
    }
    let value = read(&mut from).map_err(malformed)?;
    match from.left() {
        0 => Ok(value),
        left => Err(RecordError::Trailing { kind, left }),
    }
}

/// Reads a record from its value or the values of its parts; `None` if there are none.
pub(super) fn join<K: Kind>(values: &[impl AsRef<[u8]>]) -> Result<Option<K>, RecordError> {
    if values.is_empty() {
        return Ok(None);
    }
    let parts = values.iter().map(|value| K::decode(value.as_ref())).collect::<Result<_, _>>()?;
    K::join(parts).map(Some).ok_or(RecordError::Parts { kind: K::NAME })
}

/// slot 2 ‖ conversation 16.
pub(super) fn put_conversation(id: ConversationId, out: &mut Vec<u8>) {
    out.put(&slot(&id.0));
    out.put(&id.0);
}

pub(super) fn read_conversation(from: &mut Reader<'_>) -> Result<ConversationId, Malformed> {
    let found: [u8; 2] = from.array()?;
    let id: [u8; 16] = from.array()?;
    if found == slot(&id) { Ok(ConversationId(id)) } else { Err(Malformed) }
}

/// slot 2 ‖ length of the user id 1 ‖ user id.
pub(super) fn put_user(user: &UserId, out: &mut Vec<u8>) {
    out.put(&slot(user.as_str().as_bytes()));
    put_short_user(user, out);
}

pub(super) fn read_user(from: &mut Reader<'_>) -> Result<UserId, Malformed> {
    let found: [u8; 2] = from.array()?;
    let user = read_short_user(from)?;
    if found == slot(user.as_str().as_bytes()) { Ok(user) } else { Err(Malformed) }
}

/// length of the user id 1 ‖ user id.
pub(super) fn put_short_user(user: &UserId, out: &mut Vec<u8>) {
    let user = user.as_str().as_bytes();
    out.put_u8(user.len() as u8);
    out.put(user);
}

pub(super) fn read_short_user(from: &mut Reader<'_>) -> Result<UserId, Malformed> {
    let length = from.u8()?;
    parse_user(from.take(usize::from(length))?)
}

pub(super) fn parse_user(bytes: &[u8]) -> Result<UserId, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    UserId::parse(text).map_err(|_| Malformed)
}

pub(super) fn read_u64(from: &mut Reader<'_>) -> Result<u64, Malformed> {
    from.array().map(u64::from_be_bytes)
}

fn slot(of: &[u8]) -> [u8; 2] {
    let hash = blake3::hash(of);
    let [first, second, ..] = *hash.as_bytes();
    (u16::from_be_bytes([first, second]) % SLOTS).to_be_bytes()
}

/// The first key behind all that begin with `prefix`, which begins with a kind and so never is all ones.
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_is_the_next_prefix() {
        assert_eq!(behind(&[1, 2]), [1, 3]);
        assert_eq!(behind(&[1, 0xff, 0xff]), [2]);
    }

    #[test]
    fn slots_are_in_range_and_spread() {
        let slots: std::collections::HashSet<_> = (0..10_000u32).map(|i| slot(&i.to_be_bytes())).collect();
        assert!(slots.iter().all(|slot| u16::from_be_bytes(*slot) < SLOTS));
        assert!(slots.len() > 3_500, "{} of {SLOTS}", slots.len());
    }
}
