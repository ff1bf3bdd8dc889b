//! Commands as frames, as they are stored and sent.

use bytes::Bytes;
use quip_protocol::{
    Blob, ToRelay,
    conversation::{
        self, Add, Delete, Edit, JOIN_CHECK, Leave, Open, Post, React, Remove, SetRole, SetTitle, Start, Target,
    },
    event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, kind},
    frame::{self, Message, to_bytes},
    grease,
};
use serde::Serialize;

/// The join of a conversation as a command to store.
pub(super) fn join(target: &Target<'_>, n: u64) -> Bytes {
    to_bytes(&Open::new(target, n, Start::Now))
}

/// Whether a command is a join, which travels in `Open`.
pub(super) fn is_join(command: &[u8]) -> bool {
    matches!(decode(command), Some(ToRelay::Open(_)))
}

/// Tells a command from another one with its number; `None` if it is not a command.
pub(super) fn check(command: &[u8]) -> Option<[u8; 4]> {
    if is_join(command) {
        return Some(JOIN_CHECK);
    }
    let (frame, _) = frame::split(command, quip_protocol::limit::FRAME).ok()??;
    let (_n, fields) = postcard::take_from_bytes::<u64>(frame.body).ok()?;
    Some(conversation::check(frame.kind, fields))
}

/// The same command with another number; `None` if it is not a command.
pub(super) fn renumber(command: &[u8], n: u64) -> Option<Bytes> {
    Some(match decode(command)? {
        ToRelay::Open(open) => join(&open.target().ok()?, n),
        ToRelay::Post(message) => to_bytes(&Post { n, ..message }),
        ToRelay::Edit(message) => to_bytes(&Edit { n, ..message }),
        ToRelay::Delete(message) => to_bytes(&Delete { n, ..message }),
        ToRelay::React(message) => to_bytes(&React { n, ..message }),
        ToRelay::Leave(_) => to_bytes(&Leave { n }),
        ToRelay::Add(message) => to_bytes(&Add { n, ..message }),
        ToRelay::Remove(message) => to_bytes(&Remove { n, ..message }),
        ToRelay::SetRole(message) => to_bytes(&SetRole { n, ..message }),
        ToRelay::SetTitle(message) => to_bytes(&SetTitle { n, ..message }),
        _ => return None,
    })
}

/// Kind and body of the event of an accepted command; `None` if it is not a command.
pub(super) fn event(command: &Bytes) -> Option<(u64, Bytes)> {
    Some(match decode(command)? {
        ToRelay::Open(_) => (kind::JOINED, Bytes::new()),
        ToRelay::Post(Post { kind, body: Blob(body), .. }) => (kind, command.slice_ref(body)),
        ToRelay::Edit(Edit { target, body, .. }) => (kind::EDITED, body_of(&Edited { target, body })),
        ToRelay::Delete(Delete { target, .. }) => (kind::DELETED, body_of(&Deleted { target })),
        ToRelay::React(React { target, add, reaction, .. }) => {
            (kind::REACTED, body_of(&Reacted { target, add, reaction }))
        }
        ToRelay::Leave(_) => (kind::LEFT, Bytes::new()),
        ToRelay::Add(Add { user, .. }) => (kind::ADDED, body_of(&Added { user })),
        ToRelay::Remove(Remove { user, ban, .. }) => (kind::REMOVED, body_of(&Removed { user, ban })),
        ToRelay::SetRole(SetRole { user, role, .. }) => (kind::ROLE, body_of(&RoleChanged { user, role })),
        ToRelay::SetTitle(SetTitle { title, .. }) => (kind::TITLE, body_of(&Titled { title })),
        _ => return None,
    })
}

/// Appends an opening, now and then with an extension that means nothing, as `random` says.
pub(super) fn append_open(open: &Open<'_>, random: [u8; 9], out: &mut Vec<u8>) {
    let [chance, random @ ..] = random;
    let extensions = [grease::extension(&random)];
    let some = if chance % GREASE == 0 { &extensions[..] } else { &[] };
    frame::encode_extended(open, some, out);
}

/// Appends a message that is not stored.
pub(super) fn append<M: Message>(message: &M, out: &mut Vec<u8>) {
    frame::encode(message, out);
}

fn decode(command: &[u8]) -> Option<ToRelay<'_>> {
    let (frame, used) = frame::split(command, quip_protocol::limit::FRAME).ok()??;
    if used == command.len() { ToRelay::decode(frame).ok()? } else { None }
}

/// One of this many openings has an extension that means nothing.
const GREASE: u8 = 32;

fn body_of<T: Serialize>(body: &T) -> Bytes {
    postcard::to_extend(body, Vec::new()).expect("plain data serialises into a Vec").into()
}

#[cfg(test)]
mod tests {
    use quip_protocol::ConversationId;

    use super::*;

    #[test]
    fn some_openings_have_an_extension_with_content() {
        let target = Target::NewGroup(ConversationId::group([1; 15]));
        let size = |random| {
            let mut out = Vec::new();
            append_open(&Open::new(&target, 0, Start::Now), random, &mut out);
            let (frame, used) = frame::split(&out, 1000).expect("a frame").expect("whole");
            assert!(used == out.len() && matches!(ToRelay::decode(frame), Ok(Some(ToRelay::Open(_)))));
            used
        };
        assert_eq!(size([1; 9]), size([255; 9]));
        assert!(size([32, 7, 0, 0, 0, 0, 0, 0, 0]) > size([1; 9]) + 7);
    }
}
