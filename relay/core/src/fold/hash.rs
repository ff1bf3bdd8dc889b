//! Hashes that are stored: the first 8 bytes of BLAKE3. So what is hashed never gets another encoding.

use quip_protocol::UserId;

use crate::{
    Action,
    codec::Sink,
    command::codec::{JOIN, put_action},
};

/// Of what a command asks for, which tells a repeated send number from a reused one.
///
/// All joins have the same hash, because a returning device may name the conversation in another way.
pub(super) fn action(action: &Action) -> u64 {
    hash(|hasher| match action {
        Action::Join(_) => hasher.put(&[JOIN]),
        other => put_action(other, hasher),
    })
}

/// Of the content of an edit.
pub(super) fn content(body: &[u8]) -> u64 {
    hash(|hasher| hasher.put(body))
}

/// Of a user's reaction to a message.
pub(super) fn reaction(user: &UserId, reaction: &str) -> u64 {
    hash(|hasher| {
        hasher.put_blob(user.as_str().as_bytes());
        hasher.put_blob(reaction.as_bytes());
    })
}

fn hash(put: impl FnOnce(&mut blake3::Hasher)) -> u64 {
    let mut hasher = blake3::Hasher::new();
    put(&mut hasher);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
