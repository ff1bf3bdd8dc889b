//! One user with several devices, and one device in several processes.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Code, ConversationId, DeviceId, InstanceId,
    conversation::{Accepted, Add, Delete, Leave, Mark, Remove, Start, Target},
    event::{kind, role},
    request::{Entry, History, List, Members, PresenceIn},
    session::{Changed, Marked, Refresh, Refreshed},
};
use quip_relay::{
    auth::{MintKey, TokenRequest, mint},
    identity::SigningKey,
};
use quip_tests::{
    raw::{Raw, RawOptions},
    relay::{HOUR, Relay},
    talk::{FROM_THE_START, direct, room, until},
};

const FIRST: DeviceId = DeviceId([1; 16]);

async fn process(relay: &Relay, instance: u8) -> Result<Raw> {
    let mut raw = Raw::connect(relay).await?;
    raw.hello(&relay.token("alice")?, FIRST, InstanceId([instance; 16])).await?;
    Ok(raw)
}

async fn device(relay: &Relay, user: &str, device: u8) -> Result<Raw> {
    Raw::login_as(relay, user, device, RawOptions::default()).await
}

#[tokio::test]
async fn another_process_takes_the_device_over() -> Result<()> {
    let relay = Relay::start()?;
    let older = process(&relay, 1).await?;
    let (mut stream, _) = older.enter(&room("lobby:main")).await?;
    stream.post_accepted(2, "from the first process").await?;
    let newer = process(&relay, 2).await?;
    assert_eq!(older.close_code().await?, Code::REPLACED);
    assert!(stream.frame().await.is_err(), "the older one's streams are gone with it");
    let (mut stream, opening) = newer.reopen(&room("lobby:main"), FROM_THE_START).await?;
    assert_eq!((opening.last_n, opening.head), (2, 2));
    assert_eq!([stream.seen().await?.seq, stream.seen().await?.seq], [1, 2]);
    stream.post_accepted(3, "from the second").await?;
    // Back and forth: always the newest one.
    let newest = process(&relay, 1).await?;
    assert_eq!(newer.close_code().await?, Code::REPLACED);
    let (_, opening) = newest.reopen(&room("lobby:main"), Start::Now).await?;
    assert_eq!(opening.last_n, 3);
    Ok(())
}

#[tokio::test]
async fn one_process_may_overlap_itself_while_it_moves() -> Result<()> {
    let relay = Relay::start()?;
    let (older, newer) = (process(&relay, 1).await?, process(&relay, 1).await?);
    let (mut at_older, opening) = older.enter(&room("lobby:main")).await?;
    at_older.post_accepted(2, "before moving").await?;
    let cursor = Start::After { generation: opening.generation, seq: 2 };
    let (mut at_newer, _) = newer.reopen(&room("lobby:main"), cursor).await?;
    at_newer.post_accepted(3, "after moving").await?;
    let seen = at_older.seen().await?;
    assert_eq!((seen.seq, &seen.body[..], seen.n), (3, &b"after moving"[..], None), "the older one still follows");
    // What was sent on the older one and has no answer yet is sent again: decided once.
    at_newer.post(2, "before moving").await?;
    let answer = at_newer.answer().await?;
    assert_eq!((answer.n(), answer.code()), (2, Code::DONE));
    older.quic.close(0u32.into(), b"moved");
    at_newer.post_accepted(4, "still here").await?;
    assert_eq!(newer.history(opening.id).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn the_overlap_of_a_process_ends_however_often_it_connects() -> Result<()> {
    let overlap = Duration::from_millis(500);
    let relay = Relay::with("[limits]\ndevice_overlap = \"500ms\"\n[presence]\nsweep = \"50ms\"\n")?;
    let oldest = process(&relay, 1).await?;
    let started = Instant::now();
    let mut newer = vec![process(&relay, 1).await?];
    until("the oldest one is closed", async || {
        if let Some(reason) = oldest.quic.close_reason() {
            assert!(started.elapsed() >= overlap, "{reason} after {:?}", started.elapsed());
            return Ok(true);
        }
        tokio::time::sleep(overlap / 5).await;
        newer.push(process(&relay, 1).await?);
        Ok(false)
    })
    .await?;
    assert_eq!(oldest.close_code().await?, Code::BYE);
    let newest = newer.pop().context("the newest")?;
    for older in newer {
        assert_eq!(older.close_code().await?, Code::BYE);
    }
    let (mut stream, _) = newest.enter(&room("lobby:main")).await?;
    stream.post_accepted(2, "the newest one stays").await?;
    Ok(())
}

#[tokio::test]
async fn all_devices_of_all_users_see_the_same() -> Result<()> {
    let relay = Relay::start()?;
    let id = ConversationId::group(rand::random());
    let owner = device(&relay, "alice", 1).await?;
    let (mut at_owner, _) = owner.enter(&Target::NewGroup(id)).await?;
    at_owner.done(&Add { n: 2, user: "bob" }).await?;
    let others = [device(&relay, "alice", 2).await?, device(&relay, "bob", 1).await?, device(&relay, "bob", 2).await?];
    let mut streams = vec![at_owner];
    for other in &others {
        streams.push(other.reopen(&Target::Id(id), Start::Now).await?.0);
    }
    let mut next_n = [3, 1, 1, 1];
    for round in 0..40 {
        let sender = round % 4;
        streams[sender].post(next_n[sender], &format!("{round}")).await?;
        next_n[sender] += 1;
    }
    let expected: Vec<u64> = (3..43).collect();
    let mut bodies = Vec::new();
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut seqs = Vec::new();
        while seqs.len() < 40 {
            let frame = stream.frame().await?;
            let Some(seen) = frame.seen() else {
                ensure!(frame.answer().is_some(), "{frame:?}");
                continue;
            };
            seqs.push(seen.seq);
            if seen.n.is_none() {
                bodies.push((seen.seq, seen.user, seen.body));
            }
        }
        assert_eq!(seqs, expected, "device {index}");
    }
    let history = owner.history(id).await?;
    for (seq, user, body) in bodies {
        let stored = &history[seq as usize - 1];
        assert_eq!((stored.seq, &stored.user, &stored.body), (seq, &user, &body));
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_goes_to_the_device_that_asked() -> Result<()> {
    let relay = Relay::start()?;
    let (one, two) = (device(&relay, "alice", 1).await?, device(&relay, "alice", 2).await?);
    let (mut at_one, _) = one.enter(&room("lobby:main")).await?;
    let (mut at_two, opening) = two.reopen(&room("lobby:main"), Start::Now).await?;
    assert_eq!((opening.last_n, opening.outcomes), (0, vec![]), "numbers are a device's own");
    // Both use n = 2 and n = 1, for different content.
    at_one.post_accepted(2, "one").await?;
    assert_eq!(at_two.seen().await?.body, b"one");
    at_two.post_accepted(1, "two").await?;
    assert_eq!(at_one.seen().await?.body, b"two");
    Ok(())
}

#[tokio::test]
async fn read_marks_merge_to_the_highest_on_all_devices() -> Result<()> {
    let relay = Relay::start()?;
    let (mut one, mut two) = (device(&relay, "alice", 1).await?, device(&relay, "alice", 2).await?);
    let bob = device(&relay, "bob", 1).await?;
    let (mut at_bob, opening) = bob.enter(&direct("alice")).await?;
    for n in 2..=11 {
        at_bob.post_accepted(n, "x").await?;
    }
    let (mut at_one, opened) = one.reopen(&direct("bob"), Start::Now).await?;
    let (mut at_two, _) = two.reopen(&direct("bob"), Start::Now).await?;
    assert_eq!((opened.id, opened.read), (opening.id, 0));
    let mark = async |raw: &mut Raw| -> Result<(ConversationId, u64, u64)> {
        let frame = raw.told::<Marked>().await?;
        let marked = frame.to::<Marked>().context("a mark")?;
        Ok((marked.conversation, marked.seq, marked.number))
    };
    at_one.send(&Mark { seq: 5, number: 5 }).await?;
    assert_eq!(mark(&mut one).await?, (opening.id, 5, 5));
    assert_eq!(mark(&mut two).await?, (opening.id, 5, 5));
    // A lower one changes nothing, so that the next that is told is the higher one.
    at_two.send(&Mark { seq: 3, number: 3 }).await?;
    at_two.send(&Mark { seq: 8, number: 8 }).await?;
    at_two.send(&Mark { seq: 4, number: 4 }).await?;
    assert_eq!(mark(&mut one).await?, (opening.id, 8, 8));
    assert_eq!(mark(&mut two).await?, (opening.id, 8, 8));
    at_one.send(&Mark { seq: 7, number: 7 }).await?;
    at_one.send.finish()?;
    assert_eq!(at_one.try_frame().await?, None);
    at_two.send(&Mark { seq: 9, number: 9 }).await?;
    assert_eq!(mark(&mut one).await?, (opening.id, 9, 9), "7 was nothing new");
    let (entries, _) = one.ask(&List { after: ConversationId([0; 16]), limit: 10 }).await?;
    let entry = entries[0].to::<Entry<'_>>().context("an entry")?;
    assert_eq!((entry.number - entry.read_number, entry.read), (1, 9), "one is unread");
    let (_, opened) = one.reopen(&direct("bob"), Start::Now).await?;
    assert_eq!(opened.read, 9);
    Ok(())
}

#[tokio::test]
async fn neither_own_messages_nor_deleted_ones_are_unread_on_any_device() -> Result<()> {
    let relay = Relay::start()?;
    let (one, mut two) = (device(&relay, "alice", 1).await?, device(&relay, "alice", 2).await?);
    let bob = device(&relay, "bob", 1).await?;
    let (mut at_one, opening) = one.enter(&direct("bob")).await?;
    let (mut at_bob, _) = bob.reopen(&direct("alice"), Start::Now).await?;
    let marked = async |raw: &mut Raw| -> Result<(ConversationId, u64, u64)> {
        let frame = raw.told::<Marked>().await?;
        let marked = frame.to::<Marked>().context("a mark")?;
        Ok((marked.conversation, marked.seq, marked.number))
    };
    let unread = async |raw: &Raw| -> Result<(u64, u64)> {
        let (entries, _) = raw.ask(&List { after: ConversationId([0; 16]), limit: 10 }).await?;
        let entry = entries[0].to::<Entry<'_>>().context("an entry")?;
        Ok((entry.read, entry.number - entry.read_number))
    };
    at_one.post_accepted(2, "hello").await?;
    assert_eq!(marked(&mut two).await?, (opening.id, 1, 1), "the device that did not say it");
    assert_eq!((unread(&one).await?, unread(&bob).await?), ((1, 0), (0, 1)));

    // An answer to what was not read, and a mark that was on its way meanwhile.
    assert_eq!(at_bob.seen().await?.body, b"hello");
    at_bob.post_accepted(1, "psst").await?;
    assert_eq!(at_one.seen().await?.body, b"psst");
    at_one.post_accepted(3, "what?").await?;
    assert_eq!(marked(&mut two).await?, (opening.id, 1, 2));
    assert_eq!((unread(&one).await?, unread(&bob).await?), ((1, 1), (0, 2)));
    at_one.send(&Mark { seq: 2, number: 2 }).await?;
    assert_eq!(marked(&mut two).await?, (opening.id, 2, 3));

    // The newest message is deleted.
    assert_eq!(at_bob.seen().await?.body, b"what?");
    at_bob.post_accepted(2, "a slip").await?;
    assert_eq!(unread(&one).await?, (2, 1));
    at_bob.done(&Delete { n: 3, target: 4 }).await?;
    let (_, opened) = two.reopen(&direct("bob"), Start::Now).await?;
    assert_eq!((unread(&one).await?, opened.read), ((2, 0), 2));
    Ok(())
}

#[tokio::test]
async fn what_is_not_open_is_announced_on_the_session() -> Result<()> {
    let relay = Relay::start()?;
    let (mut alice, mut other) = (device(&relay, "alice", 1).await?, device(&relay, "alice", 2).await?);
    let mut stranger = device(&relay, "carol", 1).await?;
    let bob = device(&relay, "bob", 1).await?;
    let changed = async |raw: &mut Raw| -> Result<(ConversationId, u64, u64, u8)> {
        let frame = raw.told::<Changed<'_>>().await?;
        let changed = frame.to::<Changed<'_>>().context("a change")?;
        Ok((changed.conversation, changed.head, changed.number, changed.role))
    };

    // A first message from somebody new.
    let (mut at_bob, opening) = bob.enter(&direct("alice")).await?;
    at_bob.post_accepted(2, "hello").await?;
    for raw in [&mut alice, &mut other] {
        assert_eq!(changed(raw).await?, (opening.id, 0, 0, role::MEMBER), "the membership began");
        assert_eq!(changed(raw).await?, (opening.id, 1, 1, role::MEMBER), "a message");
    }
    // Where it is open, its stream tells; the other device is still told.
    let (mut at_alice, _) = alice.reopen(&direct("bob"), FROM_THE_START).await?;
    assert_eq!(at_alice.seen().await?.body, b"hello");
    at_bob.post_accepted(3, "again").await?;
    assert_eq!(at_alice.seen().await?.body, b"again");
    assert_eq!(changed(&mut other).await?, (opening.id, 2, 2, role::MEMBER));

    // Being added to a group and removed from it. For alice it is the first change since, though one came by the stream.
    let group = ConversationId::group(rand::random());
    let (mut at_group, _) = bob.enter(&Target::NewGroup(group)).await?;
    at_group.done(&Add { n: 2, user: "alice" }).await?;
    at_group.done(&Remove { n: 3, user: "alice", ban: false }).await?;
    for raw in [&mut alice, &mut other] {
        assert_eq!(changed(raw).await?, (group, 2, 0, role::MEMBER));
        assert_eq!(changed(raw).await?, (group, 3, 0, 0));
    }
    // A room that was joined on the one device is known to the other.
    let (mut at_room, joined) = alice.enter(&room("lobby:main")).await?;
    assert_eq!(changed(&mut other).await?, (joined.id, 1, 0, role::OWNER));
    at_room.done(&Leave { n: 2 }).await?;
    assert_eq!(changed(&mut other).await?, (joined.id, 2, 0, 0));
    // Nobody else hears any of it: the first that the stranger is told is about itself.
    at_group.done(&Add { n: 4, user: "carol" }).await?;
    assert_eq!(changed(&mut stranger).await?, (group, 4, 0, role::MEMBER));
    Ok(())
}

#[tokio::test]
async fn a_new_token_holds_for_what_is_open() -> Result<()> {
    let relay = Relay::start()?;
    let mut alice = device(&relay, "alice", 1).await?;
    let (mut lobby, _) = alice.enter(&room("lobby:main")).await?;
    let (mut staff, at_staff) = alice.enter(&room("staff:main")).await?;
    let (mut with_bob, _) = alice.enter(&direct("bob")).await?;
    let all = [String::from("*")];
    let only_lobby = [String::from("lobby:*")];
    let smaller = TokenRequest { join: &only_lobby, create: &all, ..TokenRequest::new("alice", HOUR) };
    let token = relay.token_for(&smaller)?;
    alice.session.as_mut().context("a session")?.send(&Refresh { token: &token }).await?;
    let refreshed = alice.told::<Refreshed>().await?;
    assert!(refreshed.to::<Refreshed>().context("refreshed")?.expires > 0);
    assert_eq!(staff.frame().await?.end()?.0, Code::FORBIDDEN);
    assert_eq!(staff.try_frame().await?, None);
    // Nor is it read in any other way.
    let id = at_staff.id;
    assert_eq!(alice.refused(&room("staff:main"), 0, Start::Now).await?.0, Code::FORBIDDEN);
    let history = History { conversation: id, forward: true, from: 0, limit: 10 };
    assert_eq!(alice.ask(&history).await?.1.0, Code::FORBIDDEN);
    assert_eq!(alice.ask(&Members { conversation: id, after: "", limit: 10 }).await?.1.0, Code::FORBIDDEN);
    assert_eq!(alice.ask(&PresenceIn { conversation: id, after: "", limit: 10 }).await?.1.0, Code::FORBIDDEN);
    with_bob.post_accepted(2, "not a matter of grants").await?;
    lobby.post(2, "without the grant to post").await?;
    assert_eq!(lobby.answer().await?.code(), Code::FORBIDDEN);
    let token = relay.token("alice")?;
    alice.session.as_mut().context("a session")?.send(&Refresh { token: &token }).await?;
    alice.told::<Refreshed>().await?;
    lobby.post_accepted(3, "with it again").await?;

    let token = relay.token("mallory")?;
    alice.session.as_mut().context("a session")?.send(&Refresh { token: &token }).await?;
    assert_eq!(alice.close_code().await?, Code::USER_CHANGED);
    Ok(())
}

#[tokio::test]
async fn more_new_tokens_than_the_rate_close_unchecked() -> Result<()> {
    let relay = Relay::with("[limits]\nrefreshes_per_minute = 2\n")?;
    let mut alice = device(&relay, "alice", 1).await?;
    let mut bob = device(&relay, "bob", 1).await?;
    let token = relay.token("alice")?;
    for _ in 0..2 {
        alice.session.as_mut().context("a session")?.send(&Refresh { token: &token }).await?;
        alice.told::<Refreshed>().await?;
    }
    // A token that is no token shows that nothing is verified any more.
    alice.session.as_mut().context("a session")?.send(&Refresh { token: "nonsense" }).await?;
    assert_eq!(alice.close_code().await?, Code::RATE);
    bob.session.as_mut().context("a session")?.send(&Refresh { token: &relay.token("bob")? }).await?;
    bob.told::<Refreshed>().await?;
    Ok(())
}

#[tokio::test]
async fn bad_refreshes_and_tokens_that_run_out_close() -> Result<()> {
    let relay = Relay::with("[auth]\nleeway = \"0s\"\n[presence]\nsweep = \"50ms\"\n")?;
    let mut alice = device(&relay, "alice", 1).await?;
    alice.session.as_mut().context("a session")?.send(&Refresh { token: "nonsense" }).await?;
    assert_eq!(alice.close_code().await?, Code::UNAUTHENTICATED);
    let mut alice = device(&relay, "alice", 1).await?;
    let long = "x".repeat(quip_protocol::limit::TOKEN + 1);
    alice.session.as_mut().context("a session")?.send(&Refresh { token: &long }).await?;
    assert_eq!(alice.close_code().await?, Code::MALFORMED);

    let key = MintKey::own(&SigningKey::read(&relay.data())?.context("a key")?)?;
    let brief = mint(&key, &TokenRequest::new("alice", Duration::from_secs(2)), SystemTime::now())?;
    let mut alice = Raw::connect(&relay).await?;
    alice.hello(&brief, FIRST, InstanceId(rand::random())).await?;
    let (mut stream, _) = alice.enter(&direct("bob")).await?;
    let accepted: Accepted = stream.post_accepted(2, "in time").await?;
    assert_eq!(alice.close_code().await?, Code::TOKEN_EXPIRED);
    let again = device(&relay, "alice", 2).await?;
    let (mut stream, opening) = again.reopen(&direct("bob"), FROM_THE_START).await?;
    assert_eq!((opening.last_n, opening.head), (0, accepted.seq), "another device, the same conversation");
    assert_eq!((stream.seen().await?.kind, accepted.n), (kind::TEXT, 2));
    Ok(())
}
