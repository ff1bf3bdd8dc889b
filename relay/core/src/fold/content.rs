//! What a command asks for, as bytes: by its hash a repeated number is told from a reused one.

use crate::{Action, codec::Sink, command::codec::put_action};

/// The first 8 bytes of BLAKE3 of the action, which are stored: what is hashed for an action is fixed for ever.
///
/// All joins count as the same: a device that comes back may know the conversation by another name.
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
