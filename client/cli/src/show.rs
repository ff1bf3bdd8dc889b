//! Events as lines for people and as JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use quip_client::{ClientEvent, Entry, OwnedEvent, PresenceState, SkipReason, kind, role};
use quip_protocol::event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled};
use serde_json::{Value, json};

/// An event as a line: `[HH:MM] <alice> text`.
pub(crate) fn line(event: &OwnedEvent, zone: &TimeZone) -> String {
    format!("[{}] {}", clock(event.at, zone), sentence(event))
}

/// An event as an object.
pub(crate) fn object(event: &OwnedEvent) -> Value {
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
    object
}

/// One of the user's conversations as a line.
pub(crate) fn entry(entry: &Entry) -> String {
    let name = if entry.name.is_empty() { "(no title)".to_owned() } else { plain(&entry.name) };
    let unread = match entry.unread() {
        0 => String::new(),
        unread => format!("{unread} unread"),
    };
    format!("{:<32} {:>12}  #{}", title(entry, &name), unread, entry.conversation)
}

/// One of the user's conversations as an object.
pub(crate) fn entry_object(entry: &Entry) -> Value {
    json!({
        "conversation": entry.conversation.to_string(),
        "kind": kind_of(entry),
        "name": entry.name,
        "role": role_name(entry.role),
        "head": entry.head,
        "number": entry.number,
        "at": entry.at,
        "read": entry.read,
        "unread": entry.unread(),
    })
}

/// A message about skipped events.
pub(crate) fn skipped(to: u64, why: SkipReason) -> String {
    match why {
        SkipReason::Trimmed => format!("events up to {to} are no longer kept"),
        SkipReason::NotVisible => format!("events up to {to} are from when you were not a member"),
        _ => format!("events up to {to} are skipped"),
    }
}

/// The name of a role.
pub(crate) fn role_name(number: u8) -> &'static str {
    match number {
        role::MEMBER => "member",
        role::ADMIN => "admin",
        role::OWNER => "owner",
        0 => "none",
        _ => "unknown",
    }
}

/// The name of a state of presence.
pub(crate) fn presence_name(state: PresenceState) -> &'static str {
    match state {
        PresenceState::Offline => "offline",
        PresenceState::Unreachable => "unreachable",
        PresenceState::Online => "online",
    }
}

/// Makes a foreign text safe for a terminal: removes control characters, which could control it, and bidirectional
/// overrides, which could disguise a text.
pub(crate) fn plain(text: &str) -> String {
    let spaced = |c: char| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c };
    text.trim_end_matches(['\n', '\r']).chars().map(spaced).filter(|c| !c.is_control() && !is_bidi(*c)).collect()
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn clock(at: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    match time.map(|time| time.to_zoned(zone.clone())) {
        Some(time) => format!("{:02}:{:02}", time.hour(), time.minute()),
        None => "--:--".to_owned(),
    }
}

fn sentence(event: &OwnedEvent) -> String {
    let user = plain(event.user.as_str());
    match event.kind {
        kind::TEXT => match event.text().map(|text| (text, text.strip_prefix("/me "))) {
            Some((_, Some(action))) => format!("* {user} {}", plain(action)),
            Some((text, None)) => format!("<{user}> {}", plain(text)),
            None => format!("<{user}> {}", plain(&String::from_utf8_lossy(&event.body))),
        },
        kind::DATA => format!("<{user}> ({} bytes of data)", event.body.len()),
        kind::JOINED => format!("* {user} joined"),
        kind::LEFT => format!("* {user} left"),
        kind::TOMBSTONE => format!("<{user}> (deleted)"),
        _ => format!(
            "* {user} {}",
            action(event).unwrap_or_else(|| format!("sent an event of unknown kind {}", event.kind))
        ),
    }
}

/// The action of a user, for kinds whose body names its object.
fn action(event: &OwnedEvent) -> Option<String> {
    Some(match event.kind {
        kind::EDITED => {
            let Edited { target, body } = event.read()?;
            format!("edited {target}: {}", plain(&String::from_utf8_lossy(body.0)))
        }
        kind::DELETED => format!("deleted {}", event.read::<Deleted>()?.target),
        kind::REACTED => match event.read()? {
            Reacted { target, add: true, reaction } => format!("reacted to {target} with {}", plain(reaction)),
            Reacted { target, add: false, reaction } => format!("removed reaction {} from {target}", plain(reaction)),
        },
        kind::ADDED => format!("added {}", plain(event.read::<Added<'_>>()?.user)),
        kind::REMOVED => match event.read()? {
            Removed { user, ban: true } => format!("banned {}", plain(user)),
            Removed { user, ban: false } => format!("removed {}", plain(user)),
        },
        kind::ROLE => {
            let RoleChanged { user, role } = event.read()?;
            format!("made {} {}", plain(user), role_name(role))
        }
        kind::TITLE => format!("changed the title to: {}", plain(event.read::<Titled<'_>>()?.title)),
        _ => return None,
    })
}

fn content(event: &OwnedEvent) -> Value {
    known_content(event).unwrap_or_else(|| json!({ "body": STANDARD.encode(&event.body) }))
}

fn known_content(event: &OwnedEvent) -> Option<Value> {
    Some(match event.kind {
        kind::TEXT => json!({ "text": event.text()? }),
        kind::JOINED | kind::LEFT => json!({}),
        kind::EDITED => {
            let Edited { target, body } = event.read()?;
            match std::str::from_utf8(body.0) {
                Ok(text) => json!({ "target": target, "text": text }),
                Err(_) => json!({ "target": target, "body": STANDARD.encode(body.0) }),
            }
        }
        kind::DELETED => json!({ "target": event.read::<Deleted>()?.target }),
        kind::REACTED => {
            let Reacted { target, add, reaction } = event.read()?;
            json!({ "target": target, "add": add, "reaction": reaction })
        }
        kind::ADDED => json!({ "whom": event.read::<Added<'_>>()?.user }),
        kind::REMOVED => {
            let Removed { user, ban } = event.read()?;
            json!({ "whom": user, "ban": ban })
        }
        kind::ROLE => {
            let RoleChanged { user, role } = event.read()?;
            json!({ "whom": user, "role": role_name(role) })
        }
        kind::TITLE => json!({ "title": event.read::<Titled<'_>>()?.title }),
        kind::TOMBSTONE => json!({ "by": event.read::<quip_protocol::event::Tombstone>()?.by }),
        _ => return None,
    })
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

fn kind_of(entry: &Entry) -> &'static str {
    use quip_protocol::Kind;
    match entry.conversation.kind() {
        Some(Kind::Direct) => "direct",
        Some(Kind::Group) => "group",
        Some(Kind::Room) => "room",
        None => "unknown",
    }
}

/// As a TARGET if possible.
fn title(entry: &Entry, name: &str) -> String {
    if kind_of(entry) == "direct" { format!("@{name}") } else { name.to_owned() }
}

/// What is said of a relay that has less of a conversation than this device, or does not have the event that was asked for.
pub(crate) fn behind(event: &ClientEvent, asked: Option<u64>) -> Option<String> {
    let ClientEvent::Behind { head, .. } = event else { return None };
    Some(match asked {
        Some(seq) => format!("there is no event {seq} yet: the newest is {head}; waiting for it"),
        None => format!(
            "the relay's log ends at event {head}, before what this device has: it lags behind others, or its data was copied \
             back from a backup; waiting for it"
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_client::{ConversationId, UserId};
    use quip_protocol::Blob;

    use super::*;

    fn event(kind: u64, body: &[u8]) -> OwnedEvent {
        let user = UserId::parse("alice").unwrap();
        OwnedEvent { seq: 7, number: 3, at: 1_700_000_000_000, user, kind, body: body.to_vec().into(), own: None }
    }

    fn shown(kind: u64, body: &[u8]) -> String {
        line(&event(kind, body), &TimeZone::UTC)
    }

    fn packed<T: serde::Serialize>(body: &T) -> Vec<u8> {
        postcard::to_stdvec(body).unwrap()
    }

    #[test]
    fn people_read_lines() {
        assert_eq!(shown(kind::TEXT, b"hello"), "[22:13] <alice> hello");
        assert_eq!(shown(kind::TEXT, b"/me waves"), "[22:13] * alice waves");
        assert_eq!(shown(kind::JOINED, b""), "[22:13] * alice joined");
        assert_eq!(shown(kind::DATA, b"12345"), "[22:13] <alice> (5 bytes of data)");
        assert_eq!(shown(99, b"?"), "[22:13] * alice sent an event of unknown kind 99");
        let edited = packed(&Edited { target: 5, body: Blob(b"new") });
        assert_eq!(shown(kind::EDITED, &edited), "[22:13] * alice edited 5: new");
        let banned = packed(&Removed { user: "bob", ban: true });
        assert_eq!(shown(kind::REMOVED, &banned), "[22:13] * alice banned bob");
        let reacted = packed(&Reacted { target: 5, add: true, reaction: "+1" });
        assert_eq!(shown(kind::REACTED, &reacted), "[22:13] * alice reacted to 5 with +1");
    }

    #[test]
    fn a_body_that_does_not_parse_is_shown_anyway() {
        assert_eq!(shown(kind::ROLE, &[0xff]), "[22:13] * alice sent an event of unknown kind 10");
        assert_eq!(object(&event(kind::ROLE, &[0xff]))["body"], "/w==");
        assert_eq!(object(&event(kind::TEXT, &[0xff]))["body"], "/w==");
    }

    #[test]
    fn programs_read_objects() {
        let text =
            json!({"seq": 7, "number": 3, "at": 1_700_000_000_000_u64, "user": "alice", "kind": "text", "text": "hi"});
        assert_eq!(object(&event(kind::TEXT, b"hi")), text);
        let titled = packed(&Titled { title: "plans" });
        assert_eq!(object(&event(kind::TITLE, &titled))["title"], "plans");
        assert_eq!(object(&event(99, b"x"))["kind"], 99);
    }

    #[test]
    fn a_place_that_was_asked_for_says_nothing_of_the_relays_data() {
        let behind =
            |asked| behind(&ClientEvent::Behind { conversation: ConversationId([2; 16]), head: 5 }, asked).unwrap();
        assert!(behind(None).contains("copied back"));
        assert_eq!(behind(Some(1000)), "there is no event 1000 yet: the newest is 5; waiting for it");
    }

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c\nd\u{9b}1m\n"), "a[2Jbc d1m");
    }
}
