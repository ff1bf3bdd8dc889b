//! When somebody was last seen is known after the relay that knew it is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Code, ConversationId,
    conversation::{Add, Start, Target},
    request::PresenceIn,
    session::{Presence, presence},
};
use quip_tests::{
    raw::{Raw, RawOptions},
    relay::Relay,
    talk::{direct, until},
};

/// Life is sampled often; what is written while one is here comes every tenth of a second.
const QUICK: &str = "[presence]\nkeepalive = \"500ms\"\nidle_timeout = \"2s\"\nsweep = \"50ms\"\n";
/// Nothing is written but on coming and at the end.
const ONCE: &str = "last_seen_every = \"1h\"\n";
const OFTEN: &str = "last_seen_every = \"100ms\"\n";

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64)
}

async fn login(relay: &Relay, user: &str) -> Result<Raw> {
    let options = RawOptions { keepalive: Some(Duration::from_millis(100)), ..RawOptions::default() };
    Raw::login_as(relay, user, 1, options).await
}

/// What bob is told of alice when he opens the conversation with her.
async fn as_bob_opens(relay: &Relay) -> Result<(u8, u64)> {
    let mut bob = login(relay, "bob").await?;
    let (_stream, _) = bob.reopen(&direct("alice"), Start::Now).await?;
    let frame = bob.told::<Presence<'_>>().await?;
    let shown = frame.to::<Presence<'_>>().context("presence")?;
    ensure!(shown.user == "alice", "{shown:?}");
    Ok((shown.state, shown.last_seen))
}

/// alice and bob have a conversation, and alice is online.
async fn begin(relay: &Relay) -> Result<Raw> {
    let alice = login(relay, "alice").await?;
    drop(alice.enter(&direct("bob")).await?);
    Ok(alice)
}

#[tokio::test]
async fn a_user_who_left_before_the_relay_ended() -> Result<()> {
    let mut relay = Relay::with(&format!("{QUICK}{ONCE}"))?;
    let began = now()?;
    let alice = begin(&relay).await?;
    alice.quic.close(0u32.into(), b"bye");
    until("alice is offline", async || Ok(as_bob_opens(&relay).await?.0 == presence::OFFLINE)).await?;
    let (_, seen) = as_bob_opens(&relay).await?;
    assert!((began..=now()?).contains(&seen), "{seen}, not from {began} on");
    assert!(relay.terminate()?.success());
    relay.run()?;
    assert_eq!(as_bob_opens(&relay).await?, (presence::OFFLINE, seen), "not a moment different");
    // And once more by the store alone.
    assert!(relay.terminate()?.success());
    relay.run()?;
    assert_eq!(as_bob_opens(&relay).await?, (presence::OFFLINE, seen));
    Ok(())
}

#[tokio::test]
async fn users_online_when_the_relay_ends() -> Result<()> {
    // More than go into the order's queue at once.
    const USERS: usize = 40;
    let mut relay = Relay::with(&format!("{QUICK}{ONCE}[limits]\nwaiting_per_conversation = 3\n"))?;
    let alice = begin(&relay).await?;
    let room = ConversationId::group(rand::random());
    let (mut group, _) = alice.enter(&Target::NewGroup(room)).await?;
    let mut online = Vec::new();
    for i in 0..USERS {
        let user = format!("user-{i:02}");
        group.done(&Add { n: 2 + i as u64, user: &user }).await?;
        online.push(login(&relay, &user).await?);
    }
    let began = now()?;
    // Everyone is heard once more, long after what was written as they came.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(relay.terminate()?.success());
    let ended = now()?;
    relay.run()?;
    let alice = login(&relay, "alice").await?;
    let ask = PresenceIn { conversation: room, after: "alice", limit: 100 };
    let (frames, end) = alice.ask(&ask).await?;
    assert_eq!(end, (Code::DONE, 0));
    let shown: Vec<_> = frames.iter().filter_map(|frame| frame.to::<Presence<'_>>()).collect();
    assert_eq!(shown.len(), USERS);
    for shown in shown {
        assert_eq!(shown.state, presence::OFFLINE, "{shown:?}");
        assert!((began..=ended).contains(&shown.last_seen), "{shown:?}, not from {began} to {ended}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_online_when_the_relay_is_killed() -> Result<()> {
    let mut relay = Relay::with(&format!("{QUICK}{ONCE}"))?;
    let began = now()?;
    let _alice = begin(&relay).await?;
    // A tick, a read and a commit, with much to spare.
    tokio::time::sleep(Duration::from_secs(2)).await;
    relay.kill();
    relay.run()?;
    let (state, seen) = as_bob_opens(&relay).await?;
    assert_eq!(state, presence::OFFLINE);
    assert!((began..=now()?).contains(&seen), "{seen}: written as alice came, at {began}");
    Ok(())
}

#[tokio::test]
async fn a_kill_costs_no_more_than_the_pause_between_writes() -> Result<()> {
    let mut relay = Relay::with(&format!("{QUICK}{OFTEN}"))?;
    let alice = begin(&relay).await?;
    let began = now()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(alice.quic.close_reason().is_none());
    relay.kill();
    let killed = now()?;
    relay.run()?;
    let (state, seen) = as_bob_opens(&relay).await?;
    assert_eq!(state, presence::OFFLINE);
    // Far more than what was written as alice came.
    assert!((began + 1000..=killed).contains(&seen), "{seen}, began at {began}, killed at {killed}");
    Ok(())
}

#[tokio::test]
async fn a_user_who_was_never_connected_has_no_last_seen_time() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let bob = login(&relay, "bob").await?;
    drop(bob.enter(&direct("alice")).await?);
    drop(bob);
    assert_eq!(as_bob_opens(&relay).await?, (presence::OFFLINE, 0));
    Ok(())
}
