//! Conversations over the wire, one step at a time.

use anyhow::{Context, Result};
use quip_protocol::{
    Code, Event, RoomName, UserId,
    conversation::{Ack, End, Leave, Mark, Opened, Rejected, Skip, Start, Target},
    event::kind,
    request::{Entry, History, List, Page},
};
use quip_tests::{raw::Raw, relay::Relay};

fn room(name: &str) -> Target<'_> {
    Target::Room(RoomName::parse(name).expect("a room name"))
}

#[tokio::test]
async fn two_users_talk_in_a_room() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut at_alice, opened) = alice.open(&room("lobby:main"), 1, Start::Now).await?;
    let opened = opened.to::<Opened<'_>>().context("opened")?.last_n;
    assert_eq!(opened, 1);
    let joined = at_alice.frame().await?;
    assert_eq!(joined.to::<Event<'_>>().map(|event| (event.seq, event.kind)), Some((1, kind::JOINED)));
    let (mut at_bob, _) = bob.open(&room("lobby:main"), 1, Start::Now).await?;
    assert_eq!(at_bob.frame().await?.to::<Event<'_>>().map(|event| event.seq), Some(2));
    assert_eq!(at_alice.frame().await?.to::<Event<'_>>().map(|event| event.seq), Some(2));

    let accepted = at_alice.post_accepted(2, "hello").await?;
    assert_eq!((accepted.n, accepted.seq, accepted.number), (2, 3, 1));
    let frame = at_bob.frame().await?;
    let event = frame.to::<Event<'_>>().context("an event")?;
    assert_eq!((event.seq, event.user, event.body.0), (3, "alice", &b"hello"[..]));

    at_bob.send(&Leave { n: 2 }).await?;
    assert_eq!(at_alice.frame().await?.to::<Event<'_>>().map(|event| event.kind), Some(kind::LEFT));
    let last = at_bob.frame().await?;
    assert!(last.to::<quip_protocol::conversation::Accepted>().is_some(), "{last:?}");
    assert_eq!(at_bob.frame().await?.to::<End<'_>>().map(|end| end.code), Some(Code::ENDED));
    assert_eq!(at_bob.try_frame().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_direct_conversation_reaches_the_other_side_and_its_list() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\n")?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let with_bob = Target::Direct(UserId::parse("bob")?);
    let (mut at_alice, opened) = alice.open(&with_bob, 1, Start::Now).await?;
    let id = opened.to::<Opened<'_>>().context("opened")?.conversation;
    for n in 2..=6 {
        at_alice.post_accepted(n, "psst").await?;
    }
    let with_alice = Target::Direct(UserId::parse("alice")?);
    let (mut at_bob, opened) = bob.open(&with_alice, 0, Start::After { generation: 0, seq: 0 }).await?;
    let opened = opened.to::<Opened<'_>>().context("opened")?;
    assert_eq!((opened.conversation, opened.head, opened.name), (id, 5, "alice"));
    for seq in 1..=5 {
        assert_eq!(at_bob.frame().await?.to::<Event<'_>>().map(|event| event.seq), Some(seq));
    }
    at_bob.send(&Mark { seq: 3, number: 3 }).await?;
    loop {
        let mut list = bob.stream().await?;
        list.send(&List { after: quip_protocol::ConversationId([0; 16]), limit: 10 }).await?;
        let frame = list.frame().await?;
        let entry = frame.to::<Entry<'_>>().context("an entry")?;
        assert_eq!((entry.conversation, entry.name, entry.number), (id, "alice", 5));
        if entry.read == 3 {
            assert_eq!(entry.read_number, 3);
            break;
        }
    }
    Ok(())
}

#[tokio::test]
async fn history_comes_in_pages_both_ways() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opened) = alice.open(&room("lobby:main"), 1, Start::Now).await?;
    let conversation = opened.to::<Opened<'_>>().context("opened")?.conversation;
    stream.frame().await?;
    for n in 2..=30 {
        stream.post_accepted(n, &format!("line {n}")).await?;
    }
    let page = async |forward, from, limit| -> Result<(Vec<u64>, u64)> {
        let mut request = alice.stream().await?;
        request.send(&History { conversation, forward, from, limit }).await?;
        let head = request.frame().await?.to::<Page>().context("a page")?;
        assert_eq!((head.first, head.head), (1, 30));
        let mut seqs = Vec::new();
        for _ in 0..head.count {
            seqs.push(request.frame().await?.to::<Event<'_>>().context("an event")?.seq);
        }
        let end = request.frame().await?;
        let end = end.to::<End<'_>>().context("an end")?;
        assert_eq!((end.code, request.try_frame().await?), (Code::DONE, None));
        Ok((seqs, end.info))
    };
    assert_eq!(page(false, 0, 10).await?, ((21..=30).collect(), 1));
    assert_eq!(page(false, 21, 100).await?, ((1..=20).collect(), 0));
    assert_eq!(page(true, 0, 10).await?, ((1..=10).collect(), 1));
    assert_eq!(page(true, 25, 10).await?, ((26..=30).collect(), 0));
    assert_eq!(page(true, 30, 10).await?, (vec![], 0));
    Ok(())
}

#[tokio::test]
async fn send_numbers_are_decided_once() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, _) = alice.open(&room("lobby:main"), 1, Start::Now).await?;
    stream.frame().await?;
    let first = stream.post_accepted(2, "once").await?;

    stream.post(2, "once").await?;
    let again = stream.frame().await?.to::<Ack>().context("an ack")?;
    assert_eq!((again.n, again.seq), (2, first.seq));
    stream.post(2, "something else").await?;
    let reused = stream.frame().await?.to::<Rejected>().context("a refusal")?;
    assert_eq!((reused.n, reused.code), (2, Code::REUSED));
    stream.post(9, "too far").await?;
    let missing = stream.frame().await?.to::<Rejected>().context("a refusal")?;
    assert_eq!((missing.n, missing.code, missing.info), (9, Code::MISSING, 2));
    assert_eq!(stream.post_accepted(3, "next").await?.seq, first.seq + 1);
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_everything_and_a_cursor_goes_on() -> Result<()> {
    let mut relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opened) = alice.open(&room("lobby:main"), 1, Start::Now).await?;
    let generation = opened.to::<Opened<'_>>().context("opened")?.generation;
    stream.frame().await?;
    for n in 2..=100 {
        stream.post_accepted(n, "kept").await?;
    }
    relay.kill();
    relay.run()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opened) = alice.open(&room("lobby:main"), 0, Start::After { generation, seq: 40 }).await?;
    let opened = opened.to::<Opened<'_>>().context("opened")?;
    assert_eq!((opened.generation, opened.head, opened.last_n, opened.start), (generation, 100, 100, 41));
    assert_eq!(opened.outcomes.iter().count(), 64);
    for seq in 41..=100 {
        assert_eq!(stream.frame().await?.to::<Event<'_>>().map(|event| event.seq), Some(seq));
    }
    assert!(relay.terminate()?.success());
    Ok(())
}

#[tokio::test]
async fn another_generation_starts_over() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opened) = alice.open(&room("lobby:main"), 1, Start::Now).await?;
    let generation = opened.to::<Opened<'_>>().context("opened")?.generation;
    stream.frame().await?;
    stream.post_accepted(2, "x").await?;
    drop(stream);
    let other = Start::After { generation: generation ^ 1, seq: 77 };
    let again = loop {
        let (stream, first) = alice.open(&room("lobby:main"), 0, other).await?;
        if first.to::<Opened<'_>>().is_some() {
            break (stream, first);
        }
    };
    let opened = again.1.to::<Opened<'_>>().context("opened")?;
    assert_eq!((opened.generation, opened.start), (generation, 1));
    let (mut stream, _) = again;
    assert!(stream.frame().await?.to::<Skip>().is_none());
    Ok(())
}
