//! Encoding of changes: a tag, which is never reassigned, and the fields in postcard.

use bytes::Bytes;
use quip_protocol::{Blob, ConversationId, DeviceId, UserId};
use serde::{Serialize, de::DeserializeOwned};

use super::{Change, Cursor};

const IDENTITY: u8 = 1;
const QUEUED: u8 = 2;
const SETTLED: u8 = 3;
const OUTBOX: u8 = 4;
const CURSOR: u8 = 5;

/// Whether a change may begin with this byte.
pub(super) fn is_tag(tag: u8) -> bool {
    (IDENTITY..=CURSOR).contains(&tag)
}

/// Encodes changes, one after the other.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    changes.iter().fold(Vec::new(), |out, change| match change {
        Change::Identity(user, device) => put((IDENTITY, user.as_str(), device), out),
        Change::Queued(id, n, frame) => put((QUEUED, id, n, Blob(frame)), out),
        Change::Settled(id, n) => put((SETTLED, id, n), out),
        Change::Outbox(id, last_n, items) => {
            let out = put((OUTBOX, id, last_n, items.len() as u64), out);
            items.iter().fold(out, |out, (n, frame)| put((n, Blob(frame)), out))
        }
        Change::Cursor(id, Cursor { generation, seq, digest }) => put((CURSOR, id, generation, seq, digest), out),
    })
}

/// Decodes changes; `None` if the bytes are not changes.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        changes.push(change(&mut bytes)?);
    }
    Some(changes)
}

fn change(bytes: &mut &[u8]) -> Option<Change> {
    Some(match take::<u8>(bytes)? {
        IDENTITY => Change::Identity(UserId::parse(&take::<String>(bytes)?).ok()?, take::<DeviceId>(bytes)?),
        QUEUED => Change::Queued(take::<ConversationId>(bytes)?, take::<u64>(bytes)?, blob(bytes)?),
        SETTLED => Change::Settled(take::<ConversationId>(bytes)?, take::<u64>(bytes)?),
        OUTBOX => {
            let (id, last_n, count) = take::<(ConversationId, u64, u64)>(bytes)?;
            let items = (0..count).map(|_| Some((take::<u64>(bytes)?, blob(bytes)?))).collect::<Option<_>>()?;
            Change::Outbox(id, last_n, items)
        }
        CURSOR => {
            let (id, generation, seq, digest) = take::<(ConversationId, u64, u64, [u8; 4])>(bytes)?;
            Change::Cursor(id, Cursor { generation, seq, digest })
        }
        _ => return None,
    })
}

fn put<T: Serialize>(value: T, out: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(&value, out).expect("plain data serialises into a Vec")
}

fn take<T: DeserializeOwned>(bytes: &mut &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(value)
}

fn blob(bytes: &mut &[u8]) -> Option<Bytes> {
    let (Blob(value), rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(value))
}
