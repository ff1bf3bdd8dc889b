//! WIRE.md and the code say the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use common::{
    From, Sample, fields_of, samples,
    wire::{Fields, STATES, WIRE, fields_under, number, row_of, table, table_of, take_fields},
};
use quip_protocol::{
    ALPN, Blob, Code, ConversationId, Retry, RoomName, UserId,
    conversation::skip,
    cost,
    event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, Tombstone, kind, role},
    limit,
    session::presence,
};
use serde::Serialize;

#[test]
fn the_table_of_codes() {
    let retry = |text: &str| match text {
        "Done" => Retry::Done,
        "Never" => Retry::Never,
        "Final" => Retry::Final,
        "Later" => Retry::Later,
        "Elsewhere" => Retry::Elsewhere,
        other => panic!("no retry class: {other}"),
    };
    let documented: Vec<_> = table("## 9. Codes", "| Code | Name |")
        .into_iter()
        .map(|row| (Code(number(row[0])), row[1], retry(row[2]), row[3]))
        .collect();
    let coded: Vec<_> = Code::TABLE.iter().map(|&(code, name, text)| (code, name, code.retry(), text)).collect();
    assert_eq!(documented, coded);
    assert!(coded.windows(2).all(|pair| pair[0].0.0 < pair[1].0.0), "each number once, in order");

    let ranges = table("## 9. Codes", "| Range | Retry |");
    let bound = |range: &str| {
        let (low, high) = range.split_once("..").expect("a range");
        (number(low), high.strip_prefix('=').map_or(u64::MAX, number))
    };
    let bounds: Vec<_> = ranges.iter().map(|row| (bound(row[0]), retry(row[1]))).collect();
    let in_range =
        |code: u64| bounds.iter().find(|((low, high), _)| (*low..=*high).contains(&code)).map(|found| found.1);
    for code in (0..0x400).chain([u64::MAX]) {
        assert_eq!(in_range(code), Some(Code(code).retry()), "{code:#x}");
    }
}

#[test]
fn which_refusals_use_a_number_up() {
    let rows = table("**Rejected**, by code:", "| Code | n |");
    let mut said = BTreeMap::new();
    for row in &rows {
        let named = row[0].split('`').skip(1).step_by(2);
        said.extend(named.map(|name| (name, row[1].starts_with("used up"))));
    }
    assert_eq!(said.get("MISSING"), Some(&false), "the table was not read");
    for (code, name, _) in Code::TABLE.iter().filter(|(code, ..)| code.retry() == Retry::Final) {
        let documented = said.get(name).copied().unwrap_or(true);
        assert_eq!(code.decides(), documented, "{name}");
    }
    let others = (0..0x400).map(Code).filter(|code| code.retry() != Retry::Final);
    assert!(others.into_iter().all(|code| !code.decides()), "only a final refusal uses a number up");
    assert!(Code(0x7f).decides(), "a final code that is not known here uses its number up");
}

#[test]
fn the_table_of_messages() {
    let from = |text: &str| match text {
        "C" => From::Client,
        "R" => From::Relay,
        "C R" => From::Both,
        other => panic!("no direction: {other}"),
    };
    let rows = table("## 7. Messages", "| Type | Message |");
    let documented: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1], from(row[2]))).collect();
    let mut coded: Vec<_> = samples().iter().map(|sample| (sample.kind, sample.name, sample.from)).collect();
    coded.sort_by_key(|(kind, ..)| *kind);
    assert_eq!(documented, coded);
    let headings: BTreeSet<_> = WIRE.lines().filter_map(|line| line.strip_prefix("#### ")).collect();
    let expected: Vec<_> = coded.iter().map(|(kind, name, _)| format!("{kind:#04x} {name}")).collect();
    assert_eq!(headings, expected.iter().map(String::as_str).collect());
}

#[test]
fn the_fields_of_every_message() {
    for Sample { name, kind, body, fields, .. } in samples() {
        let documented = fields_under(&format!("#### {kind:#04x} {name}\n"));
        let names: Vec<_> = documented.iter().map(|(field, _)| *field).collect();
        assert_eq!(names, fields, "the fields of {name}");
        let mut rest = body;
        take_fields(&documented, &mut rest);
        assert!(rest.is_empty(), "WIRE.md leaves {} bytes of {name} unread", rest.len());
    }
}

#[test]
fn the_bodies_of_events() {
    let rows = table("The bodies inside", "| Body | Fields |");
    let mut unread: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    let mut check = |name: &'static str, fields: Vec<String>, bytes: Vec<u8>| {
        let documented: Fields =
            row_of(&rows, name)[1].split(", ").filter_map(|field| field.split_once(": ")).collect();
        let names: Vec<_> = documented.iter().map(|(field, _)| *field).collect();
        assert_eq!(names, fields, "the fields of {name}");
        let mut rest = &bytes[..];
        take_fields(&documented, &mut rest);
        assert!(rest.is_empty(), "WIRE.md leaves {} bytes of {name} unread", rest.len());
        unread.remove(name);
    };
    fn parts<T: Serialize + Debug>(value: T) -> (&'static str, Vec<String>, Vec<u8>) {
        (common::name_of::<T>(), fields_of(&value), postcard::to_allocvec(&value).unwrap())
    }
    let (user, target) = ("bob", 300);
    let all = [
        parts(Edited { target, body: Blob(b"\xff") }),
        parts(Deleted { target }),
        parts(Reacted { target, add: true, reaction: "👍" }),
        parts(Added { user }),
        parts(Removed { user, ban: true }),
        parts(RoleChanged { user, role: 0xfe }),
        parts(Titled { title: "Tea" }),
        parts(Tombstone { by: 300 }),
    ];
    all.into_iter().for_each(|(name, fields, bytes)| check(name, fields, bytes));
    assert!(unread.is_empty(), "not in the code: {unread:?}");
}

#[test]
fn the_kinds_of_events() {
    let coded = [
        (kind::TEXT, "TEXT", None),
        (kind::DATA, "DATA", None),
        (kind::EDITED, "EDITED", Some(common::name_of::<Edited<'_>>())),
        (kind::DELETED, "DELETED", Some(common::name_of::<Deleted>())),
        (kind::REACTED, "REACTED", Some(common::name_of::<Reacted<'_>>())),
        (kind::JOINED, "JOINED", Some("empty")),
        (kind::LEFT, "LEFT", Some("empty")),
        (kind::ADDED, "ADDED", Some(common::name_of::<Added<'_>>())),
        (kind::REMOVED, "REMOVED", Some(common::name_of::<Removed<'_>>())),
        (kind::ROLE, "ROLE", Some(common::name_of::<RoleChanged<'_>>())),
        (kind::TITLE, "TITLE", Some(common::name_of::<Titled<'_>>())),
        (kind::TOMBSTONE, "TOMBSTONE", Some(common::name_of::<Tombstone>())),
    ];
    let rows = table("## 8. Events", "| Kind | Name |");
    assert_eq!(rows.len(), coded.len());
    for (row, (number_of, name, body)) in rows.iter().zip(coded) {
        assert_eq!((number(row[0]), row[1]), (number_of, name));
        assert_eq!(row[3].contains("Counts as unread"), kind::counts(number_of), "{name}");
        body.into_iter().for_each(|body| assert_eq!(row[2], body, "{name}"));
    }
    assert!((0..1000).filter(|kind| kind::counts(*kind)).eq([1, 2]), "an unknown kind must not count");
}

#[test]
fn small_numbers_in_prose() {
    let says = |text: &str| assert!(WIRE.contains(text), "WIRE.md lacks {text:?}");
    says(&format!("ALPN `{}` ({} bytes", str::from_utf8(ALPN).unwrap(), ALPN.len()));
    says(&format!("{} member, {} admin, {} owner", role::MEMBER, role::ADMIN, role::OWNER));
    says(&format!("{} offline: ", presence::OFFLINE));
    says(&format!("{} unreachable: ", presence::UNREACHABLE));
    says(&format!("{} online: ", presence::ONLINE));
    says(&format!("{} TRIMMED: ", skip::TRIMMED));
    says(&format!("{} NOT_VISIBLE: ", skip::NOT_VISIBLE));
    says(&format!("{} RESTORED: ", skip::RESTORED));
    says(&format!("`Welcome.unanswered_bytes` and {} KiB in unfinished frames", limit::OTHER_UNFINISHED >> 10));
}

#[test]
fn the_table_of_costs() {
    let rows = table("**Of one user**", "| Message | Cost");
    let said: Vec<_> = rows.iter().map(|row| (row[0], number(row[1]) as u32)).collect();
    let coded = [
        ("numbered command, also one that is refused", cost::COMMAND),
        ("Open", cost::OPEN),
        ("its join", cost::COMMAND),
        ("Mark", cost::MARK),
        ("History, List, Members, PresenceIn", cost::REQUEST),
    ];
    assert_eq!(said, coded);
}

#[test]
fn the_table_of_limits() {
    let coded = [
        ("FRAME", limit::FRAME),
        ("MESSAGE", limit::MESSAGE),
        ("USER", limit::USER),
        ("ROOM_PART", limit::ROOM_PART),
        ("TITLE", limit::TITLE),
        ("REACTION", limit::REACTION),
        ("EDITS", limit::EDITS),
        ("EARLIER", limit::EARLIER),
        ("PREVIEW", limit::PREVIEW),
        ("TOKEN", limit::TOKEN),
        ("TEXT", limit::TEXT),
        ("UNANSWERED", limit::UNANSWERED as usize),
        ("RELAYS", limit::RELAYS),
        ("FEATURES", limit::FEATURES),
        ("SIGNAL", limit::SIGNAL),
    ];
    let rows = table("## 10. Limits", "| Limit | Most |");
    let documented: Vec<_> =
        rows.iter().map(|row| (row[0].split(':').next().unwrap(), number(row[1]) as usize)).collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_ids_of_conversations() {
    let user = |text: &str| UserId::parse(text.trim_matches('`')).unwrap();
    let rows = table("Test vectors:", "| Conversation | Id |");
    assert!(rows.len() >= 6);
    for row in rows {
        let id = match row[0].split(' ').collect::<Vec<_>>()[..] {
            ["direct", a, b] => ConversationId::direct(&user(a), &user(b)),
            ["room", name] => ConversationId::room(&RoomName::parse(name.trim_matches('`')).unwrap()),
            _ => panic!("neither direct nor room: {}", row[0]),
        };
        assert_eq!(format!("`{id}`"), row[1], "{}", row[0]);
    }
}

/// The names of codes in a cell.
fn codes_in(cell: &str) -> Vec<Code> {
    let words = cell.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    // Single letters are none, nor are the names of QUIC's frames.
    let names = words.filter(|word| word.len() > 1 && !["STOP_SENDING", "RESET_STREAM", "FIN"].contains(word));
    let code = |name| Code::TABLE.iter().find(|(_, known, _)| *known == name).unwrap_or_else(|| panic!("{name}")).0;
    names.map(code).collect()
}

#[test]
fn the_codes_of_each_message_and_state() {
    let by_message = table_of(STATES, "## Codes of each message", "| Message | Answer |");
    let by_state = table_of(STATES, "## Codes of each state", "| State | How |");
    let said: BTreeSet<_> = by_message
        .iter()
        .flat_map(|row| [row[2], row[3]])
        .chain(by_state.iter().map(|row| row[2]))
        .flat_map(codes_in)
        .map(|code| code.0)
        .collect();
    assert_eq!(
        said,
        Code::TABLE.iter().map(|(code, ..)| code.0).collect(),
        "every code has a place, and only codes have"
    );

    let of_clients = samples().into_iter().filter(|sample| sample.from != From::Relay).map(|sample| sample.name);
    let rows: BTreeSet<_> = by_message.iter().map(|row| row[0]).filter(|name| !name.contains(' ')).collect();
    assert_eq!(rows, of_clients.collect());

    let first = by_message.iter().position(|row| row[0] == "every command").expect("a row for every command");
    for row in by_message[first..].iter().take_while(|row| row[0] != "Mark") {
        let before = codes_in(row[2]);
        assert!(before.iter().all(|code| !code.decides() || [Code::KNOWN, Code::REUSED].contains(code)), "{row:?}");
        assert!(codes_in(row[3]).iter().all(|code| code.decides()), "{row:?}");
    }
}
