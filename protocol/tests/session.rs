//! The session at the end of WIRE.md is what it says it is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    fields_of, samples,
    wire::{Step, session},
};
use quip_protocol::{
    Code, ConversationId, RoomName, ToClient, ToRelay,
    conversation::{Edit, Leave, Post},
    frame, limit,
    session::Signal,
};

/// A frame's message, its fields as `Debug` has them, and its name.
fn read(step: &Step) -> (String, Vec<String>) {
    if step.stream == "datagram" {
        let read = frame::from_datagram(&step.bytes).unwrap();
        let signal = frame::decode::<Signal<'_>>(read.body).unwrap();
        return (format!("Signal({signal:?})"), fields_of(&signal));
    }
    let (read, used) = frame::split(&step.bytes, limit::FRAME).unwrap().expect("a whole frame");
    assert_eq!(used, step.bytes.len(), "more than one frame in {}", step.name);
    let sample = samples().into_iter().find(|sample| sample.kind == read.kind).expect("a known type");
    let message = match step.from_client {
        true => format!("{:?}", ToRelay::decode(read).unwrap().expect("a known type")),
        false => format!("{:?}", ToClient::decode(read).unwrap().expect("a known type")),
    };
    (message, sample.fields)
}

#[test]
fn the_session_decodes_line_by_line() {
    for step in session() {
        let (message, fields) = read(&step);
        assert!(message.starts_with(&format!("{}(", step.name)), "{} is {message}", step.name);
        let header = if step.stream == "datagram" { &["type"][..] } else { &["length", "type"] };
        let expected: Vec<_> = header.iter().copied().chain(fields.iter().map(String::as_str)).collect();
        let said: Vec<_> = step.lines.iter().map(|(_, what)| what.split(' ').next().unwrap()).collect();
        assert_eq!(said, expected, "the lines of {}", step.name);
        for (bytes, what) in &step.lines {
            check_value(bytes, what, &message);
        }
    }
}

/// Quoted text must be the end of the line's bytes; what is not quoted must be in the message.
fn check_value(bytes: &[u8], what: &str, message: &str) {
    match what.split_once(' ') {
        None | Some(("outcomes", _)) => {}
        Some(("length", value)) => assert_eq!(value.parse(), Ok(bytes[0]), "{what} in {message}"),
        Some((_, value)) if value.starts_with('"') => {
            assert!(bytes.ends_with(value.trim_matches('"').as_bytes()), "{what} in {message}");
        }
        Some((field, value)) => assert!(message.contains(&format!("{field}: {value}")), "{what} in {message}"),
    }
}

#[test]
fn the_session_obeys_the_rules() {
    let (mut cursor, mut last_n, mut opened) = (None, 0, false);
    for step in session().iter().filter(|step| step.stream != "datagram") {
        let (frame, _) = frame::split(&step.bytes, limit::FRAME).unwrap().unwrap();
        if step.from_client {
            match ToRelay::decode(frame).unwrap().unwrap() {
                ToRelay::Hello(hello) => assert_eq!((hello.token, step.stream), ("alice", "0")),
                ToRelay::Open(open) => last_n = open.join,
                ToRelay::Post(Post { n, .. }) | ToRelay::Edit(Edit { n, .. }) | ToRelay::Leave(Leave { n }) => {
                    assert_eq!(n, last_n + 1)
                }
                _ => {}
            }
            continue;
        }
        let mut moved_to = |seq: u64| assert_eq!(cursor.replace(seq), Some(seq - 1), "a hole before {seq}");
        match ToClient::decode(frame).unwrap().unwrap() {
            ToClient::Opened(message) => {
                assert_eq!(message.outcomes.iter().last().map(|outcome| outcome.n), Some(message.last_n));
                assert_eq!((message.last_n, message.conversation), (last_n, room()));
                cursor = Some(message.start - 1);
                opened = true;
            }
            ToClient::Event(event) if step.stream == "4" => moved_to(event.seq),
            ToClient::Accepted(accepted) => {
                moved_to(accepted.seq);
                assert_eq!(accepted.n, last_n + 1);
                last_n = accepted.n;
            }
            ToClient::Rejected(rejected) => assert!(!rejected.code.decides() && rejected.n == last_n + 1),
            ToClient::End(end) if step.stream == "4" => assert_eq!(end.code, Code::ENDED),
            _ => {}
        }
    }
    assert!(opened && cursor == Some(7) && last_n == 4, "the session is not what the text says");
}

fn room() -> ConversationId {
    ConversationId::room(&RoomName::parse("lobby:main").unwrap())
}
