//! Hashes that are stored: the first 8 bytes of BLAKE3. So what is hashed never gets another encoding.

use quip_protocol::{
    UserId,
    conversation::{Add, Delete, Edit, Leave, Open, Post, React, Remove, SetRole, SetTitle},
    frame::Message,
};

use crate::{Action, codec::Sink, command::codec::put_fields, record};

/// Of what a device's command asks for, which tells a repeated send number from a reused one. It begins with the
/// [`quip_protocol::conversation::check`] of the message.
pub(super) fn action(action: &Action) -> u64 {
    hash(|hasher| {
        hasher.put_varint(message(action));
        if !matches!(action, Action::Join(_)) {
            put_fields(action, hasher);
        }
    })
}

/// The type of the message that a device sends; 0 for what is not numbered.
fn message(action: &Action) -> u64 {
    match action {
        Action::Join(_) => Open::TYPE,
        Action::Post { .. } => Post::TYPE,
        Action::Edit { .. } => Edit::TYPE,
        Action::Delete { .. } => Delete::TYPE,
        Action::React { .. } => React::TYPE,
        Action::Leave => Leave::TYPE,
        Action::Add { .. } => Add::TYPE,
        Action::Remove { .. } => Remove::TYPE,
        Action::SetRole { .. } => SetRole::TYPE,
        Action::SetTitle { .. } => SetTitle::TYPE,
        Action::Mark { .. }
        | Action::SetPolicy { .. }
        | Action::Trim { .. }
        | Action::Forget { .. }
        | Action::Seen { .. } => 0,
    }
}

/// The [`quip_protocol::conversation::check`] of a device's command.
pub fn check(command: &Action) -> [u8; 4] {
    record::check(action(command))
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
