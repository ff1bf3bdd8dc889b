//! Events and conversations as JSON, for programs.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use quip_client::{Content, ConversationId, Entry, OwnedEvent, kind};
use quip_protocol::Kind;
use serde_json::{Value, json};

use super::{role_name, text};

/// A JSON value in one line, in which everything that a terminal might obey or not show is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Json(pub(crate) Value);

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::escaped(&self.0.to_string()))
    }
}

/// An event as an object.
pub(crate) fn object(event: &OwnedEvent) -> Json {
    let mut object = json!({
        "seq": event.seq,
        "number": event.number,
        "at": event.at,
        "user": event.user.as_str(),
        "kind": kind_name(event.kind),
    });
    if let (Some(object), Value::Object(content)) = (object.as_object_mut(), content(event)) {
        object.extend(content);
    }
    Json(object)
}

/// One of the user's conversations as an object.
pub(crate) fn entry_object(entry: &Entry) -> Json {
    Json(json!({
        "conversation": entry.conversation.to_string(),
        "kind": kind_of(entry.conversation),
        "name": entry.name,
        "role": role_name(entry.role),
        "head": entry.head,
        "number": entry.number,
        "at": entry.at,
        "read": entry.read,
        "unread": entry.unread(),
    }))
}

fn content(event: &OwnedEvent) -> Value {
    match event.content() {
        Content::Text(text) => json!({ "text": text }),
        Content::Joined | Content::Left => json!({}),
        Content::Edited { target, content } => match std::str::from_utf8(content) {
            Ok(text) => json!({ "target": target, "text": text }),
            Err(_) => json!({ "target": target, "body": STANDARD.encode(content) }),
        },
        Content::Deleted { target } => json!({ "target": target }),
        Content::Reacted { target, reaction, added } => json!({ "target": target, "add": added, "reaction": reaction }),
        Content::Added { user } => json!({ "whom": user }),
        Content::Removed { user, banned } => json!({ "whom": user, "ban": banned }),
        Content::RoleChanged { user, role } => json!({ "whom": user, "role": role_name(role) }),
        Content::Titled { title } => json!({ "title": title }),
        Content::Tombstone { by } => json!({ "by": by }),
        _ => json!({ "body": STANDARD.encode(&event.body) }),
    }
}

fn kind_name(number: u64) -> Value {
    let name = match number {
        kind::TEXT => "text",
        kind::DATA => "data",
        kind::EDITED => "edited",
        kind::DELETED => "deleted",
        kind::REACTED => "reacted",
        kind::JOINED => "joined",
        kind::LEFT => "left",
        kind::ADDED => "added",
        kind::REMOVED => "removed",
        kind::ROLE => "role",
        kind::TITLE => "title",
        kind::TOMBSTONE => "tombstone",
        other => return other.into(),
    };
    name.into()
}

fn kind_of(conversation: ConversationId) -> &'static str {
    match conversation.kind() {
        Some(Kind::Direct) => "direct",
        Some(Kind::Group) => "group",
        Some(Kind::Room) => "room",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_protocol::event::Titled;

    use super::{super::tests::*, *};

    #[test]
    fn a_body_that_does_not_parse_is_shown_anyway() {
        assert_eq!(object(&event(kind::ROLE, &[0xff])).0["body"], "/w==");
        assert_eq!(object(&event(kind::TEXT, &[0xff])).0["body"], "/w==");
    }

    #[test]
    fn programs_read_objects() {
        let text =
            json!({"seq": 7, "number": 3, "at": 1_700_000_000_000_u64, "user": "alice", "kind": "text", "text": "hi"});
        assert_eq!(object(&event(kind::TEXT, b"hi")), Json(text));
        let titled = packed(&Titled { title: "plans" });
        assert_eq!(object(&event(kind::TITLE, &titled)).0["title"], "plans");
        assert_eq!(object(&event(99, b"x")).0["kind"], 99);
    }

    #[test]
    fn a_terminal_that_shows_objects_obeys_nothing_in_them() {
        let shown = object(&event(kind::TEXT, "a\u{9b}31m\u{202e}b".as_bytes())).to_string();
        assert!(shown.contains(r#""text":"a\u009b31m\u202eb""#), "{shown}");
    }
}
