//! What the relay keeps in memory for its followers is bounded, and whoever is beyond it reads from the store.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quip_protocol::{Code, Event, conversation::Start, limit};
use quip_tests::{
    proxy::Proxy,
    raw::{Raw, RawOptions, RawStream},
    relay::Relay,
    talk::{Answer, direct, room, until},
};
use tokio::time::timeout;

/// Small memtables and caches, so that memory that grows is the relay's own.
const LEAN: &str = "[store]\nmemtable_bytes = \"1MiB\"\ncache_bytes = \"1MiB\"\n";

/// Longer than free memory takes until it is back at the system, and shorter than a silent client is kept.
const GIVEN_BACK: Duration = Duration::from_secs(15);

/// Posts one large message. True when the stream followed from memory, so that `Accepted` stood in the event's place;
/// otherwise the event itself was read from the store, and must be the right one.
async fn post_large(stream: &mut RawStream, n: u64) -> Result<bool> {
    let body = vec![n as u8; limit::MESSAGE];
    stream.data(n, &body).await?;
    match stream.answer().await? {
        Answer::Accepted(accepted) => {
            ensure!((accepted.n, accepted.seq) == (n, n));
            Ok(true)
        }
        Answer::Ack(ack) => {
            let frame = stream.frame().await?;
            let event = frame.to::<Event<'_>>().with_context(|| format!("no event behind {ack:?}"))?;
            ensure!((ack.n, ack.seq, event.seq, event.body.0) == (n, n, n, &body[..]), "{ack:?}, {}", event.seq);
            Ok(false)
        }
        Answer::Rejected(rejected) => anyhow::bail!("{rejected:?}"),
    }
}

#[tokio::test]
async fn batches_that_do_not_fit_into_the_inbox_are_read_from_the_store() -> Result<()> {
    let relay = Relay::with(&format!("[limits]\nmessages_per_second = 0\ninbox_bytes = \"8KiB\"\n{LEAN}"))?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&room("large:room")).await?;
    let (mut at_bob, _) = bob.enter(&room("large:room")).await?;
    at_alice.seen().await?;
    for n in 2..10 {
        // What is small fits, and follows what did not.
        at_alice.data(2 * n - 2, b"small").await?;
        assert!(matches!(at_alice.answer().await?, Answer::Accepted(_)), "from memory");
        at_alice.data(2 * n - 1, &[n as u8; limit::MESSAGE]).await?;
        assert!(matches!(at_alice.answer().await?, Answer::Ack(_)), "from the store");
        assert_eq!(at_alice.seen().await?.body, [n as u8; limit::MESSAGE]);
    }
    for seq in 3..19 {
        let seen = at_bob.seen().await?;
        assert_eq!((seen.seq, seen.body.len()), (seq, if seq % 2 == 1 { 5 } else { limit::MESSAGE }));
    }
    assert_eq!(alice.history(opening.id).await?.len(), 18);
    Ok(())
}

#[tokio::test]
async fn the_newest_events_are_in_memory_whatever_other_conversations_hold() -> Result<()> {
    // Rings are looked through at each sweep; these fill within a fraction of that time.
    let presence = "[presence]\nkeepalive = \"60s\"\nidle_timeout = \"120s\"\nsweep = \"60s\"\n";
    let limits = "[limits]\nmessages_per_second = 0\nring_bytes = \"1MiB\"\n";
    let relay = Relay::with(&format!("{limits}{presence}{LEAN}"))?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut streams = Vec::new();
    for index in 0..8 {
        streams.push(alice.enter(&room(&format!("large:{index}"))).await?.0);
    }
    // One conversation alone keeps to its own limit of 256 KiB.
    let mut n = 2;
    while n < 40 {
        assert!(post_large(&mut streams[0], n).await?, "a single conversation");
        n += 1;
    }
    // Seven more, with 14 of these messages each, go over what all may have together.
    let mut from_memory = Vec::new();
    for stream in &mut streams[1..] {
        for n in 2..16 {
            from_memory.push(post_large(stream, n).await?);
        }
    }
    // What is over the limit at 63 messages goes, the oldest first.
    assert!(from_memory.iter().all(|from_memory| *from_memory), "{from_memory:?}");
    Ok(())
}

#[tokio::test]
async fn what_all_clients_have_not_acknowledged_shares_a_limit() -> Result<()> {
    unacknowledged("send_window_total_bytes = \"1MiB\"").await
}

#[tokio::test]
async fn what_a_client_has_not_acknowledged_has_a_limit() -> Result<()> {
    unacknowledged("send_window_bytes = \"64KiB\"").await
}

/// Cuts clients off and writes to each more than it may have in flight by default: with `limit` there is far less.
async fn unacknowledged(limit: &str) -> Result<()> {
    const CLIENTS: usize = 32;
    let relay = Relay::with(&format!(
        "[limits]\nmessages_per_second = 0\nunauthenticated = \"200ms\"\n{limit}\nring_bytes = \"1MiB\"\n\
         [presence]\nsweep = \"50ms\"\n{LEAN}"
    ))?;
    let writer = Raw::login(&relay, "writer").await?;
    // What these have room for is no bound: a stream's and a connection's window are far larger than what is sent.
    let mut cut_off = Vec::new();
    for index in 0..CLIENTS {
        let proxy = Proxy::to(relay.address).await?;
        let options = RawOptions { stream_window: 16 << 20, address: Some(proxy.address), ..RawOptions::default() };
        let raw = Raw::login_as(&relay, &format!("cut-off-{index}"), 1, options).await?;
        let (stream, _) = raw.enter(&direct("writer")).await?;
        cut_off.push((proxy, raw, stream));
    }
    let mut streams = Vec::new();
    for index in 0..CLIENTS {
        streams.push(writer.reopen(&direct(&format!("cut-off-{index}")), Start::Now).await?.0);
    }
    // The share is settled at a sweep, which also turns away who says nothing.
    assert_eq!(Raw::connect(&relay).await?.close_code().await?, Code::NO_HELLO);
    let before = relay.resident_bytes().context("its memory")?;
    cut_off.iter().for_each(|(proxy, ..)| proxy.cut());
    for stream in &mut streams {
        for n in 1..=70 {
            post_large(stream, n).await?;
        }
    }
    // A share of 64 KiB for each is 2 MiB, and memtables may take 10; the 1 MiB of one alone would be 32 MiB. What passed
    // through and is free goes back to the system within ten seconds; what is kept for a client stays for thirty, until
    // the relay gives it up.
    let mut grown = 0;
    let bounded = until("memory is given back", async || {
        grown = relay.resident_bytes().context("its memory")?.saturating_sub(before);
        Ok(grown < 24 << 20)
    });
    let bounded = timeout(GIVEN_BACK, bounded).await;
    assert!(bounded.is_ok_and(|done| done.is_ok()), "{} MiB for clients that acknowledge nothing", grown >> 20);
    drop(cut_off);
    Ok(())
}

#[tokio::test]
async fn large_messages_that_are_not_read_are_not_kept_for_anyone() -> Result<()> {
    const STREAMS: u64 = 32;
    let limits =
        "[limits]\nmessages_per_second = 0\nconnections_per_user = 100\nring_bytes_per_conversation = \"1MiB\"\n";
    let presence = "[presence]\nkeepalive = \"60s\"\nidle_timeout = \"120s\"\nsweep = \"60s\"\n";
    let relay = Relay::with(&format!("{limits}{presence}{LEAN}"))?;
    let writer = Raw::login(&relay, "deaf").await?;
    let (mut at_writer, opening) = writer.enter(&room("busy:room")).await?;
    let bodies = vec![vec![b'x'; limit::MESSAGE]; 64];
    let mut n = 2;
    // What all messages leave behind is there before anything is counted.
    for _ in 0..8 {
        at_writer.send_all(n, &bodies, 8).await?;
        n += 64;
    }
    let mut deaf = Vec::new();
    for device in 0..2 * STREAMS {
        let narrow = RawOptions { stream_window: 1 << 10, ..RawOptions::default() };
        deaf.push(Raw::login_as(&relay, "deaf", 10 + device as u8, narrow).await?);
    }
    let before = relay.resident_bytes().context("its memory")?;
    let mut unread = Vec::new();
    for pair in deaf.chunks(2) {
        // Each at a place of its own: what one stands before is in memory for nobody else.
        at_writer.send_all(n, &bodies, 8).await?;
        n += 64;
        for (raw, behind) in pair.iter().zip([50, 500]) {
            let cursor = Start::After { generation: opening.generation, seq: n - 1 - behind };
            unread.push(raw.reopen(&room("busy:room"), cursor).await?.0);
        }
    }
    // One write of up to 32 KiB from memory, or one page of as much from the store, for each. The mebibyte that each has
    // before it would be 32 MiB for one half of them and 250 for the other. What passed through and is free goes back to the
    // system within ten seconds; what is kept for a stream stays.
    let mut grown = 0;
    let bounded = until("memory is given back", async || {
        grown = relay.resident_bytes().context("its memory")?.saturating_sub(before);
        Ok(grown < 10 << 20)
    });
    let bounded = timeout(GIVEN_BACK, bounded).await;
    assert!(bounded.is_ok_and(|done| done.is_ok()), "{} MiB over {} unread streams", grown >> 20, unread.len());
    drop(unread);
    Ok(())
}
