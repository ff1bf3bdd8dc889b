//! Golden bytes: what is on the wire today stays on the wire for ever.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::{From, Sample, samples, unhex};
use quip_protocol::{
    Blob, ConversationId, DecodeError, Event, Frame, FrameError, Message, RoomName, ToClient, ToRelay, UserId,
    conversation::{Leave, Mark, Start, Target},
    event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, Tombstone},
    frame,
    session::Signal,
};

#[test]
fn every_message_is_its_golden_bytes() {
    for Sample { name, encoded, golden, decodes, .. } in samples() {
        assert_eq!(encoded, golden, "{name} is encoded differently");
        assert!(decodes, "the golden bytes of {name} decode to something else");
    }
}

/// Of event 300 of bob, see [`an_event_is_told_from_another_with_its_seq`].
const DIGEST: [u8; 4] = [226, 4, 231, 201];

/// Types that a direction knows: an empty body is malformed for these, and for all others the type is unknown.
fn known(decodes: impl Fn(Frame<'_>) -> Result<bool, DecodeError>) -> BTreeSet<u64> {
    let is_known = |kind: &u64| match decodes(Frame { kind: *kind, body: &[] }) {
        Ok(read) => read,
        Err(DecodeError::UnknownType(_) | DecodeError::Unexpected(_)) => false,
        Err(_) => true,
    };
    (0..0x4000).filter(is_known).collect()
}

#[test]
fn every_type_number_has_golden_bytes() {
    let of = |from: From| samples().iter().filter(|sample| sample.from == from).map(|sample| sample.kind).collect();
    assert_eq!(known(|frame| ToRelay::decode(frame).map(|message| message.is_some())), of(From::Client));
    assert_eq!(known(|frame| ToClient::decode(frame).map(|message| message.is_some())), of(From::Relay));
    assert_eq!(BTreeSet::from([Signal::TYPE]), of(From::Both));
    let all: BTreeSet<u64> = samples().iter().map(|sample| sample.kind).collect();
    assert_eq!(all.len(), samples().len(), "two messages share a type number");
}

#[test]
fn each_direction_reads_its_own_messages_only() {
    for Sample { from, name, kind, body, .. } in samples() {
        let frame = Frame { kind, body };
        let (to_relay, to_client) = (ToRelay::decode(frame), ToClient::decode(frame));
        let unexpected = DecodeError::Unexpected(kind);
        match from {
            From::Client => {
                assert!(matches!(to_relay, Ok(Some(_))), "{name}");
                assert_eq!(to_client, Err(unexpected), "{name}");
            }
            From::Relay => {
                assert!(matches!(to_client, Ok(Some(_))), "{name}");
                assert_eq!(to_relay, Err(unexpected), "{name}");
            }
            From::Both => {
                let answers = (to_relay.err(), to_client.err());
                assert_eq!(answers, (Some(unexpected), Some(unexpected)), "{name} is for datagrams only");
            }
        }
    }
}

#[test]
fn the_bodies_of_events() {
    let (user, target) = ("bob", 300);
    fn check<T>(value: T, hex: &str)
    where
        T: serde::Serialize + serde::Deserialize<'static> + PartialEq + std::fmt::Debug,
    {
        let bytes: &'static [u8] = unhex(hex).leak();
        assert_eq!(postcard::to_allocvec(&value).unwrap(), bytes, "{value:?}");
        assert_eq!(postcard::from_bytes::<T>(bytes).as_ref(), Ok(&value));
    }
    check(Edited { target, body: Blob(b"\xff") }, "ac02 01ff");
    check(Deleted { target }, "ac02");
    check(Reacted { target, add: false, reaction: "👍" }, "ac02 00 04f09f918d");
    check(Added { user }, "03626f62");
    check(Removed { user, ban: true }, "03626f62 01");
    check(RoleChanged { user, role: 0xfe }, "03626f62 fe");
    check(Titled { title: "Tea" }, "03546561");
    check(Tombstone { by: 300 }, "ac02");
}

#[test]
fn every_form_of_open() {
    let group = common::GROUP;
    let forms = [
        (Target::Id(group), 0, Start::Now, "1c 20 00 10028182838485868788898a8b8c8d8e8f 00 00 00 00 00 00000000"),
        (
            Target::Direct(UserId::parse("Ännchen").unwrap()),
            0,
            Start::After { generation: 0, seq: 0 },
            "14 20 01 08c3846e6e6368656e 00 00 01 00 00 00000000",
        ),
        (
            Target::Room(RoomName::parse("lobby:main").unwrap()),
            1,
            Start::Last(50),
            "16 20 02 0a6c6f6262793a6d61696e 01 00 02 00 32 00000000",
        ),
        (Target::NewGroup(group), 1, Start::Now, "1c 20 03 10028182838485868788898a8b8c8d8e8f 01 00 00 00 00 00000000"),
    ];
    for (target, join, start, hex) in forms {
        let open = common::open(target.clone(), join, start);
        assert_eq!(frame::to_bytes(&open), unhex(hex), "{target:?}");
        assert_eq!((open.target(), open.join, open.start()), (Ok(target), join, Ok(start)));
    }
}

#[test]
fn an_open_that_names_nothing() {
    let read = |target_kind: u8, target: &[u8], start_kind: u8| {
        let mut body = vec![target_kind, target.len() as u8];
        body.extend_from_slice(target);
        body.extend_from_slice(&[0, 0, start_kind, 0, 0, 0, 0, 0, 0]);
        let open = frame::decode::<quip_protocol::conversation::Open<'_>>(&body).unwrap();
        (open.target().is_ok(), open.start().is_ok())
    };
    let direct = ConversationId::direct(&UserId::parse("a").unwrap(), &UserId::parse("b").unwrap());
    assert_eq!(read(0, &direct.0, 2), (true, true));
    assert_eq!(read(0, &direct.0, 3), (true, false), "an unknown start");
    assert_eq!(read(0, &direct.0[1..], 0), (false, true), "15 bytes of id");
    assert_eq!(read(1, b"", 0), (false, true), "an empty user id");
    assert_eq!(read(1, b"\xff", 0), (false, true), "a user id that is not UTF-8");
    assert_eq!(read(1, b"a\x07", 0), (false, true), "a control character");
    assert_eq!(read(2, b"lobby", 0), (false, true), "a room without a namespace");
    assert_eq!(read(3, &direct.0, 0), (false, true), "a new group of another kind");
    assert_eq!(read(4, b"x", 0), (false, true), "an unknown target");
}

#[test]
fn numbers_at_the_edges_of_varints() {
    let edges = [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (16_383, "ff7f"), (16_384, "808001")];
    let widest = [(u64::MAX >> 1, "ffffffffffffffff7f"), (u64::MAX, "ffffffffffffffffff01")];
    for (n, hex) in edges.into_iter().chain(widest) {
        let bytes = unhex(hex);
        assert_eq!(&frame::to_bytes(&Leave { n })[2..], bytes);
        assert_eq!(frame::decode::<Leave>(&bytes), Ok(Leave { n }));
    }
    let longer_than_needed = unhex("8000");
    assert_eq!(frame::decode::<Leave>(&longer_than_needed), Ok(Leave { n: 0 }));
    for malformed in ["80", "ffffffffffffffffff02", "8080808080808080808000", ""] {
        assert_eq!(frame::decode::<Leave>(&unhex(malformed)), Err(DecodeError::Malformed(Leave::TYPE)), "{malformed}");
    }
}

#[test]
fn a_bool_is_0_or_1_and_a_text_is_utf8() {
    let remove = |hex: &str| frame::decode::<quip_protocol::conversation::Remove<'_>>(&unhex(hex)).is_ok();
    assert!(remove("01 0161 00") && remove("01 0161 01"));
    assert!(!remove("01 0161 02"), "a bool of 2");
    assert!(!remove("01 01ff 01"), "a text that is not UTF-8");
}

#[test]
fn what_is_left_over_is_a_list_of_extensions() {
    let read = |body: &[u8]| frame::decode::<Mark>(body);
    let mark = Ok(Mark { seq: 1, number: 1 });
    assert_eq!(read(&[1, 1]), mark);
    assert_eq!(read(&[1, 1, 3, 2, 0xff, 0xff]), mark, "an odd extension is skipped");
    assert_eq!(read(&[1, 1, 3, 0, 61, 1, 9]), mark, "two of them");
    assert_eq!(read(&[1, 1, 3, 0, 2, 0]), Err(DecodeError::UnknownExtension(Mark::TYPE)), "an even one is not");
    for malformed in [&[1, 1, 3][..], &[1, 1, 3, 2, 0xff], &[1, 1, 0x80], &[1, 1, 3, 0x80]] {
        assert_eq!(read(malformed), Err(DecodeError::Malformed(Mark::TYPE)), "{malformed:?}");
    }
    let mut out = Vec::new();
    let extension = quip_protocol::Extension { id: 300, content: b"\xff" };
    frame::encode_extended(&Mark { seq: 1, number: 1 }, &[extension], &mut out);
    assert_eq!(out, unhex("07 34 01 01 ac02 01 ff"));
}

#[test]
fn an_event_is_told_from_another_with_its_seq() {
    let event = Event { seq: 300, number: 200, at: 1_700_000_000_000, user: "bob", kind: 1, body: Blob(b"hi") };
    let tombstone = Event { kind: 12, body: Blob(b"\x05"), ..event };
    assert_eq!(event.digest(), tombstone.digest(), "a deletion does not change it");
    assert_eq!(event.digest(), DIGEST);
    for other in [Event { at: event.at + 1, ..event }, Event { user: "bo", ..event }, Event { number: 201, ..event }] {
        assert_ne!(other.digest(), DIGEST);
    }
}

#[test]
fn headers_are_judged_before_the_body_is_there() {
    let split = |hex: &str, limit: usize| frame::split(&unhex(hex), limit).map(|read| read.map(|(_, used)| used));
    assert_eq!(split("", 64), Ok(None));
    assert_eq!(split("80", 64), Ok(None), "a length that goes on");
    assert_eq!(split("03 22 00", 64), Ok(None), "one byte is missing");
    assert_eq!(split("03 22 00 00 ff", 64), Ok(Some(4)), "what follows is left alone");
    assert_eq!(split("8200 22 00", 64), Ok(Some(4)), "a longer length than needed");
    assert_eq!(split("40", 64), Ok(None), "just within the limit");
    assert_eq!(split("41", 64), Err(FrameError::TooLarge { length: 65, limit: 64 }));
    let huge = FrameError::TooLarge { length: u64::MAX, limit: 64 };
    assert_eq!(split("ffffffffffffffffff01", 64), Err(huge));
    assert_eq!(split("00", 64), Err(FrameError::Malformed), "no room for a type");
    assert_eq!(split("02 80 80", 64), Err(FrameError::Malformed), "a type that goes on");
    assert_eq!(split("80808080808080808080", 64), Err(FrameError::Malformed), "a length of more than 10 bytes");
}

#[test]
fn datagrams_have_no_length() {
    let signal = Signal { channel: 4, user: "bob", kind: 1, body: Blob(b"") };
    let datagram = frame::to_datagram(&signal);
    assert_eq!(datagram, unhex("61 04 03626f62 01 00"));
    let read = frame::from_datagram(&datagram).unwrap();
    assert_eq!((read.kind, frame::decode::<Signal<'_>>(read.body)), (Signal::TYPE, Ok(signal)));
    assert_eq!(frame::from_datagram(&[]), Err(FrameError::Malformed));
    assert_eq!(frame::from_datagram(&[0x80]), Err(FrameError::Malformed));
}

#[test]
fn frames_are_appended_to_what_is_there() {
    let mut out = b"before".to_vec();
    let body = vec![7; 300];
    let event = Event { seq: 1, number: 1, at: 1, user: "a", kind: 2, body: Blob(&body) };
    frame::encode(&event, &mut out);
    frame::encode(&Leave { n: 1 }, &mut out);
    let rest = out.strip_prefix(b"before").unwrap();
    let (first, used) = frame::split(rest, 1024).unwrap().unwrap();
    assert_eq!(ToClient::decode(first), Ok(Some(ToClient::Event(event))));
    assert_eq!(&rest[used..], unhex("02 2a 01"));
}
