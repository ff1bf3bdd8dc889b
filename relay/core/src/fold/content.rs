//! The hash of a command's content, which tells a repeated send number from a reused one.

use crate::{Action, codec::Sink, command::codec::put_action};

/// The first 8 bytes of BLAKE3 of the encoded action. The hash is stored, so the encoding of an action never changes.
///
/// All joins have the same hash, because a returning device may name the conversation in another way.
pub(super) fn hash(action: &Action) -> u64 {
    let mut hasher = blake3::Hasher::new();
    match action {
        Action::Join(_) => hasher.put(&[crate::command::codec::JOIN]),
        other => put_action(other, &mut hasher),
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
