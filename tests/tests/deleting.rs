//! What is left of a message that was edited and then deleted.

use anyhow::{Context, Result};
use quip_protocol::{
    Blob, Code,
    conversation::{Delete, Edit, Post},
    event::{self, Deleted, Edited, kind},
};
use quip_tests::{
    raw::{Raw, RawOptions},
    relay::Relay,
    talk::{Answer, FROM_THE_START, Seen, direct},
};

const SECRET: &[u8] = b"secret";

fn tells(event: &Seen) -> bool {
    event.body.windows(SECRET.len()).any(|part| part == SECRET)
}

fn by(event: &Seen) -> Result<u64> {
    Ok(postcard::from_bytes::<event::Tombstone>(&event.body).context("a tombstone")?.by)
}

#[tokio::test]
async fn a_deleted_message_leaves_no_edit_for_later_readers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(folder.path(), "");
    relay.run()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&direct("bob")).await?;
    let (mut at_bob, _) = bob.enter(&direct("alice")).await?;
    at_alice.done(&Post { n: 2, kind: kind::TEXT, body: Blob(b"secret 1") }).await?;
    at_alice.done(&Edit { n: 3, target: 1, body: Blob(b"secret 2") }).await?;
    at_bob.done(&Post { n: 2, kind: kind::TEXT, body: Blob(b"between") }).await?;
    at_alice.done(&Edit { n: 4, target: 1, body: Blob(b"secret 3") }).await?;
    at_alice.done(&Edit { n: 5, target: 1, body: Blob(b"secret 4") }).await?;
    at_alice.done(&Delete { n: 6, target: 1 }).await?;

    // Who followed saw it all, and is told what to drop.
    let mut told = at_bob.seen().await?;
    while told.seq < 6 {
        assert!(told.seq == 3 || tells(&told), "{told:?}");
        told = at_bob.seen().await?;
    }
    assert_eq!((told.kind, postcard::from_bytes::<Deleted>(&told.body)?.target), (kind::DELETED, 1));

    // Who catches up finds nothing of it: in history, from memory and, after a restart, from the store.
    let (mut second, _) = reopened(&relay, "alice", 77).await?;
    let history = bob.history(opening.id).await?;
    let tombstone = kind::TOMBSTONE;
    let kinds: Vec<_> = history.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [tombstone, tombstone, kind::TEXT, tombstone, tombstone, kind::DELETED]);
    assert!(!history.iter().any(tells), "{history:?}");
    for seq in [1, 2, 4, 5] {
        let event = &history[seq - 1];
        assert_eq!((event.seq, event.user.as_str(), by(event)?), (seq as u64, "alice", 6));
    }
    assert_eq!(history[5], told);
    for event in &history {
        assert_eq!(second.seen().await?, *event, "from memory");
    }
    assert!(relay.terminate()?.success());
    relay.run()?;
    let (mut late, bob) = reopened(&relay, "bob", 78).await?;
    assert_eq!(bob.history(opening.id).await?, history);
    for event in &history {
        assert_eq!(late.seen().await?, *event, "from the store");
    }
    Ok(())
}

/// The direct conversation of alice and bob from its start, on another device.
async fn reopened(relay: &Relay, user: &str, device: u8) -> Result<(quip_tests::raw::RawStream, Raw)> {
    let raw = Raw::login_as(relay, user, device, RawOptions::default()).await?;
    let other = if user == "alice" { "bob" } else { "alice" };
    let (stream, _) = raw.reopen(&direct(other), FROM_THE_START).await?;
    Ok((stream, raw))
}

#[tokio::test]
async fn an_edit_is_deleted_alone() -> Result<()> {
    let relay = Relay::start()?;
    let (alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&direct("bob")).await?;
    let (mut at_bob, _) = bob.enter(&direct("alice")).await?;
    at_alice.done(&Post { n: 2, kind: kind::TEXT, body: Blob(b"as meant") }).await?;
    at_alice.done(&Edit { n: 3, target: 1, body: Blob(b"a secret, pasted") }).await?;
    let refused = at_bob.command(&Delete { n: 2, target: 2 }).await?;
    assert_eq!(refused.code(), Code::FORBIDDEN, "it is alice's");
    at_alice.done(&Delete { n: 4, target: 2 }).await?;
    let history = bob.history(opening.id).await?;
    assert!(!history.iter().any(tells));
    assert_eq!((history[0].body.as_slice(), by(&history[1])?), (&b"as meant"[..], 3));
    Ok(())
}

#[tokio::test]
async fn an_edit_of_a_text_to_invalid_utf8_is_refused_and_uses_its_number_up() -> Result<()> {
    let relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&direct("bob")).await?;
    stream.done(&Post { n: 2, kind: kind::TEXT, body: Blob("tëxt".as_bytes()) }).await?;
    stream.done(&Post { n: 3, kind: kind::DATA, body: Blob(b"\xff") }).await?;
    let edit = Edit { n: 4, target: 1, body: Blob(b"\xfe\xff") };
    for _ in 0..2 {
        let refused = stream.command(&edit).await?;
        assert!(matches!(refused, Answer::Rejected(rejected) if rejected.code == Code::NOT_TEXT), "{refused:?}");
    }
    stream.done(&Edit { n: 5, target: 1, body: Blob("text".as_bytes()) }).await?;
    stream.done(&Edit { n: 6, target: 2, body: Blob(b"\xfe\xff") }).await?;
    let history = alice.history(opening.id).await?;
    let last: Edited<'_> = postcard::from_bytes(&history[3].body)?;
    assert_eq!((history.len(), last.body.0), (4, &b"\xfe\xff"[..]));
    Ok(())
}
