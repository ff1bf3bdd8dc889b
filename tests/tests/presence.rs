//! Who is reachable, as others see it: truthful within the idle timeout and five seconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Code, ConversationId, DeviceId, InstanceId,
    conversation::{Add, Remove, Start, Target},
    request::PresenceIn,
    session::{Presence, Refresh, Refreshed, presence},
};
use quip_tests::{
    proxy::Proxy,
    raw::{Raw, RawOptions, RawStream},
    relay::Relay,
    talk::{direct, until},
};

/// A tenth of the default times and less, so that a test takes a second or two.
const QUICK: &str =
    "[presence]\nkeepalive = \"500ms\"\nidle_timeout = \"2s\"\nsweep = \"50ms\"\noffline_after = \"300ms\"\n";
const KEEPALIVE: Duration = Duration::from_millis(200);
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// A break shows after so long here, that whatever shows earlier showed at once.
const SLOW_BREAKS: &str =
    "[presence]\nkeepalive = \"500ms\"\nidle_timeout = \"2s\"\nsweep = \"50ms\"\noffline_after = \"8s\"\n";
/// What the relay may take beyond the idle timeout.
const GRACE: Duration = Duration::from_secs(5);

fn alive() -> RawOptions {
    RawOptions { keepalive: Some(KEEPALIVE), ..RawOptions::default() }
}

async fn login(relay: &Relay, user: &str, device: u8) -> Result<Raw> {
    Raw::login_as(relay, user, device, alive()).await
}

/// A client behind a wire that can be cut.
async fn behind_a_wire(relay: &Relay, user: &str, device: u8) -> Result<(Raw, Proxy)> {
    let wire = Proxy::to(relay.address).await?;
    let raw = Raw::login_as(relay, user, device, RawOptions { address: Some(wire.address), ..alive() }).await?;
    Ok((raw, wire))
}

/// The next change that a watcher is told: who, state, and whether a last-seen time came with it.
async fn shown(watcher: &mut Raw) -> Result<(String, u8, bool)> {
    let frame = watcher.told::<Presence<'_>>().await?;
    let presence = frame.to::<Presence<'_>>().context("presence")?;
    Ok((presence.user.to_owned(), presence.state, presence.last_seen > 0))
}

fn of(user: &str, state: u8) -> (String, u8, bool) {
    (user.to_owned(), state, state != presence::ONLINE)
}

/// Everything that a watcher was told until now: it is there before the answer to a refresh.
async fn shown_by_now(relay: &Relay, watcher: &mut Raw, user: &str) -> Result<Vec<(String, u8)>> {
    let token = relay.token(user)?;
    let session = watcher.session.as_mut().context("a session")?;
    session.send(&Refresh { token: &token }).await?;
    let mut all = Vec::new();
    loop {
        let frame = session.frame().await?;
        if frame.to::<Refreshed>().is_some() {
            return Ok(all);
        }
        all.extend(frame.to::<Presence<'_>>().map(|presence| (presence.user.to_owned(), presence.state)));
    }
}

/// bob watches alice, who is online.
async fn bob_watches(relay: &Relay) -> Result<(Raw, RawStream)> {
    let mut bob = login(relay, "bob", 1).await?;
    let (stream, _) = bob.enter(&direct("alice")).await?;
    ensure!(shown(&mut bob).await? == of("alice", presence::ONLINE));
    Ok((bob, stream))
}

/// States of a conversation's members, asked for.
async fn states(raw: &Raw, conversation: ConversationId) -> Result<Vec<(String, u8, u64)>> {
    let (frames, end) = raw.ask(&PresenceIn { conversation, after: "", limit: 100 }).await?;
    ensure!(end == (Code::DONE, 0), "{end:?}");
    let states = frames.iter().filter_map(|frame| frame.to::<Presence<'_>>());
    Ok(states.map(|presence| (presence.user.to_owned(), presence.state, presence.last_seen)).collect())
}

#[test]
fn a_client_that_is_killed_is_offline_in_time_even_while_it_is_sent_to() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The client lives on a runtime of its own that ends in the middle of everything, as a process does.
    let there = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let alice = there.block_on(async {
        let raw = login(&relay, "alice", 1).await?;
        let (stream, _) = raw.enter(&direct("bob")).await?;
        anyhow::Ok((raw, stream))
    })?;
    here.block_on(async {
        let (kill, killed) = std::sync::mpsc::channel::<()>();
        let client = std::thread::spawn(move || {
            // Keeps the connection alive until it is killed, and is never dropped.
            let alice = std::mem::ManuallyDrop::new(alice);
            there.block_on(async {
                while killed.try_recv().is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            there.shutdown_background();
            alice
        });
        let mut bob = login(&relay, "bob", 1).await?;
        let (mut stream, _) = bob.reopen(&direct("alice"), Start::Now).await?;
        assert_eq!(shown(&mut bob).await?, of("alice", presence::ONLINE));
        kill.send(())?;
        let _gone = client.join().ok().context("the client's thread")?;
        let started = Instant::now();
        let mut session = bob.session.take().context("a session")?;
        let changes = async {
            let mut changes = Vec::new();
            while changes.last().is_none_or(|(state, _)| *state != presence::OFFLINE) {
                let frame = session.frame().await?;
                if let Some(presence) = frame.to::<Presence<'_>>() {
                    changes.push((presence.state, started.elapsed()));
                }
            }
            anyhow::Ok(changes)
        };
        let sending = async {
            for n in 1.. {
                stream.post_accepted(n, "are you there?").await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        };
        let changes = tokio::select! {
            changes = changes => changes?,
            failed = sending => anyhow::bail!("sending ended: {failed:?}"),
        };
        let [(presence::UNREACHABLE, unreachable), (presence::OFFLINE, offline)] = changes[..] else {
            anyhow::bail!("{changes:?}");
        };
        assert!(unreachable >= KEEPALIVE && unreachable < offline, "{changes:?}");
        assert!(offline >= IDLE_TIMEOUT - KEEPALIVE * 2 && offline <= IDLE_TIMEOUT + GRACE, "{changes:?}");
        Ok(())
    })
}

#[tokio::test]
async fn a_client_that_is_cut_off_is_unreachable_and_then_offline() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let (alice, wire) = behind_a_wire(&relay, "alice", 1).await?;
    let (mut bob, _stream) = bob_watches(&relay).await?;
    // Only what alice sends is lost: what the relay sends proves nothing.
    wire.up(false);
    assert_eq!(shown(&mut bob).await?, of("alice", presence::UNREACHABLE));
    wire.up(true);
    assert_eq!(shown(&mut bob).await?, of("alice", presence::ONLINE), "heard again in time");
    let started = Instant::now();
    wire.cut();
    assert_eq!(shown(&mut bob).await?, of("alice", presence::UNREACHABLE));
    assert_eq!(shown(&mut bob).await?, of("alice", presence::OFFLINE));
    let offline = started.elapsed();
    assert!(offline >= IDLE_TIMEOUT - KEEPALIVE * 2 && offline <= IDLE_TIMEOUT + GRACE, "{offline:?}");
    assert!(alice.quic.close_reason().is_none(), "the client has not noticed yet");
    let again = login(&relay, "alice", 1).await?;
    assert_eq!(shown(&mut bob).await?, of("alice", presence::ONLINE));
    drop(again);
    Ok(())
}

#[tokio::test]
async fn keepalives_alone_keep_a_user_online() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let mut alice = login(&relay, "alice", 1).await?;
    let (mut bob, _stream) = bob_watches(&relay).await?;
    tokio::time::sleep(IDLE_TIMEOUT * 3).await;
    assert_eq!(shown_by_now(&relay, &mut bob, "bob").await?, [], "nothing changed in three idle timeouts");
    assert!(alice.quic.close_reason().is_none());
    assert_eq!(shown_by_now(&relay, &mut alice, "alice").await?, []);
    // One that sends no keepalives, on the other hand, does not last.
    let silent = Raw::login_as(&relay, "alice", 2, RawOptions { keepalive: None, ..RawOptions::default() }).await?;
    until("the silent one is closed", async || Ok(silent.quic.close_reason().is_some())).await?;
    assert_eq!(shown_by_now(&relay, &mut bob, "bob").await?, [], "the other device kept alice online");
    Ok(())
}

#[tokio::test]
async fn a_goodbye_shows_at_once_and_a_break_later() -> Result<()> {
    let relay = Relay::with(SLOW_BREAKS)?;
    let alice = login(&relay, "alice", 1).await?;
    let (mut bob, _stream) = bob_watches(&relay).await?;
    let online = of("alice", presence::ONLINE);
    let offline = of("alice", presence::OFFLINE);
    let at_once = async |bob: &mut Raw, how: &str| -> Result<()> {
        let started = Instant::now();
        ensure!(shown(bob).await? == offline, "{how}");
        ensure!(started.elapsed() < Duration::from_secs(4), "{how} took {:?}", started.elapsed());
        Ok(())
    };
    alice.quic.close(0u32.into(), b"bye");
    at_once(&mut bob, "a close with BYE").await?;
    for round in 0..6 {
        let mut alice = login(&relay, "alice", 1).await?;
        assert_eq!(shown(&mut bob).await?, online);
        let mut session = alice.session.take().context("a session")?;
        match round % 3 {
            0 => session.send.finish()?,
            1 => session.send.reset(0u32.into())?,
            _ => drop(session),
        }
        at_once(&mut bob, &format!("the end of stream 0, {round}")).await?;
        assert_eq!(alice.close_code().await?, Code::BYE);
    }
    // A client that stumbles and is back soon was never away.
    let alice = login(&relay, "alice", 1).await?;
    assert_eq!(shown(&mut bob).await?, online);
    alice.quic.close(1u32.into(), b"stumbled");
    let alice = login(&relay, "alice", 1).await?;
    alice.quic.close(0u32.into(), b"bye");
    at_once(&mut bob, "the goodbye after a reconnect that nobody saw").await?;
    // One that is not back shows after the pause.
    let alice = login(&relay, "alice", 1).await?;
    assert_eq!(shown(&mut bob).await?, online);
    alice.quic.close(1u32.into(), b"stumbled");
    let started = Instant::now();
    assert_eq!(shown(&mut bob).await?, offline);
    assert!(started.elapsed() >= Duration::from_secs(7), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn the_best_of_a_users_devices_counts() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let phone = login(&relay, "alice", 1).await?;
    let (_tablet, wire) = behind_a_wire(&relay, "alice", 2).await?;
    let (mut bob, stream) = bob_watches(&relay).await?;
    phone.quic.close(0u32.into(), b"bye");
    wire.cut();
    assert_eq!(
        shown(&mut bob).await?,
        of("alice", presence::UNREACHABLE),
        "not offline: the tablet may be heard again"
    );
    let phone = login(&relay, "alice", 1).await?;
    assert_eq!(shown(&mut bob).await?, of("alice", presence::ONLINE));
    tokio::time::sleep(IDLE_TIMEOUT * 2).await;
    assert_eq!(shown_by_now(&relay, &mut bob, "bob").await?, [], "the phone keeps alice online");
    // The same device in another process: nobody sees the change.
    let other = Raw::login_as(&relay, "alice", 1, alive()).await?;
    assert_eq!(phone.close_code().await?, Code::REPLACED);
    assert_eq!(shown_by_now(&relay, &mut bob, "bob").await?, []);
    // Who closes the conversation watches no more.
    drop(stream);
    until("the conversation is closed", async || {
        let (_, first) = bob.open(&direct("alice"), 0, Start::Now).await?;
        Ok(first.opened().is_ok())
    })
    .await?;
    assert_eq!(shown(&mut bob).await?, of("alice", presence::ONLINE), "as it is, on opening");
    other.quic.close(0u32.into(), b"bye");
    Ok(())
}

#[tokio::test]
async fn small_groups_are_live_and_larger_ones_are_asked() -> Result<()> {
    let relay = Relay::with(&format!("{QUICK}\n[limits]\npresence_group_members = 3\n"))?;
    let mut alice = login(&relay, "alice", 1).await?;
    let bob = login(&relay, "bob", 1).await?;
    let (small, large) = (ConversationId::group(rand::random()), ConversationId::group(rand::random()));
    let (mut at_large, _) = alice.enter(&Target::NewGroup(large)).await?;
    for (n, user) in (2..).zip(["bob", "carol", "dave"]) {
        at_large.done(&Add { n, user }).await?;
    }
    drop(at_large);
    let early = [("bob".to_owned(), presence::ONLINE), ("carol".to_owned(), presence::OFFLINE)];
    assert_eq!(shown_by_now(&relay, &mut alice, "alice").await?, early, "while it was small");
    let (mut at_small, _) = alice.enter(&Target::NewGroup(small)).await?;
    at_small.done(&Add { n: 2, user: "bob" }).await?;
    assert_eq!(shown(&mut alice).await?, of("bob", presence::ONLINE), "bob came while it was open");
    at_small.done(&Add { n: 3, user: "carol" }).await?;
    let (user, state, seen) = shown(&mut alice).await?;
    assert_eq!((user.as_str(), state, seen), ("carol", presence::OFFLINE, false), "never seen");

    let carol = login(&relay, "carol", 1).await?;
    assert_eq!(shown(&mut alice).await?, of("carol", presence::ONLINE));
    let (mut dave, eve) = (login(&relay, "dave", 1).await?, login(&relay, "eve", 1).await?);
    let (_at_dave, _) = dave.reopen(&Target::Id(large), Start::Now).await?;
    bob.quic.close(0u32.into(), b"bye");
    assert_eq!(shown(&mut alice).await?, of("bob", presence::OFFLINE));
    carol.quic.close(0u32.into(), b"bye");
    assert_eq!(shown(&mut alice).await?, of("carol", presence::OFFLINE));
    assert_eq!(shown_by_now(&relay, &mut dave, "dave").await?, [], "four are too many to be told live");
    let asked = states(&dave, large).await?;
    let expected = ["alice", "bob", "carol", "dave"].into_iter().zip([2, 0, 0, 2]);
    assert!(asked.iter().map(|(user, state, _)| (user.as_str(), *state)).eq(expected), "{asked:?}");
    assert!(asked.iter().all(|(_, state, last_seen)| (*last_seen > 0) == (*state == presence::OFFLINE)), "{asked:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64;
    assert!(asked.iter().all(|(_, _, seen)| *seen == 0 || now - seen < 60_000), "{asked:?} at {now}");
    let stranger = PresenceIn { conversation: large, after: "", limit: 100 };
    assert_eq!(eve.ask(&stranger).await?, (vec![], (Code::NOT_FOUND, 0)));

    // One who was removed is no longer watched, and watches no more.
    let bob = login(&relay, "bob", 1).await?;
    assert_eq!(shown(&mut alice).await?, of("bob", presence::ONLINE));
    at_small.done(&Remove { n: 4, user: "bob", ban: false }).await?;
    bob.quic.close(0u32.into(), b"bye");
    let carol = login(&relay, "carol", 1).await?;
    assert_eq!(shown(&mut alice).await?, of("carol", presence::ONLINE), "and nothing of bob before it");
    drop(carol);
    Ok(())
}

#[tokio::test]
async fn a_group_that_outgrows_the_limit_has_no_live_presence() -> Result<()> {
    let relay = Relay::with(&format!("{QUICK}\n[limits]\npresence_group_members = 2\n"))?;
    let id = ConversationId::group(rand::random());
    let (mut alice, bob) = (login(&relay, "alice", 1).await?, login(&relay, "bob", 1).await?);
    let (mut group, _) = alice.enter(&Target::NewGroup(id)).await?;
    group.done(&Add { n: 2, user: "bob" }).await?;
    assert_eq!(shown(&mut alice).await?, of("bob", presence::ONLINE));
    group.done(&Add { n: 3, user: "carol" }).await?;
    let (_direct, _) = alice.enter(&direct("dave")).await?;
    assert_eq!(shown(&mut alice).await?, ("dave".to_owned(), presence::OFFLINE, false));
    bob.quic.close(0u32.into(), b"bye");
    until("bob is offline", async || {
        let members = PresenceIn { conversation: id, after: "alice", limit: 1 };
        let (frames, _) = alice.ask(&members).await?;
        Ok(frames[0].to::<Presence<'_>>().is_some_and(|bob| bob.state == presence::OFFLINE))
    })
    .await?;
    assert_eq!(shown_by_now(&relay, &mut alice, "alice").await?, [], "three are too many");
    Ok(())
}

#[tokio::test]
async fn a_connection_without_a_hello_has_no_presence() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let nobody = Raw::connect_with(&relay, alive()).await?;
    let alice = login(&relay, "alice", 1).await?;
    let (mut bob, _stream) = bob_watches(&relay).await?;
    alice.quic.close(0u32.into(), b"bye");
    assert_eq!(shown(&mut bob).await?, of("alice", presence::OFFLINE));
    // A token that is refused shows nothing either.
    let mut mallory = Raw::connect_with(&relay, alive()).await?;
    let hello = mallory.hello("alice", DeviceId([1; 16]), InstanceId([1; 16])).await;
    assert!(hello.is_err());
    assert_eq!(shown_by_now(&relay, &mut bob, "bob").await?, []);
    drop(nobody);
    Ok(())
}
