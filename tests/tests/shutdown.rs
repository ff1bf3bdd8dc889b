//! What clients see of a relay that is asked to end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quip_client::{Client, Config, OpenOptions, Target, Trust};
use quip_protocol::{Code, conversation::Start, session::GoAway};
use quip_tests::{
    raw::Raw,
    relay::{PATIENCE, Relay},
    talk::{direct, room, until},
};

/// Longer than any test waits.
const LONG: &str = "[limits]\ngo_away_within = \"10m\"\n";

#[tokio::test]
async fn until_the_time_has_passed_everything_works_as_before() -> Result<()> {
    let mut relay = Relay::with(LONG)?;
    let (mut alice, bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let (mut of_bob, _) = bob.enter(&room("lobby:main")).await?;
    let (mut of_alice, _) = alice.enter(&room("lobby:main")).await?;
    of_bob.seen().await.context("alice joined")?;
    let silent = Raw::connect(&relay).await?;
    // The one before is known to the relay too by then.
    Raw::login(&relay, "carol").await?;

    relay.signal("TERM")?;
    let told = alice.told::<GoAway>().await?;
    ensure!(told.to() == Some(GoAway { code: Code::SHUTDOWN, within: 600_000 }), "{told:?}");
    let accepted = of_alice.post_accepted(2, "is it over?").await?;
    ensure!(of_bob.seen().await?.seq == accepted.seq);
    let (mut both, opening) = alice.enter(&direct("bob")).await?;
    both.post_accepted(2, "only for us").await?;
    ensure!(!alice.history(opening.id).await?.is_empty());

    ensure!(silent.close_code().await? == Code::SHUTDOWN, "one who has said no hello");
    let late = Raw::connect(&relay).await?;
    ensure!(late.close_code().await? == Code::SHUTDOWN, "one who comes now");
    alice.quic.close(0_u32.into(), b"");
    of_bob.post_accepted(2, "now it is").await?;
    bob.quic.close(0_u32.into(), b"");
    bob.endpoint.wait_idle().await;
    ensure!(relay.wait().context("nobody is left to wait for")?.success());
    Ok(())
}

#[tokio::test]
async fn nobody_is_waited_for_where_nobody_is() -> Result<()> {
    let mut relay = Relay::with(LONG)?;
    ensure!(relay.terminate()?.success());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_the_relay_at_once() -> Result<()> {
    for second in ["TERM", "INT"] {
        let mut relay = Relay::with(LONG)?;
        let mut alice = Raw::login(&relay, "alice").await?;
        let (mut lobby, _) = alice.enter(&room("lobby:main")).await?;
        relay.signal("TERM")?;
        alice.told::<GoAway>().await?;
        lobby.post_accepted(2, "not yet").await?;
        relay.signal(second)?;
        ensure!(alice.close_code().await? == Code::SHUTDOWN);
        ensure!(relay.wait()?.success());
    }
    Ok(())
}

#[tokio::test]
async fn when_the_time_has_passed_everyone_is_closed_and_what_was_answered_is_kept() -> Result<()> {
    const WITHIN: Duration = Duration::from_millis(500);
    let limits = format!("[limits]\ngo_away_within = \"{WITHIN:?}\"\nmessages_per_second = 0\n");
    let mut relay = Relay::with(&limits)?;
    let mut alice = Raw::login(&relay, "alice").await?;
    let (mut lobby, _) = alice.enter(&room("lobby:main")).await?;
    let asked = Instant::now();
    relay.signal("TERM")?;
    alice.told::<GoAway>().await?;
    let mut answered = 1;
    while let Ok(accepted) = lobby.post_accepted(answered + 1, "still here").await {
        answered = accepted.n;
    }
    let lasted = asked.elapsed();
    println!("{} posts in {lasted:?}", answered - 1);
    ensure!(lasted >= WITHIN, "{lasted:?}");
    ensure!(alice.close_code().await? == Code::SHUTDOWN);
    ensure!(relay.wait()?.success());
    relay.run()?;
    let (_, opening) = Raw::login(&relay, "alice").await?.reopen(&room("lobby:main"), Start::Now).await?;
    // The last one may have been taken without an answer.
    ensure!((answered..=answered + 1).contains(&opening.last_n), "{opening:?} after {answered}");
    Ok(())
}

#[tokio::test]
async fn a_hangup_ends_nothing() -> Result<()> {
    let mut relay = Relay::start()?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut lobby, _) = alice.enter(&room("lobby:main")).await?;
    relay.signal("HUP")?;
    until("it is logged", async || Ok(relay.log().contains("SIGHUP: ignored"))).await?;
    lobby.post_accepted(2, "still here").await?;
    ensure!(relay.terminate()?.success());
    Ok(())
}

#[tokio::test]
async fn a_client_is_served_to_the_end_and_comes_back() -> Result<()> {
    let mut relay = Relay::with(LONG)?;
    let (address, trust) = (relay.address.to_string(), Trust::Fingerprint(relay.fingerprint()?));
    let client = Client::connect(Config::new([address], trust, relay.token("alice")?)).await?;
    let lobby = client.open(Target::room("lobby:main")?, OpenOptions::join()).await?;
    relay.signal("TERM")?;
    until("it is going away", async || Ok(relay.log().contains("to connect elsewhere"))).await?;
    for _ in 0..20 {
        let receipt = lobby.send("still here").await?;
        tokio::time::timeout(PATIENCE, receipt.accepted()).await.context("it is served")??;
    }
    relay.signal("TERM")?;
    ensure!(relay.wait()?.success());
    let receipt = lobby.send("and now?").await?;
    relay.run()?;
    tokio::time::timeout(PATIENCE, receipt.accepted()).await.context("it comes back")??;
    Ok(())
}
