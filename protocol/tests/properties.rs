//! What holds for all messages and all bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Debug;

use proptest::prelude::*;
use quip_protocol::{
    Blob, Code, ConversationId, DecodeError, DeviceId, Event, Frame, InstanceId, Items, Message, RoomName, ToClient,
    ToRelay, UserId,
    conversation::{
        Accepted, Ack, Add, Delete, Edit, End, Leave, Mark, Open, Opened, Outcome, Post, React, Rejected, Remove,
        SetRole, SetTitle, Skip, Start, Target,
    },
    event::{Added, Deleted, Edited, Reacted, Removed, RoleChanged, Titled, Tombstone},
    frame, limit,
    request::{Entry, History, List, Member, Members, Page, PresenceIn},
    session::{Changed, GoAway, Hello, Marked, Notice, Presence, Refresh, Refreshed, Signal, Welcome},
};
use serde::Deserialize;

/// What messages are made of.
#[derive(Debug)]
struct Parts {
    n: [u64; 12],
    ids: [[u8; 16]; 2],
    texts: [String; 2],
    bytes: Vec<u8>,
    byte: u8,
    flag: bool,
    outcomes: Vec<[u64; 5]>,
    relays: Vec<String>,
    cut: prop::sample::Index,
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..300u64, (0..64u32).prop_map(|shift| 1 << shift), any::<u64>()]
}

prop_compose! {
    fn parts()(
        n in prop::array::uniform12(numbers()),
        ids in any::<[[u8; 16]; 2]>(),
        texts in prop::array::uniform2(".{0,70}"),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        byte in any::<u8>(),
        flag in any::<bool>(),
        outcomes in prop::collection::vec(prop::array::uniform5(numbers()), 0..=64),
        relays in prop::collection::vec("[a-z0-9.:]{0,20}", 0..=limit::RELAYS),
        cut in any::<prop::sample::Index>(),
    ) -> Parts {
        Parts { n, ids, texts, bytes, byte, flag, outcomes, relays, cut }
    }
}

fn decode_like<'a, M: Message + Deserialize<'a>>(_: &M, body: &'a [u8]) -> Result<M, DecodeError> {
    frame::decode(body)
}

fn kind_of<M: Message>(_: &M) -> u64 {
    M::TYPE
}

/// A message becomes a frame and the same message again, and nothing shorter or longer does.
macro_rules! round_trip {
    ($cut:expr, $($message:expr,)*) => { $({
        let message = $message;
        let (bytes, kind) = (frame::to_bytes(&message), kind_of(&message));
        prop_assert_eq!(frame::split(&bytes[..$cut.index(bytes.len())], limit::FRAME), Ok(None));
        let (frame, used) = frame::split(&bytes, limit::FRAME).unwrap().unwrap();
        prop_assert_eq!((frame.kind, used), (kind, bytes.len()));
        let extended = [frame.body, &[61, 2, 0, 0]].concat();
        let to_understand = [frame.body, &[61, 0, 62, 0]].concat();
        let longer = [frame.body, &[61, 2, 0]].concat();
        let shorter = &frame.body[..$cut.index(frame.body.len())];
        prop_assert_eq!(decode_like(&message, &longer), Err(DecodeError::Malformed(kind)));
        prop_assert_eq!(decode_like(&message, &to_understand), Err(DecodeError::UnknownExtension(kind)));
        prop_assert!(decode_like(&message, &extended).is_ok_and(|read| read == message));
        prop_assert_eq!(decode_like(&message, shorter), Err(DecodeError::Malformed(kind)));
        prop_assert_eq!(decode_like(&message, frame.body), Ok(message));
    })* };
}

/// The same for the bodies of events, which have no frame.
macro_rules! round_trip_body {
    ($($message:expr,)*) => { $({
        let message = $message;
        let bytes = postcard::to_allocvec(&message).unwrap();
        let (back, rest) = postcard::take_from_bytes(&bytes).unwrap();
        prop_assert_eq!((message, 0), (back, rest.len()));
    })* };
}

fn outcome(n: &[u64; 5]) -> Outcome {
    Outcome {
        n: n[0],
        code: Code(n[1]),
        seq: n[2],
        number: n[3],
        at: n[4],
        check: n[0].to_le_bytes()[..4].try_into().unwrap(),
    }
}

fn opened(parts: &Parts) -> Opened<'_> {
    let n = &parts.n;
    Opened {
        conversation: ConversationId(parts.ids[0]),
        generation: n[0],
        first_kept: n[1],
        head: n[2],
        number: n[3],
        start: n[4],
        role: parts.byte,
        last_n: n[5],
        outcomes: Items::encode(parts.outcomes.iter().map(outcome)),
        read: n[6],
        read_number: n[7],
        name: &parts.texts[0],
        members: n[8],
        present: n[9],
    }
}

fn welcome<'a>(parts: &'a Parts, relays: Items<'a, &'a str>) -> Welcome<'a> {
    let n = &parts.n;
    Welcome {
        user: &parts.texts[0],
        generation: n[1],
        time: n[2],
        expires: n[3],
        keepalive: n[4],
        idle_timeout: n[5],
        streams: n[6],
        frame: n[7],
        message: n[8],
        unanswered: n[9],
        unanswered_bytes: n[4],
        rate: n[0],
        burst: n[1],
        relay: &parts.texts[1],
        relays,
        features: Items::encode([n[2], n[3]]),
    }
}

fn target() -> impl Strategy<Value = Target<'static>> {
    let room = "[a-z0-9][a-z0-9._-]{0,62}:[a-z0-9][a-z0-9._-]{0,62}";
    prop_oneof![
        any::<[u8; 16]>().prop_map(|id| Target::Id(ConversationId(id))),
        "[^\\pC]{1,16}".prop_map(|user| Target::Direct(UserId::parse(&user).unwrap())),
        room.prop_map(|name| Target::Room(RoomName::parse(name.leak()).unwrap())),
        any::<[u8; 15]>().prop_map(|random| Target::NewGroup(ConversationId::group(random))),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Now),
        (numbers(), numbers()).prop_map(|(generation, seq)| Start::After { generation, seq }),
        numbers().prop_map(Start::Last),
    ]
}

proptest! {
    #[test]
    fn session_messages_round_trip(parts in parts()) {
        let (n, byte, text) = (parts.n, parts.byte, &*parts.texts[0]);
        let (device, instance) = (DeviceId(parts.ids[0]), InstanceId(parts.ids[1]));
        let conversation = ConversationId(parts.ids[0]);
        round_trip![parts.cut,
            Hello { token: text, device, instance, client: &parts.texts[1], streams: n[0], features: Items::encode([n[1]]) },
            welcome(&parts, Items::encode(parts.relays.iter().map(|relay| &**relay))),
            Refresh { token: text },
            Refreshed { expires: n[0] },
            GoAway { code: Code(n[0]), within: n[1] },
            Presence { user: text, state: byte, last_seen: n[0] },
            Changed {
                conversation, head: n[0], number: n[1], role: byte, name: text, kind: n[0], user: text,
                preview: &parts.texts[1], at: n[1],
            },
            Marked { conversation, seq: n[0], number: n[1] },
            Notice { code: Code(n[0]), text },
            Signal { channel: n[0], user: text, kind: n[1], body: Blob(&parts.bytes) },
        ];
    }

    #[test]
    fn conversation_messages_round_trip(parts in parts()) {
        let ([n, m, o, p, ..], byte, text) = (parts.n, parts.byte, &*parts.texts[0]);
        let body = Blob(&parts.bytes);
        round_trip![parts.cut,
            Post { n, kind: m, body },
            Edit { n, target: m, body },
            Delete { n, target: m },
            React { n, target: m, add: parts.flag, reaction: text },
            Leave { n },
            Add { n, user: text },
            Remove { n, user: text, ban: parts.flag },
            SetRole { n, user: text, role: byte },
            SetTitle { n, title: text },
            Mark { seq: n, number: m },
            opened(&parts),
            Event { seq: n, number: m, at: o, user: text, kind: p, body },
            Accepted { n, seq: m, number: o, at: p },
            Ack { n, seq: m, number: o, at: p },
            Rejected { n, code: Code(m), retry_after: o, info: p },
            Skip { to: n, why: byte },
            End { code: Code(n), retry_after: m, info: o, text },
        ];
    }

    #[test]
    fn request_messages_and_event_bodies_round_trip(parts in parts()) {
        let ([n, m, o, p, q, ..], byte, text) = (parts.n, parts.byte, &*parts.texts[0]);
        let conversation = ConversationId(parts.ids[0]);
        let (body, user) = (Blob(&parts.bytes), text);
        round_trip![parts.cut,
            History { conversation, forward: parts.flag, from: n, limit: m },
            Page { generation: n, first: m, head: o, count: p },
            List { after: conversation, limit: n },
            Entry { conversation, name: text, role: byte, head: n, number: m, at: o, read: p, read_number: q },
            Members { conversation, after: text, limit: n },
            Member { user, role: byte, since: n },
            PresenceIn { conversation, after: text, limit: n },
        ];
        round_trip_body![
            Edited { target: n, body },
            Deleted { target: n },
            Reacted { target: n, add: parts.flag, reaction: text },
            Added { user },
            Removed { user, ban: parts.flag },
            RoleChanged { user, role: byte },
            Titled { title: text },
            Tombstone { by: n },
        ];
    }

    #[test]
    fn opens_round_trip(target in target(), join in numbers(), start in start(), cut in any::<prop::sample::Index>()) {
        let open = Open::new(&target, join, start);
        round_trip![cut, open,];
        prop_assert_eq!((open.target(), open.join, open.start()), (Ok(target.clone()), join, Ok(start)));
    }

    #[test]
    fn lists_keep_their_items(parts in parts()) {
        let outcomes: Vec<_> = parts.outcomes.iter().map(outcome).collect();
        let bytes = frame::to_bytes(&opened(&parts));
        let (frame, _) = frame::split(&bytes, limit::FRAME).unwrap().unwrap();
        let back: Opened<'_> = frame::decode(frame.body).unwrap();
        prop_assert_eq!(back.outcomes.iter().collect::<Vec<_>>(), &outcomes[..]);
        prop_assert_eq!(back.outcomes.is_empty(), outcomes.is_empty());
        let relays: Items<'_, &str> = Items::encode(parts.relays.iter().map(|relay| &**relay));
        prop_assert_eq!(relays.iter().collect::<Vec<_>>(), parts.relays.iter().map(|r| &**r).collect::<Vec<_>>());
    }

    #[test]
    fn damaged_frames_never_panic(which in any::<prop::sample::Index>(), damage in damage()) {
        let samples = common::samples();
        let mut bytes = samples[which.index(samples.len())].golden.clone();
        for (at, byte, insert) in damage {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, byte) } else { bytes[at] ^= byte }
        }
        read_all(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
        for sample in common::samples() {
            read(Frame { kind: sample.kind, body: &bytes });
        }
    }

    #[test]
    fn a_stream_splits_alike_however_it_is_cut(
        which in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        cuts in prop::collection::vec(1..40usize, 1..40),
    ) {
        let samples: Vec<_> = common::samples().into_iter().filter(|s| s.from != common::From::Both).collect();
        let sent: Vec<_> = which.iter().map(|index| index.get(&samples)).collect();
        let stream = sent.iter().flat_map(|sample| sample.golden.clone()).collect::<Vec<_>>();
        let (mut buffer, mut arrived, mut received) = (Vec::new(), 0, Vec::new());
        for size in cuts.iter().cycle() {
            let next = stream.len().min(arrived + size);
            buffer.extend_from_slice(&stream[arrived..next]);
            arrived = next;
            while let Some((frame, used)) = frame::split(&buffer, limit::FRAME).unwrap() {
                received.push((frame.kind, frame.body.to_vec()));
                buffer.drain(..used);
            }
            let whole: usize = sent.iter().take(received.len()).map(|sample| sample.golden.len()).sum();
            prop_assert_eq!(whole + buffer.len(), arrived, "a frame came early or late");
            if arrived == stream.len() { break }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(received, sent.iter().map(|sample| (sample.kind, sample.body.to_vec())).collect::<Vec<_>>());
    }
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, bool)>> {
    let byte = prop_oneof![Just(0xff), Just(0x80), any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), byte, any::<bool>()), 1..6)
}

/// Reads bytes as a stream and as a datagram, and everything that can be looked at in what comes out.
fn read_all(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = frame::split(rest, limit::FRAME) {
        assert!((2..=rest.len()).contains(&used), "no progress");
        read(frame);
        rest = &rest[used..];
    }
    if let Ok(frame) = frame::from_datagram(bytes) {
        let _ = frame::decode::<Signal<'_>>(frame.body);
    }
}

fn read(frame: Frame<'_>) {
    match ToRelay::decode(frame) {
        Ok(Some(ToRelay::Open(open))) => drop((open.target(), open.start())),
        Ok(Some(message)) => drop(format!("{message:?}")),
        _ => {}
    }
    match ToClient::decode(frame) {
        Ok(Some(ToClient::Opened(opened))) => assert!(opened.outcomes.iter().count() <= 64),
        Ok(Some(ToClient::Welcome(welcome))) => assert!(welcome.relays.iter().count() <= limit::RELAYS),
        Ok(Some(ToClient::Event(event))) => read_event(event.body.0),
        _ => {}
    }
    read_event(frame.body);
}

fn read_event(body: &[u8]) {
    let _ = postcard::from_bytes::<Edited<'_>>(body);
    let _ = postcard::from_bytes::<Reacted<'_>>(body);
    let _ = postcard::from_bytes::<Removed<'_>>(body);
    let _ = postcard::from_bytes::<RoleChanged<'_>>(body);
}

fn one_list(of_outcomes: usize) -> Result<usize, DecodeError> {
    let one = Outcome { n: 1, code: Code::DONE, seq: 1, number: 1, at: 1, check: [1; 4] };
    let message = Opened {
        conversation: common::GROUP,
        generation: 1,
        first_kept: 1,
        head: 1,
        number: 1,
        start: 1,
        role: 1,
        last_n: 1,
        outcomes: Items::encode(std::iter::repeat_n(one, of_outcomes)),
        read: 0,
        read_number: 0,
        name: "",
        members: 1,
        present: 1,
    };
    let bytes = frame::to_bytes(&message);
    let (frame, _) = frame::split(&bytes, limit::FRAME).unwrap().unwrap();
    frame::decode::<Opened<'_>>(frame.body).map(|opened| opened.outcomes.iter().count())
}

#[test]
fn a_list_over_its_bound_is_malformed() {
    let most = limit::UNANSWERED as usize;
    assert_eq!(one_list(most), Ok(most));
    assert_eq!(one_list(most + 1), Err(DecodeError::Malformed(Opened::TYPE)));

    let relays = |count: usize| postcard::to_allocvec(&Items::encode(std::iter::repeat_n("", count))).unwrap();
    let read = |bytes: &[u8]| postcard::from_bytes::<Items<'_, &str>>(bytes).map(|items| items.iter().count()).ok();
    assert_eq!(read(&relays(limit::RELAYS)), Some(limit::RELAYS));
    assert_eq!(read(&relays(limit::RELAYS + 1)), None);
    assert_eq!(read(&[2, 1, b'a']), Some(1));
    assert_eq!(read(&[1, 1, b'a']), None, "an item that goes on after its list");
    assert_eq!(read(&[2, 1, 0xff]), None, "an item that is not text");
}

#[test]
fn the_largest_content_fits_into_a_frame() {
    let content = vec![0; limit::MESSAGE];
    let user = "u".repeat(limit::USER);
    let edited = postcard::to_allocvec(&Edited { target: u64::MAX, body: Blob(&content) }).unwrap();
    let (seq, number, at, kind) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    let event = Event { seq, number, at, user: &user, kind, body: Blob(&edited) };
    let bytes = frame::to_bytes(&event);
    assert!(frame::split(&bytes, limit::FRAME).unwrap().is_some());
    let token = "t".repeat(limit::TOKEN);
    let (device, instance, features) = (common::DEVICE, common::INSTANCE, Items::encode([u64::MAX; limit::FEATURES]));
    let hello = Hello { token: &token, device, instance, client: "", streams: 1, features };
    assert!(frame::to_bytes(&hello).len() < limit::FRAME);
    let signal = Signal { channel: u64::MAX, user: &user, kind: u64::MAX, body: Blob(&content[..limit::SIGNAL]) };
    // A QUIC packet is at least 1,200 bytes of UDP payload; header, packet number, tag and frame head take up to 50.
    assert!(frame::to_datagram(&signal).len() <= 1150);
}
