//! `vectors.json`: what WIRE.md specifies, for clients in other languages. Written from the golden bytes and the pages.
//!
//! `UPDATE=1 cargo test -p quip-protocol --test vectors` writes the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path};

use common::{
    From, GROUP, Sample, samples, unhex,
    wire::{Fields, STATES, Step, fields_under, hex, session, table, table_of, take_fields},
};
use quip_protocol::{
    Blob, Code, ConversationId, DecodeError, Event, FrameError, Message, RoomName, ToRelay, UserId,
    conversation::{Leave, Mark, Open, Post, SetTitle, Start, Target},
    frame, limit,
    session::Hello,
};
use serde_json::{Value, json};

/// One line of the file.
fn line(fields: &[(&str, Value)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("    {{{}}}", fields.join(", "))
}

fn section(name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<_> = lines.into_iter().collect();
    format!("  \"{name}\": [\n{}\n  ]", lines.join(",\n"))
}

fn varints() -> Vec<String> {
    let values = [0, 1, 127, 128, 300, 16_383, 16_384, 1_700_000_000_000, (1 << 53) - 1, 1 << 53, u64::MAX];
    let encoded = |n| frame::to_bytes(&Leave { n })[2..].to_vec();
    values.map(|n| line(&[("value", json!(n.to_string())), ("bytes", hex(&encoded(n)))])).into()
}

fn malformed_varints() -> Vec<String> {
    let all = ["80", "ffffffffffffffffff02", "8080808080808080808000"];
    let refused = |bytes: &&str| frame::decode::<Leave>(&unhex(bytes)) == Err(DecodeError::Malformed(Leave::TYPE));
    assert!(all.iter().all(refused));
    all.map(|bytes| line(&[("bytes", json!(bytes))])).into()
}

fn ids() -> Vec<String> {
    let user = |text: &str| UserId::parse(text).unwrap();
    let direct = [("alice", "bob"), ("bob", "alice"), ("alice", "alice"), ("Ännchen", "bob"), ("al", "icebob")];
    let direct = direct.map(|(a, b)| (json!(["direct", a, b]), ConversationId::direct(&user(a), &user(b))));
    let room = ["lobby:main", "a:b.c_d-0"].map(|name| (json!(["room", name]), ConversationId::room(&parse(name))));
    direct.into_iter().chain(room).map(|(of, id)| line(&[("of", of), ("id", hex(&id.0))])).collect()
}

fn parse(name: &str) -> RoomName<'_> {
    RoomName::parse(name).unwrap()
}

fn digests() -> Vec<String> {
    let event = |seq, number, at, user| Event { seq, number, at, user, kind: 1, body: Blob(b"hi") };
    let all =
        [event(300, 200, 1_700_000_000_000, "bob"), event(1, 0, 1_700_000_000_000, "alice"), event(2, 1, 0, "Ännchen")];
    let one = |event: Event<'_>| {
        line(&[
            ("seq", json!(event.seq)),
            ("number", json!(event.number)),
            ("at", json!(event.at)),
            ("user", json!(event.user)),
            ("digest", hex(&event.digest())),
        ])
    };
    all.map(one).into()
}

fn message(name: &str, from: From, stream: &str, encoded: &[u8]) -> String {
    let (kind, mut body) = header(from, encoded);
    let fields = take_fields(&fields_under(&format!("#### {kind:#04x} {name}\n")), &mut body);
    let from = match from {
        From::Client => "client",
        From::Relay => "relay",
        From::Both => "both",
    };
    line(&[
        ("name", json!(name)),
        ("type", json!(kind)),
        ("from", json!(from)),
        ("stream", json!(stream)),
        ("fields", fields),
        ("extensions", hex(body)),
        ("bytes", hex(encoded)),
    ])
}

fn header(from: From, encoded: &[u8]) -> (u64, &[u8]) {
    let read = match from {
        From::Both => frame::from_datagram(encoded).unwrap(),
        _ => frame::split(encoded, limit::FRAME).unwrap().unwrap().0,
    };
    (read.kind, read.body)
}

fn messages() -> Vec<String> {
    let rows = table("## 7. Messages", "| Type | Message |");
    let stream = |name: &str| rows.iter().find(|row| row[1] == name).unwrap()[3];
    let all = samples();
    let mut lines: Vec<_> =
        all.iter().map(|Sample { name, from, golden, .. }| message(name, *from, stream(name), golden)).collect();
    for open in opens() {
        lines.push(message("Open", From::Client, "conversation", &frame::to_bytes(&open)));
    }
    let (mut extended, extension) = (Vec::new(), quip_protocol::Extension { id: 61, content: b"\xff" });
    frame::encode_extended(&Mark { seq: 300, number: 200 }, &[extension, extension], &mut extended);
    lines.push(message("Mark", From::Client, "conversation", &extended));
    lines
}

/// Every kind of target and start.
fn opens() -> Vec<Open<'static>> {
    let direct = Target::Direct(UserId::parse("Ännchen").unwrap());
    vec![
        common::open(Target::Id(GROUP), 0, Start::Now),
        common::open(direct, 0, Start::After { generation: 0, seq: 0 }),
        common::open(Target::Room(parse("lobby:main")), 1, Start::Last(50)),
        common::open(Target::NewGroup(GROUP), 1, Start::Now),
    ]
}

fn bodies() -> Vec<String> {
    let written =
        ["ac02 01ff", "ac02", "ac02 00 04f09f918d", "03626f62", "03626f62 01", "03626f62 fe", "03546561", "ac02"];
    let rows = table("The bodies inside", "| Body | Fields |");
    assert_eq!(rows.len(), written.len());
    let one = |(row, bytes): (&Vec<&'static str>, &str)| {
        let fields: Fields = row[1].split(", ").filter_map(|field| field.split_once(": ")).collect();
        let bytes = unhex(bytes);
        let mut rest = &bytes[..];
        let fields = take_fields(&fields, &mut rest);
        assert!(rest.is_empty(), "{}", row[0]);
        line(&[("name", json!(row[0])), ("fields", fields), ("bytes", hex(&bytes))])
    };
    rows.iter().zip(written).map(one).collect()
}

fn steps() -> Vec<String> {
    let one = |Step { from_client, stream, name, bytes, .. }: Step| {
        let from = if from_client { "client" } else { "relay" };
        line(&[("from", json!(from)), ("stream", json!(stream)), ("name", json!(name)), ("bytes", hex(&bytes))])
    };
    session().into_iter().map(one).collect()
}

/// The traces of the outbox: a name, then a step a line.
fn traces() -> Vec<String> {
    let blocks = STATES.split("```trace\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let one = |block: &str| {
        let (name, steps) = block.split_once('\n').unwrap();
        line(&[("name", json!(name)), ("steps", steps.lines().collect())])
    };
    let all: Vec<_> = blocks.map(one).collect();
    assert_eq!(all.len(), 10);
    all
}

/// One row of the table of refused bytes.
struct Refused {
    place: &'static str,
    bytes: Vec<u8>,
    finish: bool,
    code: Code,
    ends: &'static str,
    why: &'static str,
}

fn refused() -> Vec<Refused> {
    let row = |row: Vec<&'static str>| {
        let [place, bytes, code, ends, why] = row[..] else { panic!("{row:?}") };
        let bytes = bytes.trim_matches('`');
        let (code, ..) = Code::TABLE.iter().find(|(_, name, _)| *name == code).unwrap_or_else(|| panic!("{code}"));
        let finish = bytes.ends_with("FIN");
        Refused { place, bytes: unhex(bytes.trim_end_matches("FIN")), finish, code: *code, ends, why }
    };
    table_of(STATES, "## Refused bytes", "| Where | Bytes |").into_iter().map(row).collect()
}

fn refusals() -> Vec<String> {
    let one = |Refused { place, bytes, finish, code, ends, why }: Refused| {
        line(&[
            ("where", json!(place)),
            ("bytes", hex(&bytes)),
            ("finish", json!(finish)),
            ("code", json!(code.0)),
            ("ends", json!(ends)),
            ("why", json!(why)),
        ])
    };
    refused().into_iter().map(one).collect()
}

#[test]
fn the_file_is_what_the_code_and_the_pages_say() {
    let sections = [
        section("varints", varints()),
        section("malformed_varints", malformed_varints()),
        section("ids", ids()),
        section("digests", digests()),
        section("messages", messages()),
        section("event_bodies", bodies()),
        section("session", steps()),
        section("outbox", traces()),
        section("refused", refusals()),
    ];
    let text = format!("{{\n{}\n}}\n", sections.join(",\n"));
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "not JSON");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let update = "UPDATE=1 cargo test -p quip-protocol --test vectors";
    assert!(
        fs::read_to_string(&file).is_ok_and(|written| written == text),
        "vectors.json is old; write it with: {update}"
    );
}

/// What the code says of bytes that need no relay to judge; `None` where a relay's state decides.
fn judged(refused: &Refused) -> Option<(Code, &'static str)> {
    if refused.place == "datagram" {
        return None;
    }
    let read = match frame::split(&refused.bytes, limit::FRAME) {
        Err(error) => return Some((error.code(), "connection")),
        Ok(None) if !refused.bytes.is_empty() => return refused.finish.then_some((Code::TRUNCATED, "connection")),
        Ok(None) => return None,
        Ok(Some((read, used))) => {
            assert_eq!(used, refused.bytes.len(), "one frame: {}", refused.why);
            read
        }
    };
    let is_opening = [Hello::TYPE, Open::TYPE].contains(&read.kind) || (0x40..0x50).contains(&read.kind);
    if refused.place == "fresh" && !is_opening {
        return Some((Code::UNKNOWN_STREAM, "stream"));
    }
    let is_open = refused.place == "conversation";
    let numbered = |kind| (Post::TYPE..=SetTitle::TYPE).contains(&kind);
    match ToRelay::decode(read) {
        Ok(Some(_)) => None,
        Ok(None) => Some((Code::DONE, "nothing")),
        Err(DecodeError::UnknownType(_)) if is_open => unsupported(read.body),
        Err(DecodeError::UnknownExtension(kind)) if is_open && numbered(kind) => unsupported(read.body),
        Err(error) => Some((error.code(), "connection")),
    }
}

/// The answer to a command that is unknown, or unknown in this form.
fn unsupported(body: &[u8]) -> Option<(Code, &'static str)> {
    match frame::first_varint(body) {
        None | Some(0) => Some((Code::MALFORMED, "connection")),
        Some(_) => Some((Code::UNSUPPORTED, "command")),
    }
}

#[test]
fn refused_bytes_are_judged_as_the_page_says() {
    let all = refused();
    let judged: Vec<_> = all.iter().filter_map(|one| Some((one, judged(one)?))).collect();
    assert!(judged.len() >= 30, "only {} rows need no relay", judged.len());
    for (one, (code, ends)) in judged {
        assert_eq!((one.code, one.ends), (code, ends), "{} {}", one.place, one.why);
    }
    let all_ends = ["connection", "stream", "command", "answer", "nothing"];
    assert!(all.iter().all(|one| all_ends.contains(&one.ends)));
    assert_eq!(FrameError::Malformed.code(), Code::MALFORMED);
}
