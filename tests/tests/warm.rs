//! Neither the worker nor the sequencer waits for the disk: readers do, and only where it may be needed.

use anyhow::{Result, ensure};
use quip_protocol::{
    Blob, Code,
    conversation::{Delete, Edit, Mark, Post, React, Start},
    event::kind,
    frame,
    session::Marked,
};
use quip_tests::{
    raw::{Raw, RawStream},
    relay::Relay,
    talk::{room, until},
};

/// Small, so that what is old is on the disk, and what was not used lately is out of the sequencer's memory.
const LEAN: &str = "[limits]\nmessages_per_second = 0\n\n[presence]\nkeepalive = \"60s\"\nidle_timeout = \"120s\"\nsweep = \"60s\"\n\n\
                    [store]\nmemtable_bytes = \"1MiB\"\ncache_bytes = \"1MiB\"\ncached_records = 16\n";

const SEQUENCER: &str = "sequencer";
const READERS: &str = "quip-read";

/// How often readers may be asked meanwhile for something else: when users were last seen.
const OTHERS: u64 = 20;

/// The codes of the next answers, which must come in the order of `n`; events may stand between them.
async fn answers(stream: &mut RawStream, ns: std::ops::RangeInclusive<u64>) -> Result<Vec<Code>> {
    let mut codes = Vec::new();
    for n in ns {
        let answer = stream.answer().await?;
        ensure!(answer.n() == n, "{answer:?} where n = {n} belongs");
        codes.push(answer.code());
    }
    Ok(codes)
}

#[tokio::test]
async fn commands_about_old_events_keep_their_order_and_read_nothing_on_the_sequencer() -> Result<()> {
    let mut relay = Relay::with(LEAN)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, _) = alice.enter(&room("old:room")).await?;
    let bodies: Vec<Vec<u8>> = (0..4000).map(|number| format!("{number:01000}").into_bytes()).collect();
    stream.send_all(2, &bodies, 32).await?;
    relay.terminate()?;
    relay.run()?;

    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.reopen(&room("old:room"), Start::Now).await?;
    assert_eq!((opening.last_n, opening.head), (4001, 4001));
    stream.post_accepted(4002, "nothing but the usual rows").await?;
    let (sequencer, readers) = (relay.file_reads(SEQUENCER)?, relay.file_reads(READERS)?);
    // All at once: each is decided before what comes behind it, or that would be refused as MISSING.
    let mut all = Vec::new();
    let mut n = 4003;
    for target in [350, 700, 1400, 2100] {
        frame::encode(&Edit { n, target, body: Blob(b"edited") }, &mut all);
        frame::encode(&Post { n: n + 1, kind: kind::TEXT, body: Blob(b"after an edit") }, &mut all);
        frame::encode(&React { n: n + 2, target: target + 200, add: true, reaction: "+1" }, &mut all);
        frame::encode(&Delete { n: n + 3, target: target + 400 }, &mut all);
        for n in n + 4..n + 10 {
            frame::encode(&Post { n, kind: kind::TEXT, body: Blob(b"after them") }, &mut all);
        }
        n += 10;
    }
    stream.bytes(&all).await?;
    assert_eq!(answers(&mut stream, 4003..=n - 1).await?, vec![Code::DONE; 40]);
    assert_eq!(relay.file_reads(SEQUENCER)?, sequencer, "the sequencer waited for the disk");
    let read = relay.file_reads(READERS)? - readers;
    assert!(read >= 12, "{read} reads: these events were in memory: this test shows nothing");
    let history = alice.history(opening.id).await?;
    assert_eq!(history.len(), 4042);
    assert_eq!(history.iter().filter(|event| event.kind == kind::TOMBSTONE).count(), 4);
    assert!(history[4002..].iter().map(|event| event.seq).eq(4003..=4042));
    Ok(())
}

#[tokio::test]
async fn a_live_conversation_needs_no_reader_until_its_rows_have_left_the_memory() -> Result<()> {
    let relay = Relay::with(LEAN)?;
    let (alice, mut carol) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "carol").await?);
    let (mut stream, _) = alice.enter(&room("live:room")).await?;
    let (mut at_carol, _) = carol.enter(&room("live:room")).await?;
    stream.seen().await?;
    stream.post_accepted(2, "all of it is warm").await?;
    at_carol.send(&Mark { seq: 1, number: 0 }).await?;
    carol.told::<Marked>().await?;

    let before = relay.sleeps(READERS).await?;
    for n in 3..100 {
        stream.post_accepted(n, "live").await?;
    }
    at_carol.send(&Mark { seq: 50, number: 48 }).await?;
    carol.told::<Marked>().await?;
    let live = relay.sleeps(READERS).await? - before;
    assert!(live < OTHERS, "readers were asked {live} times for what is in memory");

    // Others take the room in memory.
    let bob = Raw::login(&relay, "bob").await?;
    for index in 0..40 {
        bob.enter(&room(&format!("other:{index}"))).await?.0.send.finish()?;
    }
    let before = relay.sleeps(READERS).await?;
    stream.post_accepted(100, "after a while").await?;
    let asked = relay.sleeps(READERS).await?;
    assert!(asked > before, "the sequencer had to look for itself");
    for n in 101..200 {
        stream.post_accepted(n, "live again").await?;
    }
    let live = relay.sleeps(READERS).await? - asked;
    assert!(live < OTHERS, "readers were asked {live} times for what is in memory");
    at_carol.send(&Mark { seq: 150, number: 148 }).await?;
    carol.told::<Marked>().await?;
    assert!(relay.sleeps(READERS).await? > asked, "the mark's row too");
    Ok(())
}

#[tokio::test]
async fn a_mark_is_not_lost_when_its_stream_closes_behind_it() -> Result<()> {
    let relay = Relay::with(LEAN)?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut at_alice, _) = alice.enter(&room("live:room")).await?;
    let (mut stream, _) = bob.enter(&room("live:room")).await?;
    at_alice.seen().await?;
    for n in 2..12 {
        let seq = at_alice.post_accepted(n, "x").await?.seq;
        if n % 2 == 0 {
            // Through a reader when it is the first of its stream.
            stream.send(&Mark { seq, number: n - 1 }).await?;
            stream.send.finish()?;
            while stream.try_frame().await?.is_some() {}
            until("the mark is read", async || {
                let (again, opening) = bob.reopen(&room("live:room"), Start::Now).await?;
                stream = again;
                if opening.read != seq {
                    stream.send.finish()?;
                    while stream.try_frame().await?.is_some() {}
                }
                Ok(opening.read == seq)
            })
            .await?;
        }
    }
    Ok(())
}
