//! Every message once, with the bytes that it is and will always be.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod wire;

use std::fmt::Debug;

use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, Event, InstanceId, Items, Message, RoomName,
    conversation::{
        Accepted, Ack, Add, Delete, Edit, End, Leave, Mark, Open, Opened, Outcome, Post, React, Rejected, Remove,
        SetRole, SetTitle, Skip, Start, Target,
    },
    event, frame,
    request::{Entry, History, List, Member, Members, Page, PresenceIn},
    session::{Changed, GoAway, Hello, Marked, Notice, Presence, Refresh, Refreshed, Signal, Welcome},
};
use serde::Deserialize;

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Relay,
    /// Either, as a datagram.
    Both,
}

/// One message.
pub(crate) struct Sample {
    pub(crate) from: From,
    pub(crate) name: &'static str,
    pub(crate) kind: u64,
    /// What the crate encodes: a frame, or the content of a datagram.
    pub(crate) encoded: Vec<u8>,
    /// What it must encode.
    pub(crate) golden: Vec<u8>,
    /// The message's body within `golden`.
    pub(crate) body: &'static [u8],
    /// Its fields in order.
    pub(crate) fields: Vec<String>,
    /// Whether `golden` decodes to the message that `encoded` came from.
    pub(crate) decodes: bool,
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {hex}");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect(hex);
    digits.chunks(2).map(byte).collect()
}

/// The last part of a type's name: what a message is called in WIRE.md.
pub(crate) fn name_of<M>() -> &'static str {
    let name = std::any::type_name::<M>().split('<').next().unwrap();
    name.rsplit("::").next().unwrap()
}

/// The names of a struct's fields in order, as its derived `Debug` has them.
pub(crate) fn fields_of(value: &impl Debug) -> Vec<String> {
    let pretty = format!("{value:#?}");
    let outer = pretty.lines().filter_map(|line| line.strip_prefix("    "));
    outer
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.to_owned()))
        .collect()
}

fn sample<M>(from: From, message: M, hex: &str) -> Sample
where
    M: Message + Deserialize<'static> + PartialEq + Debug,
{
    let golden = unhex(hex);
    let bytes: &'static [u8] = golden.clone().leak();
    let (encoded, read) = if from == From::Both {
        (frame::to_datagram(&message).to_vec(), frame::from_datagram(bytes).unwrap())
    } else {
        let (read, used) = frame::split(bytes, bytes.len()).unwrap().expect("a whole frame");
        assert_eq!(used, bytes.len(), "{hex} is more than a frame");
        (frame::to_bytes(&message).to_vec(), read)
    };
    let decodes = read.kind == M::TYPE && frame::decode::<M>(read.body).as_ref() == Ok(&message);
    let fields = fields_of(&message);
    Sample { from, name: name_of::<M>(), kind: M::TYPE, encoded, golden, body: read.body, fields, decodes }
}

pub(crate) const GROUP: ConversationId =
    ConversationId([2, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f]);
pub(crate) const DEVICE: DeviceId = DeviceId(*b"\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xdb\xdc\xdd\xde\xdf");
pub(crate) const INSTANCE: InstanceId =
    InstanceId(*b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf");
/// A byte that would begin a longer varint.
const HIGH: u8 = 0xfe;

/// An `Open` that borrows for ever.
pub(crate) fn open(target: Target<'static>, join: u64, start: Start) -> Open<'static> {
    Open::new(Box::leak(Box::new(target)), join, start)
}

/// Every message once.
pub(crate) fn samples() -> Vec<Sample> {
    [session(), commands(), answers(), requests()].into_iter().flatten().collect()
}

fn session() -> Vec<Sample> {
    let token = "jwt";
    let hello = Hello {
        token,
        device: DEVICE,
        instance: INSTANCE,
        client: "ü 1",
        streams: 128,
        features: Items::encode([61, 300]),
    };
    let welcome = Welcome {
        user: "alice",
        generation: u64::MAX,
        time: 1_700_000_000_000,
        expires: 1 << 63,
        keepalive: 10_000,
        idle_timeout: 30_000,
        streams: 1024,
        frame: 65_536,
        message: 16_384,
        unanswered: 64,
        unanswered_bytes: 196_608,
        rate: 50,
        burst: 300,
        relay: "r1",
        relays: Items::encode(["a:1", "bb:22"]),
        features: Items::encode([125]),
    };
    let time = 1_700_000_000_000;
    let signal = Signal { channel: 400, user: "bob", kind: 1000, body: Blob(b"\xff\0") };
    vec![
        sample(
            From::Client,
            hello,
            "30 02 036a7774 d0d1d2d3d4d5d6d7d8d9dadbdcdddedf a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 04c3bc2031 8001 03 3d ac02",
        ),
        sample(From::Client, Refresh { token: "jwt2" }, "06 04 046a777432"),
        sample(
            From::Relay,
            welcome,
            "45 10 05616c696365 ffffffffffffffffff01 80d095ffbc31 80808080808080808001 904e b0ea01 8008 808004
             808001 40 80800c 32 ac02 027231 0a 03613a31 0562623a3232 01 7d",
        ),
        sample(From::Relay, Refreshed { expires: time }, "07 12 80d095ffbc31"),
        sample(From::Relay, GoAway { code: Code::SHUTDOWN, within: 5000 }, "05 14 c101 8827"),
        sample(From::Relay, Presence { user: "bob", state: 2, last_seen: time }, "0c 15 03626f62 02 80d095ffbc31"),
        sample(
            From::Relay,
            Changed {
                conversation: GROUP,
                head: 300,
                number: 200,
                role: HIGH,
                name: "Tea",
                kind: 1000,
                user: "bob",
                preview: "ü",
                at: time,
            },
            "29 17 028182838485868788898a8b8c8d8e8f ac02 c801 fe 03546561 e807 03626f62 02c3bc 80d095ffbc31",
        ),
        sample(
            From::Relay,
            Marked { conversation: GROUP, seq: 300, number: 200 },
            "15 19 028182838485868788898a8b8c8d8e8f ac02 c801",
        ),
        sample(From::Relay, Notice { code: Code(0xff3), text: "ß" }, "06 1b f31f 02c39f"),
        sample(From::Both, signal, "61 9003 03626f62 e807 02ff00"),
    ]
}

fn commands() -> Vec<Sample> {
    let room = Target::Room(RoomName::parse("lobby:main").unwrap());
    let mut opening = open(room, 129, Start::After { generation: u64::MAX, seq: 70_000 });
    (opening.channel, opening.digest) = (300, [0xd0, 0xd1, 0xd2, 0xd3]);
    let user = "carol";
    vec![
        sample(
            From::Client,
            opening,
            "23 20 02 0a6c6f6262793a6d61696e 8101 ac02 01 ffffffffffffffffff01 f0a204 d0d1d2d3",
        ),
        sample(
            From::Client,
            Post { n: 128, kind: event::kind::DATA, body: Blob(b"\0\xff\xfe") },
            "08 22 8001 02 0300fffe",
        ),
        sample(From::Client, Edit { n: 129, target: 300, body: Blob(b"\xff") }, "07 24 8101 ac02 01ff"),
        sample(From::Client, Delete { n: 130, target: 301 }, "05 26 8201 ad02"),
        sample(From::Client, React { n: 131, target: 302, add: true, reaction: "👍" }, "0b 28 8301 ae02 01 04f09f918d"),
        sample(From::Client, Leave { n: 132 }, "03 2a 8401"),
        sample(From::Client, Add { n: 133, user }, "09 2c 8501 056361726f6c"),
        sample(From::Client, Remove { n: 134, user, ban: true }, "0a 2e 8601 056361726f6c 01"),
        sample(From::Client, SetRole { n: 135, user, role: HIGH }, "0a 30 8701 056361726f6c fe"),
        sample(From::Client, SetTitle { n: 136, title: "Tea" }, "07 32 8801 03546561"),
        sample(From::Client, Mark { seq: 300, number: 200 }, "05 34 ac02 c801"),
    ]
}

fn answers() -> Vec<Sample> {
    let outcomes = [
        Outcome { n: 304, code: Code::FORBIDDEN, seq: 0, number: 0, at: 1000, check: [1, 2, 3, 4] },
        Outcome { n: 305, code: Code::DONE, seq: 300, number: 200, at: 2000, check: [5, 6, 7, 8] },
    ];
    let opened = Opened {
        conversation: GROUP,
        generation: 300,
        first_kept: 301,
        head: 302,
        number: 303,
        start: 304,
        role: HIGH,
        last_n: 305,
        outcomes: Items::encode(outcomes),
        read: 306,
        read_number: 307,
        name: "Tea",
        members: 308,
        present: 309,
    };
    let at = 1_700_000_000_000;
    let event = Event { seq: 300, number: 200, at, user: "bob", kind: event::kind::DATA, body: Blob(b"\0\xff") };
    vec![
        sample(
            From::Relay,
            opened,
            "43 50 028182838485868788898a8b8c8d8e8f ac02 ad02 ae02 af02 b002 fe b102
             18 b002 43 00 00 e807 01020304  b102 02 ac02 c801 d00f 05060708  b202 b302 03546561 b402 b502",
        ),
        sample(From::Relay, event, "13 52 ac02 c801 80d095ffbc31 03626f62 02 0200ff"),
        sample(From::Relay, Accepted { n: 128, seq: 300, number: 200, at: 1000 }, "09 54 8001 ac02 c801 e807"),
        sample(From::Relay, Ack { n: 129, seq: 301, number: 201, at: 1001 }, "09 56 8101 ad02 c901 e907"),
        sample(
            From::Relay,
            Rejected { n: 130, code: Code::BUSY, retry_after: 1500, info: 129 },
            "09 58 8201 8301 dc0b 8101",
        ),
        sample(From::Relay, Skip { to: 300, why: HIGH }, "04 5a ac02 fe"),
        sample(
            From::Relay,
            End { code: Code::BEHIND, retry_after: 1500, info: 300, text: "later" },
            "0d 5c c001 dc0b ac02 056c61746572",
        ),
    ]
}

fn requests() -> Vec<Sample> {
    let (conversation, after, limit) = (GROUP, "bob", 200);
    let entry =
        Entry { conversation, name: "Tea", role: HIGH, head: 300, number: 301, at: 302, read: 303, read_number: 304 };
    vec![
        sample(
            From::Client,
            History { conversation, forward: true, from: 300, limit },
            "16 40 028182838485868788898a8b8c8d8e8f 01 ac02 c801",
        ),
        sample(From::Client, List { after: GROUP, limit }, "13 42 028182838485868788898a8b8c8d8e8f c801"),
        sample(
            From::Client,
            Members { conversation, after, limit },
            "17 44 028182838485868788898a8b8c8d8e8f 03626f62 c801",
        ),
        sample(
            From::Client,
            PresenceIn { conversation, after, limit },
            "17 46 028182838485868788898a8b8c8d8e8f 03626f62 c801",
        ),
        sample(
            From::Relay,
            Page { generation: u64::MAX, first: 300, head: 301, count: 302 },
            "11 70 ffffffffffffffffff01 ac02 ad02 ae02",
        ),
        sample(From::Relay, entry, "20 72 028182838485868788898a8b8c8d8e8f 03546561 fe ac02 ad02 ae02 af02 b002"),
        sample(From::Relay, Member { user: "bob", role: HIGH, since: 300 }, "08 74 03626f62 fe ac02"),
    ]
}
