//! The keys of every record, fixed for ever. Numbers are big-endian, so that keys sort by them.
//!
//! Every key that follows from the log begins with its **slot**: u16 = the first two bytes of BLAKE3 of the
//! conversation id (or of the user id, for records of a user) as a big-endian number, modulo [`SLOTS`]. A slot is what
//! can later be dumped or given to another partition by itself.

pub(crate) mod conversation;
pub(crate) mod edits;
pub(crate) mod event;
pub(crate) mod mark;
pub(crate) mod member;
pub(crate) mod membership;
pub(crate) mod meta;
pub(crate) mod sends;
pub(crate) mod trim;
pub(crate) mod user;

use quip_protocol::{ConversationId, UserId};

/// How many slots there are.
const SLOTS: u16 = 4096;
/// Bytes of slot and conversation.
const CONVERSATION: usize = 18;

/// slot 2 ‖ conversation 16.
fn of_conversation(id: ConversationId) -> [u8; CONVERSATION] {
    let mut key = [0; CONVERSATION];
    key[..2].copy_from_slice(&slot(&id.0));
    key[2..].copy_from_slice(&id.0);
    key
}

/// slot 2 ‖ length of the user id 1 ‖ user id.
fn of_user(user: &UserId, room: usize) -> Vec<u8> {
    let user = user.as_str().as_bytes();
    let mut key = Vec::with_capacity(3 + user.len() + room);
    key.extend_from_slice(&slot(user));
    key.push(user.len() as u8);
    key.extend_from_slice(user);
    key
}

/// Reads slot and conversation, and returns what follows.
fn split_conversation(key: &[u8]) -> Option<(ConversationId, &[u8])> {
    let (head, rest) = key.split_first_chunk::<CONVERSATION>()?;
    let (slot_bytes, id) = head.split_first_chunk::<2>()?;
    let id = ConversationId(id.try_into().ok()?);
    (*slot_bytes == slot(&id.0)).then_some((id, rest))
}

/// Reads slot and user, and returns what follows.
fn split_user(key: &[u8]) -> Option<(UserId, &[u8])> {
    let (slot_bytes, rest) = key.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first()?;
    let (user, rest) = rest.split_at_checked(usize::from(*length))?;
    let id = UserId::parse(std::str::from_utf8(user).ok()?).ok()?;
    (*slot_bytes == slot(user)).then_some((id, rest))
}

fn slot(of: &[u8]) -> [u8; 2] {
    let hash = blake3::hash(of);
    let [first, second, ..] = *hash.as_bytes();
    (u16::from_be_bytes([first, second]) % SLOTS).to_be_bytes()
}

/// The first key behind all that begin with `prefix`, which begins with a slot and so never is all ones.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn room() -> ConversationId {
        let mut id = [0xab; 16];
        id[0] = 3;
        ConversationId(id)
    }

    pub(crate) fn ann() -> UserId {
        UserId::parse("ann").unwrap()
    }

    pub(crate) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

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

    #[test]
    fn another_slot_is_no_key() {
        let mut key = of_conversation(room());
        assert!(split_conversation(&key).is_some());
        key[1] ^= 1;
        assert!(split_conversation(&key).is_none());
        let mut key = of_user(&ann(), 0);
        assert!(split_user(&key).is_some());
        key[1] ^= 1;
        assert!(split_user(&key).is_none());
    }
}
