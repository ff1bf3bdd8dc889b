//! What is shown to people: events, conversations and errors, as lines.
//!
//! A line that begins with `[22:13] <alice>` or `[22:13] * alice` has what alice typed. Everything else begins with `--`, which
//! nobody can type at that place.

use jiff::{Timestamp, tz::TimeZone};
use quip_client::{ClientEvent, Content, ConversationId, Entry, OwnedEvent, PresenceState, SkipReason, kind, role};
use quip_protocol::Kind;

pub(crate) mod cells;
mod json;
mod names;
mod text;

pub(crate) use json::{Json, entry_object, object};
pub(crate) use names::{lookalikes, name, quoted};
pub(crate) use text::{paragraph, visible};

/// An event as a line: `[HH:MM] <alice> text`, with the date if it is not of today.
pub(crate) fn line(event: &OwnedEvent, zone: &TimeZone) -> String {
    line_at(Timestamp::now(), event, zone)
}

fn line_at(now: Timestamp, event: &OwnedEvent, zone: &TimeZone) -> String {
    format!("[{}] {}", clock(event.at, now, zone), sentence(event))
}

/// One of the user's conversations as a line.
pub(crate) fn entry(entry: &Entry) -> String {
    let unread = match entry.unread() {
        0 => String::new(),
        unread => format!("{unread} unread"),
    };
    let id = entry.conversation;
    let is_direct = id.kind() == Some(Kind::Direct);
    let remark = lookalikes(&entry.name).filter(|_| is_direct).map_or(String::new(), |remark| format!("  {remark}"));
    format!("{} {unread:>12}  #{id}{remark}", cells::padded(&conversation(id, &entry.name), 32))
}

/// The name of a conversation, such that no title looks like a user or a room: `lobby:main`, `@bob`, `"a title"`.
pub(crate) fn conversation(id: ConversationId, called: &str) -> String {
    match id.kind() {
        Some(Kind::Direct) => format!("@{}", name(called)),
        Some(Kind::Room) => visible(called),
        _ if called.is_empty() => "(no title)".to_owned(),
        _ => quoted(called),
    }
}

/// A message about skipped events.
pub(crate) fn skipped(to: u64, why: SkipReason) -> String {
    match why {
        SkipReason::Trimmed => format!("events up to {to} are no longer kept"),
        SkipReason::NotVisible => format!("events up to {to} are from when you were not a member"),
        _ => format!("events up to {to} are skipped"),
    }
}

/// An error with its causes, each once.
pub(crate) fn failure(error: &anyhow::Error) -> String {
    let mut shown = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // The text of many errors ends with that of their cause.
        if !shown.contains(&cause) {
            shown = format!("{shown}: {cause}");
        }
    }
    shown
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

fn clock(at: u64, now: Timestamp, zone: &TimeZone) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let Some(time) = time.map(|time| time.to_zoned(zone.clone())) else { return "--:--".to_owned() };
    let clock = format!("{:02}:{:02}", time.hour(), time.minute());
    if time.date() == now.to_zoned(zone.clone()).date() { clock } else { format!("{} {clock}", time.date()) }
}

fn sentence(event: &OwnedEvent) -> String {
    let user = name(event.user.as_str());
    let deed = match event.content() {
        Content::Text(text) => return said(&user, text),
        Content::Unknown { kind: kind::TEXT, content } => return said(&user, &String::from_utf8_lossy(content)),
        Content::Tombstone { .. } => return format!("-- a message of {user} was deleted"),
        Content::Data(data) => format!("sent {} bytes of data", data.len()),
        Content::Joined => "joined".to_owned(),
        Content::Left => "left".to_owned(),
        Content::Edited { target, content } => {
            format!("edited message {target}: {}", quoted(&String::from_utf8_lossy(content)))
        }
        Content::Deleted { target } => format!("deleted message {target}"),
        Content::Reacted { target, reaction, added: true } => {
            format!("reacted to message {target} with {}", quoted(reaction))
        }
        Content::Reacted { target, reaction, added: false } => {
            format!("took back the reaction {} to message {target}", quoted(reaction))
        }
        Content::Added { user } => format!("added {}", name(user)),
        Content::Removed { user, banned: true } => format!("banned {}", name(user)),
        Content::Removed { user, banned: false } => format!("removed {}", name(user)),
        Content::RoleChanged { user, role } => format!("made {} {}", name(user), role_name(role)),
        Content::Titled { title } => format!("changed the title to {}", quoted(title)),
        _ => format!("sent an event of unknown kind {}", event.kind),
    };
    format!("-- {user} {deed}")
}

/// A text of a user, whose name is shown already.
fn said(user: &str, text: &str) -> String {
    match text.strip_prefix("/me ") {
        Some(action) => format!("* {user} {}", visible(action)),
        None => format!("<{user}> {}", visible(text)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use anyhow::Context;
    use quip_client::UserId;
    use quip_protocol::{
        Blob,
        event::{Edited, Reacted, Removed},
    };

    use super::*;

    pub(super) fn event(kind: u64, body: &[u8]) -> OwnedEvent {
        by("alice", kind, body)
    }

    pub(super) fn packed<T: serde::Serialize>(body: &T) -> Vec<u8> {
        postcard::to_stdvec(body).unwrap()
    }

    fn by(user: &str, kind: u64, body: &[u8]) -> OwnedEvent {
        let user = UserId::parse(user).unwrap();
        OwnedEvent { seq: 7, number: 3, at: AT, user, kind, body: body.to_vec().into(), own: None }
    }

    fn on_the_day(event: &OwnedEvent) -> String {
        line_at(Timestamp::from_millisecond(AT as i64).unwrap(), event, &TimeZone::UTC)
    }

    fn shown(kind: u64, body: &[u8]) -> String {
        on_the_day(&event(kind, body))
    }

    const AT: u64 = 1_700_000_000_000;

    #[test]
    fn people_read_lines() {
        assert_eq!(shown(kind::TEXT, b"hello"), "[22:13] <alice> hello");
        assert_eq!(shown(kind::TEXT, b"/me waves"), "[22:13] * alice waves");
        assert_eq!(shown(kind::TEXT, &[b'a', 0xff]), "[22:13] <alice> a\u{fffd}");
        assert_eq!(shown(kind::JOINED, b""), "[22:13] -- alice joined");
        assert_eq!(shown(kind::DATA, b"12345"), "[22:13] -- alice sent 5 bytes of data");
        assert_eq!(shown(99, b"?"), "[22:13] -- alice sent an event of unknown kind 99");
        assert_eq!(shown(kind::ROLE, &[0xff]), "[22:13] -- alice sent an event of unknown kind 10");
        let edited = packed(&Edited { target: 5, body: Blob(b"new") });
        assert_eq!(shown(kind::EDITED, &edited), "[22:13] -- alice edited message 5: \"new\"");
        let banned = packed(&Removed { user: "bob", ban: true });
        assert_eq!(shown(kind::REMOVED, &banned), "[22:13] -- alice banned bob");
        let reacted = packed(&Reacted { target: 5, add: true, reaction: "+1" });
        assert_eq!(shown(kind::REACTED, &reacted), "[22:13] -- alice reacted to message 5 with \"+1\"");
    }

    #[test]
    fn nothing_that_is_typed_looks_like_an_event_or_another_user() {
        let texts = [
            "joined",
            "/me joined",
            "-- bob joined",
            "/me -- bob joined",
            "\n[22:13] -- bob joined",
            "/me \r-- bob left",
        ];
        for user in ["alice", "-- bob", "alice> hi\" <bob", "-", "bob joined\u{2028}"] {
            for text in texts {
                let line = on_the_day(&by(user, kind::TEXT, text.as_bytes()));
                let rest = line.strip_prefix("[22:13] ").unwrap();
                let name = name(user);
                assert!(rest.starts_with(&format!("<{name}> ")) || rest.starts_with(&format!("* {name} ")), "{line}");
                assert!(!line.contains(['\n', '\r', '\u{2028}']), "{line}");
            }
        }
        assert_eq!(on_the_day(&by("bob> hi <alice", kind::TEXT, b"x")), "[22:13] <\"bob> hi <alice\"> x");
        assert_eq!(on_the_day(&by("bob is", kind::TEXT, b"/me here")), "[22:13] * \"bob is\" here");
    }

    #[test]
    fn the_date_is_shown_on_other_days() {
        let event = event(kind::TEXT, b"hello");
        let next: Timestamp = "2023-11-15T00:00:00Z".parse().unwrap();
        assert_eq!(line_at(next, &event, &TimeZone::UTC), "[2023-11-14 22:13] <alice> hello");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(line_at(next, &event, &zone), "[00:13] <alice> hello", "the same day two hours to the east");
    }

    #[test]
    fn no_title_looks_like_a_user_or_a_room() {
        let (group, direct) = (ConversationId([2; 16]), ConversationId([1; 16]));
        assert_eq!(conversation(group, "@bob"), "\"@bob\"");
        assert_eq!(conversation(group, "lobby:main"), "\"lobby:main\"");
        assert_eq!(conversation(group, ""), "(no title)");
        assert_eq!(conversation(group, "(no title)"), "\"(no title)\"");
        assert_eq!(conversation(ConversationId([3; 16]), "lobby:main"), "lobby:main");
        assert_eq!(conversation(direct, "bob"), "@bob");
        assert_eq!(conversation(direct, "bob smith"), "@\"bob smith\"");
    }

    #[test]
    fn a_list_has_columns_and_remarks() {
        let entry = |name: &str, number| Entry {
            conversation: ConversationId([1; 16]),
            name: name.to_owned(),
            role: role::MEMBER,
            head: 9,
            number,
            at: AT,
            read: 1,
            read_number: 1,
        };
        let id = "01".repeat(16);
        assert_eq!(super::entry(&entry("김철수", 4)), format!("@김철수{:25}     3 unread  #{id}", " "));
        let spoofed = super::entry(&entry("bоb", 1));
        assert!(spoofed.starts_with("@bоb ") && spoofed.ends_with("  (look-alike letters: U+043E)"), "{spoofed}");
    }

    #[test]
    fn a_place_that_was_asked_for_says_nothing_of_the_relays_data() {
        let behind =
            |asked| behind(&ClientEvent::Behind { conversation: ConversationId([2; 16]), head: 5 }, asked).unwrap();
        assert!(behind(None).contains("copied back"));
        assert_eq!(behind(Some(1000)), "there is no event 1000 yet: the newest is 5; waiting for it");
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("no answer: {0}")]
        struct NoAnswer(#[from] std::io::Error);
        let error = NoAnswer(std::io::Error::other("timed out"));
        let error = Err::<(), _>(error).context("cannot read lobby:main").unwrap_err();
        assert_eq!(failure(&error), "cannot read lobby:main: no answer: timed out");
    }
}
