//! What a notification says of an event. Pure.

use quip_core::{NewEvent, Timestamp};
use quip_protocol::{ConversationId, Event, UserId, event::kind, frame, limit, session::Changed};

/// As much of an event as a notification shows. It does not hold on to the event's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) seq: u64,
    number: u64,
    at: Timestamp,
    kind: u64,
    user: UserId,
    preview: String,
}

impl About {
    pub(super) fn new(event: &NewEvent) -> Self {
        let NewEvent { seq, number, at, kind, ref record } = *event;
        let preview = if kind == kind::TEXT { preview(&record.frame) } else { String::new() };
        Self { seq, number, at, kind, user: record.user.clone(), preview }
    }

    /// It was deleted.
    pub(super) fn delete(&mut self) {
        self.kind = kind::TOMBSTONE;
        self.preview.clear();
    }

    /// The notification of it, for who has this role and calls the conversation by this name.
    pub(super) fn changed<'a>(&'a self, conversation: ConversationId, role: u8, name: &'a str) -> Changed<'a> {
        let Self { seq, number, at, kind, .. } = *self;
        let (user, preview) = (self.user.as_str(), self.preview.as_str());
        Changed { conversation, head: seq, number, role, name, kind, user, preview, at }
    }
}

/// The notification of a change that is no event.
pub(super) fn changed_without_event(conversation: ConversationId, role: u8, name: &str) -> Changed<'_> {
    Changed { conversation, head: 0, number: 0, role, name, kind: 0, user: "", preview: "", at: 0 }
}

/// The beginning of a text. Empty for a frame that a full mailbox has dropped.
fn preview(frame: &[u8]) -> String {
    let frame = frame::split(frame, limit::FRAME).ok().flatten();
    let event = frame.and_then(|(frame, _)| frame::decode::<Event<'_>>(frame.body).ok());
    let text = event.and_then(|event| std::str::from_utf8(event.body.0).ok()).unwrap_or_default();
    text[..text.floor_char_boundary(limit::PREVIEW)].to_owned()
}

#[cfg(test)]
mod tests {
    use quip_core::EventRecord;
    use quip_protocol::{Blob, DeviceId};

    use super::*;

    fn about(kind: u64, body: &[u8]) -> About {
        let event = Event { seq: 7, number: 3, at: 9, user: "ann", kind, body: Blob(body) };
        let (user, device, frame) = (UserId::parse("ann").unwrap(), DeviceId([1; 16]), frame::to_bytes(&event));
        About::new(&NewEvent { seq: 7, number: 3, at: 9, kind, record: EventRecord { user, device, n: 1, frame } })
    }

    #[test]
    fn a_text_is_cut_at_a_character_and_other_content_is_not_shown() {
        let preview = |kind, body: &str| about(kind, body.as_bytes()).preview;
        assert_eq!(preview(kind::TEXT, "hi"), "hi");
        assert_eq!(preview(kind::TEXT, &"x".repeat(128)), "x".repeat(128));
        assert_eq!(preview(kind::TEXT, &"x".repeat(129)), "x".repeat(128));
        assert_eq!(preview(kind::TEXT, &("x".to_owned() + &"é".repeat(64))), "x".to_owned() + &"é".repeat(63));
        assert_eq!(preview(kind::DATA, "hi"), "");
        assert_eq!(super::preview(b""), "", "a mailbox dropped it");
    }

    #[test]
    fn of_what_was_deleted_the_author_is_left() {
        let mut about = about(kind::TEXT, b"a slip");
        about.delete();
        let changed = about.changed(ConversationId([2; 16]), 1, "Tea");
        assert_eq!((changed.kind, changed.user, changed.preview, changed.head), (kind::TOMBSTONE, "ann", "", 7));
    }
}
