//! Rows as bytes. Each golden value is a stored format: it changes only with a new version byte.

use bytes::Bytes;
use proptest::prelude::*;
use quip_core::{
    ConversationRow, EditsRow, EventRow, MarkRow, MemberRow, MemberState, Naming, Origin, Policy, Recorded, RowError,
    SendsRow, UserRow, row,
};
use quip_protocol::Code;

use crate::world::{device, user};

fn conversation(naming: Naming) -> ConversationRow {
    ConversationRow {
        created_at: 1_700_000_000_000,
        head: 300,
        number: 200,
        first_kept: 1,
        last_at: 1_700_000_000_001,
        members: 2,
        owners: 1,
        policy: Policy { history_open: true, joins_shown: true },
        naming,
    }
}

fn member() -> MemberRow {
    MemberRow { state: MemberState::Banned, role: 2, from: 5, to: 300, number: 4, at: 1000 }
}

fn event() -> EventRow {
    EventRow { user: user("ann"), device: device(0xdd), n: 300, frame: Bytes::from_static(b"frame") }
}

fn edits() -> EditsRow {
    let at = 1_700_000_000_000;
    let edit = |seq, number, at, of, n| Origin { seq, number, at, device: device(of), n };
    EditsRow {
        edits: vec![
            edit(300, 200, at, 0xdd, 9),
            edit(301, 200, at, 0xdd, 10),
            edit(303, 201, at + 200, 0xee, 1),
            edit(304, 201, at + 201, 0xee, 2),
        ],
    }
}

fn sends() -> SendsRow {
    let at = 1_700_000_000_000;
    let recorded = |code, seq, number, at, hash| Recorded { code, seq, number, at, hash };
    SendsRow {
        last: 9,
        latest: [
            recorded(Code::DONE, 300, 200, at, 0x0807_0605_0403_0201),
            recorded(Code::FORBIDDEN, 0, 0, at - 1, u64::MAX),
            recorded(Code::DONE, 0, 0, at, 0),
            recorded(Code::DONE, 305, 204, at + 64, 1),
        ]
        .into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn joined(parts: &[&str]) -> String {
    parts.concat()
}

#[test]
fn golden_conversation() {
    // version | created_at | head | number | first_kept | last_at | members | owners | policy
    let head = ["01", "80d095ffbc31", "ac02", "c801", "01", "81d095ffbc31", "02", "01", "03"].concat();
    for (naming, rest) in [
        (Naming::Direct(user("ann"), user("bob")), ["01", "03616e6e", "03626f62"]),
        (Naming::Group("Us".into()), ["02", "025573", "00"]),
        (Naming::Room("a:b".into(), "T".into()), ["03", "03613a62", "0154"]),
    ] {
        let row = conversation(naming);
        assert_eq!(hex(&row.encode()), head.clone() + &rest.concat());
        assert_eq!(ConversationRow::decode(&row.encode()), Ok(row));
    }
}

#[test]
fn golden_member() {
    // version | state | role | from | to | number | at
    assert_eq!(hex(&member().encode()), joined(&["01", "03", "02", "05", "ac02", "04", "e807"]));
    for (state, byte) in [(MemberState::Member, 1), (MemberState::Left, 2), (MemberState::Banned, 3)] {
        let row = MemberRow { state, to: u64::MAX, ..member() };
        assert_eq!(row.encode()[1], byte);
        assert_eq!(MemberRow::decode(&row.encode()), Ok(row));
    }
}

#[test]
fn golden_mark() {
    // version | seq | number
    let row = MarkRow { seq: 300, number: 2 };
    assert_eq!(hex(&row.encode()), joined(&["01", "ac02", "02"]));
    assert_eq!(MarkRow::decode(&row.encode()), Ok(row));
}

#[test]
fn golden_user() {
    // version | seen
    let row = UserRow { seen: 1_700_000_000_000 };
    assert_eq!(hex(&row.encode()), joined(&["01", "80d095ffbc31"]));
    assert_eq!(UserRow::decode(&row.encode()), Ok(row));
}

#[test]
fn golden_event() {
    // version | user | device | n | frame
    let bytes = event().encode();
    assert_eq!(hex(&bytes), joined(&["01", "03616e6e", &"dd".repeat(16), "ac02", "6672616d65"]));
    assert_eq!(EventRow::decode(&bytes), Ok(event()));
    assert_eq!(EventRow::frame_of(&bytes), Ok(&b"frame"[..]));
}

#[test]
fn golden_edits() {
    // version | count | edits: seq more | number more | time more | n | 00, or 01 and another device
    let edits_as_stored = [
        joined(&["ac02", "c801", "80d095ffbc31", "09", "01", &"dd".repeat(16)]),
        joined(&["01", "00", "00", "0a", "00"]),
        joined(&["02", "01", "c801", "01", "01", &"ee".repeat(16)]),
        joined(&["01", "00", "01", "02", "00"]),
    ];
    assert_eq!(hex(&edits().encode()), joined(&["01", "04"]) + &edits_as_stored.concat());
    assert_eq!(EditsRow::decode(&edits().encode()), Ok(edits()));
}

#[test]
fn golden_sends() {
    // version | last | count | outcomes: code | seq more | number more (with an event) | time difference | hash
    let outcomes = [
        joined(&["02", "ac02", "c801", "80a0abfef962", "0102030405060708"]),
        joined(&["43", "00", "01", "ffffffffffffffff"]),
        joined(&["02", "00", "02", "0000000000000000"]),
        joined(&["02", "05", "04", "8001", "0100000000000000"]),
    ];
    assert_eq!(hex(&sends().encode()), joined(&["01", "09", "04"]) + &outcomes.concat());
    assert_eq!(SendsRow::decode(&sends().encode()), Ok(sends()));
}

#[test]
fn an_outcome_takes_at_most_sixteen_bytes() {
    // A device that posts every ten minutes into a conversation with 100 messages between its own.
    let mut row = sends();
    row.last = 64;
    row.latest = (0..64)
        .map(|i| {
            let place = 1_000_000 + i * 100;
            Recorded {
                code: Code::DONE,
                seq: place,
                number: place,
                at: 1_700_000_000_000 + i * 600_000,
                hash: u64::MAX,
            }
        })
        .collect();
    let bytes = row.encode().len();
    assert!(bytes <= 64 * 16, "{bytes}");
}

fn outcomes(count: u64) -> impl Iterator<Item = Recorded> {
    (1..=count).map(|n| Recorded { code: Code::DONE, seq: n * 2, number: n, at: n * 7, hash: n })
}

/// What lies at the places after commits of these sizes, which must fit together after each.
fn stored(commits: &[u64]) -> (std::collections::BTreeMap<u8, Vec<u8>>, SendsRow) {
    let (mut places, mut row) = (std::collections::BTreeMap::new(), SendsRow::default());
    let mut recorded = outcomes(commits.iter().sum());
    for commit in commits {
        let before = row.last;
        recorded.by_ref().take(*commit as usize).for_each(|recorded| row.push(recorded));
        places.extend(row.parts(before).map(|(place, part)| (place, part.encode())));
        let parts = places.values().map(|part| SendsRow::decode(part).unwrap()).collect();
        assert_eq!(SendsRow::from_parts(parts), (row.last > 0).then(|| row.clone()));
    }
    (places, row)
}

#[test]
fn a_command_writes_one_part_and_all_parts_hold_what_is_promised() {
    let (places, row) = stored(&[1; 200]);
    assert!(places.len() == 9 && row.latest.len() == 72 && row.last == 200, "{} {}", places.len(), row.latest.len());
    let (place, part) = row.parts(199).next().unwrap();
    assert!(row.parts(199).count() == 1 && part.encode().len() < 120, "{} bytes", part.encode().len());
    assert_eq!((place, part.last, part.latest.len()), (24 % 9, 200, 8));
    assert_eq!(SendsRow::from_parts(vec![]), None);
    let parts = [part.clone(), SendsRow { last: 191, latest: part.latest }];
    assert_eq!(SendsRow::from_parts(parts.into()), None, "one between them is missing");
}

type Decode = fn(&[u8]) -> Result<(), RowError>;

/// Every kind of row through one lens.
fn all() -> Vec<(&'static str, Vec<u8>, Decode)> {
    vec![
        ("conversation", conversation(Naming::Group("Us".into())).encode(), |b| ConversationRow::decode(b).map(drop)),
        ("member", member().encode(), |b| MemberRow::decode(b).map(drop)),
        ("mark", MarkRow { seq: 300, number: 2 }.encode(), |b| MarkRow::decode(b).map(drop)),
        ("sends", sends().encode(), |b| SendsRow::decode(b).map(drop)),
        ("edits", edits().encode(), |b| EditsRow::decode(b).map(drop)),
        ("event", event().encode(), |b| EventRow::decode(b).map(drop)),
        ("event", event().encode(), |b| EventRow::frame_of(b).map(drop)),
        ("user", UserRow { seen: 300 }.encode(), |b| UserRow::decode(b).map(drop)),
    ]
}

#[test]
fn another_version_is_said_to_be_one() {
    for (row, mut bytes, decode) in all() {
        for version in [0, row::VERSION + 1, 255] {
            bytes[0] = version;
            assert_eq!(decode(&bytes), Err(RowError::UnknownVersion { row, version }));
        }
        assert_eq!(decode(&[]), Err(RowError::Malformed { row }));
    }
}

#[test]
fn rows_that_are_too_short_or_too_long() {
    for (row, bytes, decode) in all() {
        let fixed = if row == "event" { bytes.len() - event().frame.len() } else { bytes.len() };
        for length in 1..fixed {
            assert_eq!(decode(&bytes[..length]), Err(RowError::Malformed { row }), "{row} of {length} bytes");
        }
        let longer = [&bytes[..], b"xy"].concat();
        let expected = if row == "event" { Ok(()) } else { Err(RowError::Trailing { row, left: 2 }) };
        assert_eq!(decode(&longer), expected, "the frame is what is left; every other row has an end");
    }
}

#[test]
fn what_no_row_says_is_refused() {
    let sends = |bytes: &[u8]| SendsRow::decode(bytes).unwrap_err();
    assert_eq!(
        sends(&[1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        RowError::Malformed { row: "sends" },
        "more than last"
    );
    assert_eq!(sends(&[1, 200, 1, 65]), RowError::Malformed { row: "sends" }, "more than are kept");
    let edits = |bytes: &[u8]| EditsRow::decode(bytes).unwrap_err();
    let malformed = RowError::Malformed { row: "edits" };
    assert_eq!(edits(&[1, 201, 1]), malformed, "more than there may be");
    assert_eq!(edits(&[1, 1, 0, 0, 0, 0, 0]), malformed, "an edit is after what it edits");
    assert_eq!(edits(&[1, 1, 9, 0, 0, 0, 2]), malformed, "a device is the same or another");
    let mut row = member().encode();
    row[1] = 4;
    assert_eq!(MemberRow::decode(&row), Err(RowError::Malformed { row: "member" }), "no such state");
    let mut row = event().encode();
    row[2] = b'\n';
    assert_eq!(EventRow::decode(&row), Err(RowError::Malformed { row: "event" }), "no user is called that");
    let mark = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0];
    assert_eq!(MarkRow::decode(&mark), Err(RowError::Malformed { row: "mark" }), "over 64 bits");
}

proptest! {
    #[test]
    fn parts_are_the_same_whatever_was_committed_together(commits in prop::collection::vec(0..150u64, 0..8)) {
        let together = stored(&commits);
        prop_assert_eq!(&together, &stored(&vec![1; commits.iter().sum::<u64>() as usize]));
        prop_assert!(together.1.last < 64 || together.1.latest.len() >= 64);
    }

    #[test]
    fn any_sends_row_comes_back(
        latest in prop::collection::vec((any::<u64>(), prop_oneof![Just(0), any::<u64>()], any::<u64>(), any::<u64>(), any::<u64>()), 0..=64),
        more in 0..1000u64,
    ) {
        let latest: std::collections::VecDeque<_> = latest
            .into_iter()
            .map(|(code, seq, number, at, hash)| {
                let number = if seq == 0 { 0 } else { number };
                Recorded { code: Code(code), seq, number, at, hash }
            })
            .collect();
        // Two outcomes in a row are never of one event.
        prop_assume!(latest.iter().filter(|r| r.seq > 0).map(|r| r.seq).collect::<Vec<_>>().windows(2).all(|w| w[0] != w[1]));
        let row = SendsRow { last: latest.len() as u64 + more, latest };
        prop_assert_eq!(SendsRow::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn any_edits_row_comes_back(
        edits in prop::collection::vec((1..u64::MAX / 200, 0..u64::MAX / 200, 0..u64::MAX / 200, 0..3u8, any::<u64>()), 0..=200),
    ) {
        let mut last = (0, 0, 0);
        let edits = edits.into_iter().map(|(seq, number, at, of, n)| {
            last = (last.0 + seq, last.1 + number, last.2 + at);
            Origin { seq: last.0, number: last.1, at: last.2, device: device(of), n }
        });
        let row = EditsRow { edits: edits.collect() };
        prop_assert_eq!(EditsRow::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn any_member_row_comes_back(role: u8, from: u64, to: u64, number: u64, at: u64) {
        let row = MemberRow { state: MemberState::Left, role, from, to, number, at };
        prop_assert_eq!(MemberRow::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn damaged_rows_never_panic(which in 0..8usize, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let (_, mut bytes, decode) = all().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = decode(&bytes);
    }
}
