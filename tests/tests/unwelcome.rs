//! What those can reach who have said no hello yet, or never will.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use quip_tests::{
    proxy::Proxy,
    raw::{Raw, RawOptions, raw_frame},
    relay::Relay,
    talk::until,
};

/// True while a future waits for something that does not come.
async fn waits<F: Future>(future: F) -> bool {
    tokio::time::timeout(Duration::from_millis(300), future).await.is_err()
}

#[tokio::test]
async fn what_is_sent_ahead_is_bounded_on_a_stream_and_on_a_connection() -> Result<()> {
    let limits = "stream_receive_window_bytes = \"64KiB\"\nconnection_receive_window_bytes = \"128KiB\"\n\
                  unanswered_bytes_per_connection = \"64KiB\"\n";
    let relay = Relay::with(&format!("[limits]\nunauthenticated = \"60s\"\n{limits}"))?;
    let silent = Raw::connect(&relay).await?;
    // Before a hello no more is read than a first frame, so that what is taken is what there is room for.
    let (mut one, mut two, mut three) = (silent.stream().await?, silent.stream().await?, silent.stream().await?);
    let frames = raw_frame(0x3d, &[0; 126]).repeat(640);
    assert!(waits(one.bytes(&frames)).await, "a stream takes 64 KiB, not 80");
    two.bytes(&frames[..50 << 10]).await?;
    assert!(waits(three.bytes(&frames[..40 << 10])).await, "a connection takes 128 KiB, not 154");
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_gives_its_place_back() -> Result<()> {
    let limits = "[limits]\nconnections = 1\nunauthenticated = \"2s\"\n";
    let relay = Relay::with(&format!("{limits}[presence]\nidle_timeout = \"600s\"\n"))?;
    let proxy = Proxy::to(relay.address).await?;
    proxy.down(false);
    let options = RawOptions { address: Some(proxy.address), ..RawOptions::default() };
    let unfinished = Raw::connect_with(&relay, options);
    let others = async {
        until("the handshake has begun", async || Ok(proxy.heard())).await?;
        let refused = Raw::connect(&relay).await.err().context("a second connection")?;
        ensure!(format!("{refused:?}").contains("refused"), "{refused:?}");
        until("there is room again", async || Ok(Raw::login(&relay, "alice").await.is_ok())).await
    };
    tokio::select! {
        ended = unfinished => bail!("no room as long as the client tries: {ended:?}"),
        there_was_room = others => there_was_room?,
    }
    Ok(())
}

#[tokio::test]
async fn handshakes_that_wait_to_be_accepted_are_bounded_and_come_in_later() -> Result<()> {
    let limits = "[limits]\nincoming = 2\nunauthenticated = \"60s\"\n";
    let relay = Relay::with(&format!("{limits}[log]\nlevel = \"info,quinn_proto=debug\"\n"))?;
    let pid = relay.pid().context("it runs")?.to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status();
    let mut rounds = 0;
    until("handshakes are ignored", async || {
        rounds += 1;
        // While the relay stands still, they all arrive, and are there at once when it goes on.
        signal("-STOP")?;
        let all = async {
            let connect = || Raw::connect(&relay);
            tokio::try_join!(connect(), connect(), connect(), connect(), connect(), connect(), connect(), connect())
        };
        let resume = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            signal("-CONT")
        };
        let (all, resumed) = tokio::join!(all, resume);
        resumed?;
        all.context("who was ignored asks again")?;
        Ok(relay.log().contains("due to saturation"))
    })
    .await?;
    println!("{rounds} rounds");
    Ok(())
}

#[tokio::test]
async fn handshakes_are_no_closer_than_their_rate() -> Result<()> {
    const RATE: u32 = 10;
    let relay = Relay::with(&format!("[limits]\naccepts_per_second = {RATE}\n"))?;
    let began = Instant::now();
    let connect = || Raw::connect(&relay);
    tokio::try_join!(connect(), connect(), connect(), connect(), connect(), connect())?;
    let least = Duration::from_secs(1) * 4 / RATE;
    ensure!(began.elapsed() >= least, "six handshakes took {:?}", began.elapsed());
    Ok(())
}
