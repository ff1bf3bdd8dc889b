//! Turns a client's frames into actions, with every check that needs no row. Pure.

use bytes::Bytes;
use quip_core::Action;
use quip_protocol::{
    Code, ToRelay, UserId,
    event::{kind, role},
    limit,
};

/// A numbered command, or why its content is refused before it is ordered.
pub(in crate::hub) struct Numbered {
    /// The send number.
    pub(in crate::hub) n: u64,
    /// What to do.
    pub(in crate::hub) action: Result<Action, Code>,
}

/// Reads a command of a conversation stream; `None` for a message that is none, or that no client may send.
/// `message` is the largest content in bytes.
pub(in crate::hub) fn numbered(frame: &ToRelay<'_>, message: usize) -> Option<Numbered> {
    let (n, action) = match frame {
        ToRelay::Post(post) if !kind::counts(post.kind) => return None,
        ToRelay::Post(post) => (post.n, self::post(post.kind, post.body.0, message)),
        ToRelay::Edit(edit) => {
            (edit.n, content(edit.body.0, message).map(|body| Action::Edit { target: edit.target, body }))
        }
        ToRelay::Delete(delete) => (delete.n, Ok(Action::Delete { target: delete.target })),
        ToRelay::React(react) => (react.n, reaction(react.target, react.add, react.reaction)),
        ToRelay::Leave(leave) => (leave.n, Ok(Action::Leave)),
        ToRelay::Add(add) => (add.n, user(add.user).map(|user| Action::Add { user })),
        ToRelay::Remove(remove) => (remove.n, user(remove.user).map(|user| Action::Remove { user, ban: remove.ban })),
        ToRelay::SetRole(set) => (set.n, set_role(set.user, set.role)),
        ToRelay::SetTitle(set) => (set.n, title(set.title)),
        _ => return None,
    };
    Some(Numbered { n, action })
}

fn post(kind: u64, body: &[u8], message: usize) -> Result<Action, Code> {
    match kind {
        kind::TEXT if std::str::from_utf8(body).is_err() => Err(Code::NOT_UTF8),
        _ => content(body, message).map(|body| Action::Post { kind, body }),
    }
}

/// Copied, so that a small message does not pin the datagram that it came in.
fn content(body: &[u8], message: usize) -> Result<Bytes, Code> {
    match body.len() {
        0 => Err(Code::MESSAGE_EMPTY),
        size if size > message => Err(Code::MESSAGE_TOO_LARGE),
        _ => Ok(Bytes::copy_from_slice(body)),
    }
}

fn reaction(target: u64, add: bool, reaction: &str) -> Result<Action, Code> {
    match reaction.len() {
        0 => Err(Code::MESSAGE_EMPTY),
        size if size > limit::REACTION => Err(Code::MESSAGE_TOO_LARGE),
        _ => Ok(Action::React { target, add, reaction: reaction.to_owned() }),
    }
}

fn set_role(text: &str, role: u8) -> Result<Action, Code> {
    if !role::is_known(role) {
        return Err(Code::INVALID_NAME);
    }
    user(text).map(|user| Action::SetRole { user, role })
}

fn title(title: &str) -> Result<Action, Code> {
    if title.len() > limit::TITLE {
        return Err(Code::MESSAGE_TOO_LARGE);
    }
    Ok(Action::SetTitle { title: title.to_owned() })
}

fn user(text: &str) -> Result<UserId, Code> {
    UserId::parse(text).map_err(|_| Code::INVALID_NAME)
}

#[cfg(test)]
mod tests {
    use quip_protocol::conversation::{Add, React, SetTitle};

    use super::*;

    fn refused(frame: &ToRelay<'_>) -> Option<Code> {
        numbered(frame, limit::MESSAGE).unwrap().action.err()
    }

    #[test]
    fn texts_are_good_up_to_their_limits() {
        let text = "x".repeat(200);
        for (size, code) in [(0, None), (limit::TITLE, None), (limit::TITLE + 1, Some(Code::MESSAGE_TOO_LARGE))] {
            assert_eq!(refused(&ToRelay::SetTitle(SetTitle { n: 1, title: &text[..size] })), code, "{size}");
        }
        let (empty, large) = (Some(Code::MESSAGE_EMPTY), Some(Code::MESSAGE_TOO_LARGE));
        for (size, code) in [(0, empty), (limit::REACTION, None), (limit::REACTION + 1, large)] {
            let react = React { n: 1, target: 1, add: true, reaction: &text[..size] };
            assert_eq!(refused(&ToRelay::React(react)), code, "{size}");
        }
        let invalid = Some(Code::INVALID_NAME);
        for (size, code) in [(0, invalid), (limit::USER, None), (limit::USER + 1, invalid)] {
            assert_eq!(refused(&ToRelay::Add(Add { n: 1, user: &text[..size] })), code, "{size}");
        }
    }
}
