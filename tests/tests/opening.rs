//! Opening and send numbers at their edges: names, cursors, repeats, gaps, content that is none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quip_protocol::{
    Blob, Code, ConversationId, Message,
    conversation::{Add, Edit, Open, Post, React, Remove, SetRole, SetTitle, Skip, Start, Target},
    event::kind,
    frame, limit,
};
use quip_tests::{
    calm::Calm,
    raw::{Raw, RawOptions, raw_frame, varint},
    relay::Relay,
    talk::{Answer, FROM_THE_START, Seen, room},
};

#[tokio::test]
async fn a_newer_open_replaces_an_older_one_without_a_round_trip() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let (mut first, opening) = alice.enter(&room("other:room")).await?;
    // What the older stream carries is decided or not when the newer one opens. Either way it takes effect once.
    for n in 2..40 {
        first.post(n, "on the older stream").await?;
        let mut second = alice.stream().await?;
        second.send(&Open::new(&Target::Id(opening.id), 0, Start::Now)).await?;
        second.post(n, "on the older stream").await?;
        assert_eq!(first.rest().await?.1, Code::REOPENED);
        second.frame().await?.opened()?;
        while second.frame().await?.answer().is_none_or(|answer| answer.n() != n || answer.code() != Code::DONE) {}
        first = second;
    }
    first.send.finish()?;
    first.halves().1.skip_to_end().await?;
    let texts = alice.history(opening.id).await?.iter().filter(|event| event.kind == kind::TEXT).count();
    assert_eq!(texts, 38);
    calm.whole().await
}

#[tokio::test]
async fn a_stream_that_is_not_read_any_more_is_reset_at_once() -> Result<()> {
    let calm = Calm::new("").await?;
    let mut alice = Raw::login(&calm.relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    stream.recv.stop(quinn::VarInt::from_u32(0))?;
    assert_eq!(stream.stop_code().await?, Code::BYE, "the relay ends its other half too");
    let (mut again, _) = alice.reopen(&Target::Id(opening.id), Start::Now).await?;
    again.post_accepted(2, "again").await?;
    let mut session = alice.session.take().context("a session")?;
    session.recv.stop(quinn::VarInt::from_u32(0))?;
    assert_eq!(alice.close_code().await?, Code::BYE, "without its session stream a connection is over");
    calm.whole().await
}

#[tokio::test]
async fn content_is_checked_before_it_uses_up_its_number() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    let largest = vec![b'x'; limit::MESSAGE];
    let over = vec![b'x'; limit::MESSAGE + 1];
    let long = "x".repeat(limit::TITLE + 1);
    stream.send(&Post { n: 2, kind: kind::TEXT, body: Blob(&largest) }).await?;
    assert_eq!(stream.seen().await?.n, Some(2));

    let text = |body| frame::to_bytes(&Post { n: 3, kind: kind::TEXT, body: Blob(body) });
    let refused = [
        ("a text over the limit", text(&over), Code::MESSAGE_TOO_LARGE),
        ("an empty text", text(b""), Code::MESSAGE_EMPTY),
        ("a text that is not UTF-8", text(&[b'a', 0xc0, 0xaf]), Code::NOT_UTF8),
        (
            "data over the limit",
            frame::to_bytes(&Post { n: 3, kind: kind::DATA, body: Blob(&over) }),
            Code::MESSAGE_TOO_LARGE,
        ),
        ("empty data", frame::to_bytes(&Post { n: 3, kind: kind::DATA, body: Blob(b"") }), Code::MESSAGE_EMPTY),
        (
            "an edit over the limit",
            frame::to_bytes(&Edit { n: 3, target: 2, body: Blob(&over) }),
            Code::MESSAGE_TOO_LARGE,
        ),
        ("an empty edit", frame::to_bytes(&Edit { n: 3, target: 2, body: Blob(b"") }), Code::MESSAGE_EMPTY),
        ("no reaction", frame::to_bytes(&React { n: 3, target: 2, add: true, reaction: "" }), Code::MESSAGE_EMPTY),
        (
            "a long reaction",
            frame::to_bytes(&React { n: 3, target: 2, add: true, reaction: &long }),
            Code::MESSAGE_TOO_LARGE,
        ),
        ("a long title", frame::to_bytes(&SetTitle { n: 3, title: &long }), Code::MESSAGE_TOO_LARGE),
        ("a user with a line break", frame::to_bytes(&Add { n: 3, user: "a\nb" }), Code::INVALID_NAME),
        ("no user", frame::to_bytes(&Remove { n: 3, user: "", ban: true }), Code::INVALID_NAME),
        ("a long user", frame::to_bytes(&Remove { n: 3, user: &long, ban: true }), Code::INVALID_NAME),
        ("a role of 4", frame::to_bytes(&SetRole { n: 3, user: "bob", role: 4 }), Code::INVALID_NAME),
        ("a role of 0", frame::to_bytes(&SetRole { n: 3, user: "bob", role: 0 }), Code::INVALID_NAME),
    ];
    for (name, bytes, code) in refused {
        stream.bytes(&bytes).await?;
        stream.post(4, "an earlier one was refused").await?;
        let answer = stream.answer().await?;
        assert_eq!((answer.n(), answer.code()), (3, code), "{name}");
    }
    stream.send(&Post { n: 3, kind: kind::DATA, body: Blob(&[0xff, 0]) }).await?;
    assert_eq!(stream.seen().await?.n, Some(3), "the same number, other content");
    let history = alice.history(opening.id).await?;
    assert_eq!(history.iter().map(|event| event.body.len()).collect::<Vec<_>>(), [0, limit::MESSAGE, 2]);
    calm.whole().await
}

#[tokio::test]
async fn invalid_names_open_nothing() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let long = format!("{}:x", "a".repeat(limit::ROOM_PART + 1));
    for name in ["Lobby:main", "lobby:Main", "lobby", "lobby:", ":main", "a:b:c", "-a:b", "a:b c", "ä:b", &long] {
        assert_eq!(open_by_bytes(&alice, 2, name.as_bytes()).await?, Code::INVALID_NAME, "{name}");
    }
    let longest = format!("{0}:{0}", "a".repeat(limit::ROOM_PART));
    let (mut stream, _) = alice.enter(&room(&longest)).await?;
    stream.post_accepted(2, "the longest name").await?;
    for user in [&b""[..], b"a\tb", &[b'u'; limit::USER + 1], &[0xff]] {
        assert_eq!(open_by_bytes(&alice, 1, user).await?, Code::INVALID_NAME, "{user:?}");
    }
    for (kind, id) in [(0, &[3; 15][..]), (0, &[3; 17]), (3, &[3; 16]), (4, &[3; 16])] {
        assert_eq!(open_by_bytes(&alice, kind, id).await?, Code::INVALID_NAME, "{kind} {id:?}");
    }
    assert_eq!(open_by_bytes(&alice, 0, &[0; 16]).await?, Code::NOT_FOUND, "a kind that is not in use");
    calm.whole().await
}

/// Joins what has any name, and says why not.
async fn open_by_bytes(raw: &Raw, target_kind: u8, target: &[u8]) -> Result<Code> {
    let body = [&[target_kind][..], &varint(target.len() as u64), target, &[1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut stream = raw.stream().await?;
    stream.bytes(&raw_frame(Open::TYPE, &body)).await?;
    Ok(stream.frame().await?.end()?.0)
}

#[tokio::test]
async fn old_and_far_numbers_change_nothing() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    for n in 2..=70 {
        stream.post_accepted(n, "content").await?;
    }
    stream.post(6, "content").await?;
    assert_eq!(stream.answer().await?.code(), Code::KNOWN, "its outcome is no longer kept");
    stream.post(7, "content").await?;
    let Answer::Ack(ack) = stream.answer().await? else { panic!("an Ack for what is still remembered") };
    assert_eq!((ack.n, ack.seq), (7, 7));
    stream.post(8, "other content").await?;
    assert_eq!(stream.answer().await?.code(), Code::REUSED);
    for n in [72, 1000, u64::MAX] {
        stream.post(n, "content").await?;
        let Answer::Rejected(missing) = stream.answer().await? else { panic!("not rejected") };
        assert_eq!((missing.n, missing.code, missing.info), (n, Code::MISSING, 70));
    }
    stream.post_accepted(71, "content").await?;
    assert_eq!(alice.history(opening.id).await?.len(), 71);
    calm.whole().await
}

#[tokio::test]
async fn a_join_is_a_numbered_command() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    assert_eq!(alice.refused(&room("other:room"), 2, Start::Now).await?, (Code::MISSING, 0));
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    assert_eq!((opening.last_n, opening.outcomes), (1, vec![(1, Code::DONE, 1)]));
    stream.send.finish()?;
    assert_eq!(stream.try_frame().await?, None);
    // The same join again: its recorded outcome, and no second event.
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    assert_eq!((opening.head, opening.last_n), (1, 1));
    stream.send.finish()?;
    assert_eq!(stream.try_frame().await?, None);
    // A present member's join uses its number up.
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    assert_eq!((opening.head, opening.last_n), (1, 1));
    stream.post_accepted(2, "hi").await?;
    stream.send.finish()?;
    assert_eq!(stream.try_frame().await?, None);
    let (mut stream, opened) = alice.open(&room("other:room"), 3, Start::Now).await?;
    let opening = opened.opened()?;
    assert_eq!((opening.head, opening.last_n, opening.outcomes.last()), (2, 3, Some(&(3, Code::DONE, 0))));
    stream.post_accepted(4, "hi").await?;
    calm.whole().await
}

#[tokio::test]
async fn a_cursor_ahead_waits_and_is_then_sent_elsewhere() -> Result<()> {
    let calm = Calm::new("").await?;
    let (alice, bob) = (Raw::login(&calm.relay, "alice").await?, Raw::login(&calm.relay, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&room("other:room")).await?;
    let (mut at_bob, _) = bob.enter(&room("other:room")).await?;
    at_bob.send.finish()?;
    while at_bob.try_frame().await?.is_some() {}
    let generation = opening.generation;

    let started = Instant::now();
    let ahead = Start::After { generation, seq: 9 };
    assert_eq!(bob.refused(&room("other:room"), 0, ahead).await?, (Code::BEHIND, 2));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(1500) && waited < Duration::from_secs(10), "{waited:?}");
    let far = Start::After { generation, seq: u64::MAX };
    assert_eq!(bob.refused(&room("other:room"), 0, far).await?, (Code::BEHIND, 2));

    // One that the relay comes up to in time is opened.
    let opening = async { bob.reopen(&room("other:room"), Start::After { generation, seq: 3 }).await };
    let posting = async {
        at_alice.seen().await?;
        at_alice.post_accepted(2, "three").await?;
        at_alice.post_accepted(3, "four").await
    };
    let (opened, posted) = tokio::join!(opening, posting);
    posted?;
    let (mut at_bob, opening) = opened?;
    assert!((4..=5).contains(&opening.start), "{opening:?}");
    assert_eq!(opening.start, 4);
    assert_eq!(at_bob.seen().await?.seq, 4);
    calm.whole().await
}

#[tokio::test]
async fn a_cursor_without_a_generation_starts_at_the_beginning() -> Result<()> {
    let calm = Calm::new("").await?;
    let starts = [
        (Start::After { generation: 0, seq: 5 }, 1),
        (Start::After { generation: 0, seq: u64::MAX }, 1),
        (FROM_THE_START, 1),
        (Start::Last(3), 9),
        (Start::Last(0), 12),
        (Start::Last(u64::MAX), 1),
    ];
    for (index, (start, first)) in starts.into_iter().enumerate() {
        let raw = Raw::login_as(&calm.relay, "witness", 100 + index as u8, RawOptions::default()).await?;
        let (mut stream, opening) = raw.reopen(&room("calm:room"), start).await?;
        assert_eq!((opening.head, opening.start), (11, first), "{start:?}");
        if first <= 11 {
            assert_eq!(stream.seen().await?.seq, first, "{start:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_device_id_belongs_to_its_user() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login_as(&calm.relay, "alice", 9, RawOptions::default()).await?;
    let mallory = Raw::login_as(&calm.relay, "mallory", 9, RawOptions::default()).await?;
    let (mut at_alice, _) = alice.enter(&room("other:room")).await?;
    let (mut at_mallory, opening) = mallory.enter(&room("other:room")).await?;
    assert_eq!(opening.outcomes, [(1, Code::DONE, 2)], "numbers and outcomes of its own");
    at_alice.seen().await?;
    at_alice.post_accepted(2, "from alice").await?;
    assert_eq!(at_mallory.seen().await?.user, "alice");
    at_mallory.post_accepted(2, "from mallory").await?;
    assert_eq!(at_alice.seen().await?.user, "mallory");
    assert!(alice.quic.close_reason().is_none() && mallory.quic.close_reason().is_none());
    calm.whole().await
}

#[tokio::test]
async fn a_lower_number_may_come_while_a_later_one_is_refused() -> Result<()> {
    let calm = Calm::new("[limits]\nmessages_per_second = 10\nmessages_burst = 12\n").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    // Beyond the burst, so that one of them is refused before ordering; none of the others can be decided without n = 2.
    for n in 3..=20 {
        stream.post(n, "too early").await?;
    }
    let mut codes = Vec::new();
    while codes.last() != Some(&Code::RATE) {
        codes.push(stream.answer().await?.code());
    }
    assert!(codes.len() > 1 && codes.iter().rev().skip(1).all(|code| *code == Code::MISSING), "{codes:?}");
    for n in 2..=20 {
        loop {
            stream.post(n, "from the first one on").await?;
            let Answer::Rejected(rejected) = stream.answer().await? else { break };
            assert_eq!((rejected.n, rejected.code), (n, Code::RATE), "the lowest number can always be sent");
            tokio::time::sleep(Duration::from_millis(rejected.retry_after)).await;
        }
    }
    assert_eq!(alice.history(opening.id).await?.len(), 20);
    calm.whole().await
}

#[tokio::test]
async fn a_stream_that_is_behind_ends_with_the_removal_though_its_user_is_back() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\n")?;
    let alice = Raw::login(&relay, "alice").await?;
    let options = RawOptions { stream_window: 4096, ..RawOptions::default() };
    let bob = Raw::login_as(&relay, "bob", 7, options).await?;
    let id = ConversationId::group(rand::random());
    let (mut at_alice, _) = alice.enter(&Target::NewGroup(id)).await?;
    at_alice.done(&Add { n: 2, user: "bob" }).await?;
    let (mut at_bob, opening) = bob.reopen(&Target::Id(id), FROM_THE_START).await?;
    // Bob reads nothing, so that all of this is decided before his stream has come to it.
    for n in 3..40 {
        at_alice.done(&Post { n, kind: kind::DATA, body: Blob(&[b'x'; 1000]) }).await?;
    }
    at_alice.done(&Remove { n: 40, user: "bob", ban: false }).await?;
    at_alice.done(&Post { n: 41, kind: kind::TEXT, body: Blob(b"not for bob") }).await?;
    at_alice.done(&Add { n: 42, user: "bob" }).await?;
    at_alice.done(&Post { n: 43, kind: kind::TEXT, body: Blob(b"for bob again") }).await?;

    let (frames, code) = at_bob.rest().await?;
    let seen: Vec<Seen> = frames.iter().filter_map(|frame| frame.seen()).collect();
    assert_eq!(seen.last().map(|event| (event.seq, event.kind)), Some((40, kind::REMOVED)), "{}", seen.len());
    assert_eq!(code, Code::ENDED);
    let on = Start::After { generation: opening.generation, seq: 40 };
    let (mut again, opening) = bob.reopen(&Target::Id(id), on).await?;
    assert_eq!((opening.first_kept, opening.start, opening.role), (2, 42, 1));
    assert_eq!(again.frame().await?.to::<Skip>().map(|skip| skip.to), Some(41));
    assert_eq!((again.seen().await?.kind, again.seen().await?.body), (kind::ADDED, b"for bob again".to_vec()));
    Ok(())
}
