//! Which messages /edit, /delete and /react are about.

use quip_client::{Content, OwnedEvent, kind};

use crate::show::{self, cells};

/// The latest messages of both sides.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    own: Own,
    /// A message was typed here, so that the own one is that, whatever another device of the user sends.
    typed: bool,
    other: Option<Message>,
}

/// A message that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its place.
    pub(crate) seq: u64,
    user: String,
    text: String,
}

/// The user's own message.
#[derive(Debug, Default)]
enum Own {
    #[default]
    None,
    /// The command with this number has no answer yet.
    Sending(u64, Message),
    Sent(Message),
    /// The one typed last was not sent, or nobody knows.
    Failed,
    /// The one typed last is deleted, or is to be.
    Deleted,
}

impl Latest {
    /// An event was shown.
    pub(crate) fn shown(&mut self, event: &OwnedEvent, is_own: bool) {
        match event.kind {
            kind::TEXT | kind::DATA if !is_own => self.other = Some(Message::of(event)),
            kind::TEXT | kind::DATA if !self.typed => self.own = Own::Sent(Message::of(event)),
            kind::EDITED => self.edited(event),
            _ => {}
        }
    }

    /// A typed message was queued as the command `n`.
    pub(crate) fn sending(&mut self, n: u64, text: &str) {
        self.typed = true;
        self.own = Own::Sending(n, Message { seq: 0, user: String::new(), text: text.to_owned() });
    }

    /// A typed message was not queued.
    pub(crate) fn not_sent(&mut self) {
        (self.typed, self.own) = (true, Own::Failed);
    }

    /// The command `n` was accepted with this seq, or not.
    pub(crate) fn answered(&mut self, n: u64, seq: Option<u64>) {
        let Own::Sending(of, message) = &mut self.own else { return };
        if *of == n {
            self.own = seq.map_or(Own::Failed, |seq| Own::Sent(Message { seq, ..message.clone() }));
        }
    }

    /// The user's own message is being deleted.
    pub(crate) fn deleting(&mut self) {
        (self.typed, self.own) = (true, Own::Deleted);
    }

    /// Whether the user's own message has no place yet.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.own, Own::Sending(..))
    }

    /// The user's own message typed last; before one is typed, the last one shown. Otherwise why there is none.
    pub(crate) fn own(&self) -> Result<Message, &'static str> {
        match &self.own {
            Own::Sent(message) => Ok(message.clone()),
            Own::Failed => Err("your last message was not sent; older ones stay as they are"),
            Own::Deleted => Err("your last message is deleted already; older ones stay as they are"),
            Own::Sending(..) => Err("your last message is still being sent"),
            Own::None => Err("you have not sent a message yet"),
        }
    }

    /// The last message of another user that was shown.
    pub(crate) fn other(&self) -> Option<Message> {
        self.other.clone()
    }

    /// The log was replaced: what was shown has no place any more.
    pub(crate) fn reset(&mut self) {
        let own = if self.is_sending() { std::mem::take(&mut self.own) } else { Own::None };
        *self = Self { typed: matches!(own, Own::Sending(..)), own, other: None };
    }

    fn edited(&mut self, event: &OwnedEvent) {
        let Content::Edited { target, content } = event.content() else { return };
        let own = if let Own::Sent(message) = &mut self.own { Some(message) } else { None };
        for message in own.into_iter().chain(&mut self.other).filter(|message| message.seq == target) {
            message.text = String::from_utf8_lossy(content).into_owned();
        }
    }
}

impl Message {
    fn of(event: &OwnedEvent) -> Self {
        let text = match event.kind {
            kind::DATA => format!("{} bytes of data", event.body.len()),
            _ => String::from_utf8_lossy(&event.body).into_owned(),
        };
        Self { seq: event.seq, user: event.user.as_str().to_owned(), text }
    }

    /// The text as it is shown in a note.
    pub(crate) fn brief(&self) -> String {
        brief(&self.text)
    }

    /// The same with its author.
    pub(crate) fn brief_by(&self) -> String {
        format!("<{}> {}", show::name(&self.user), self.brief())
    }
}

/// A text as it is shown in a note: in quotes, and not too long.
pub(crate) fn brief(text: &str) -> String {
    show::quoted(&cells::cut(&show::visible(text), BRIEF))
}

/// Cells of a text in a note.
const BRIEF: usize = 40;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_client::UserId;
    use quip_protocol::{Blob, event::Edited};

    use super::*;

    fn event(seq: u64, kind: u64, body: &[u8]) -> OwnedEvent {
        let user = UserId::parse("bob").unwrap();
        OwnedEvent { seq, number: 0, at: 0, user, kind, body: body.to_vec().into(), own: None }
    }

    fn own(latest: &Latest) -> (u64, String) {
        latest.own().map(|message| (message.seq, message.text)).unwrap()
    }

    #[test]
    fn before_anything_is_typed_the_last_one_shown_counts() {
        let mut latest = Latest::default();
        assert!(latest.own().is_err());
        latest.shown(&event(3, kind::TEXT, b"old"), true);
        latest.shown(&event(4, kind::JOINED, b""), true);
        assert_eq!(own(&latest), (3, "old".to_owned()));
    }

    #[test]
    fn what_was_typed_last_counts_sent_or_not() {
        let mut latest = Latest::default();
        latest.shown(&event(3, kind::TEXT, b"old"), true);
        latest.sending(1, "new");
        latest.sending(2, "newer");
        latest.answered(1, Some(4));
        assert!(latest.is_sending() && latest.own().is_err());
        latest.answered(2, Some(5));
        latest.shown(&event(9, kind::TEXT, b"from another device"), true);
        assert_eq!(own(&latest), (5, "newer".to_owned()));
    }

    #[test]
    fn a_refused_message_does_not_expose_an_older_one() {
        let mut latest = Latest::default();
        latest.shown(&event(3, kind::TEXT, b"old"), true);
        latest.sending(1, "new");
        latest.answered(1, None);
        assert!(latest.own().is_err());
        latest.sending(2, "newer");
        latest.answered(2, Some(5));
        latest.not_sent();
        assert!(latest.own().is_err());
    }

    #[test]
    fn an_edit_changes_the_text() {
        let mut latest = Latest::default();
        latest.shown(&event(3, kind::TEXT, b"mine"), true);
        latest.shown(&event(4, kind::TEXT, b"theirs"), false);
        for target in [3, 4, 5] {
            let edited = postcard::to_stdvec(&Edited { target, body: Blob(b"new") }).unwrap();
            latest.shown(&event(6 + target, kind::EDITED, &edited), true);
        }
        assert_eq!(own(&latest), (3, "new".to_owned()));
        assert_eq!(latest.other().unwrap().brief_by(), "<bob> \"new\"");
    }

    #[test]
    fn another_log_leaves_only_what_is_on_its_way() {
        let mut latest = Latest::default();
        latest.shown(&event(3, kind::TEXT, b"mine"), true);
        latest.shown(&event(4, kind::TEXT, b"theirs"), false);
        latest.reset();
        assert!(latest.own().is_err() && latest.other().is_none());
        latest.sending(1, "new");
        latest.reset();
        latest.answered(1, Some(2));
        assert_eq!(own(&latest), (2, "new".to_owned()));
    }

    #[test]
    fn a_long_text_is_cut_in_a_note() {
        assert_eq!(brief(&"x".repeat(50)), format!("\"{}…\"", "x".repeat(39)));
    }
}
