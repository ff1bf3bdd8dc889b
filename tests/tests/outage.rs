//! A relay that is killed while people talk: their apps learn of it soon, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quip_client::{
    Client, Config, ConnectionState, Content, ConversationEvent, Events, OpenOptions, Receipt, Sender, Start, Target,
    Trust,
};
use quip_tests::relay::{PATIENCE, Relay};
use tokio::{task::JoinHandle, time::timeout};

const PEOPLE: usize = 6;
/// How long the relay is away.
const AWAY: Duration = Duration::from_secs(5);
/// A message of each.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon an app knows that sends: 2 s, and as long again for a busy machine.
const KNOWN: Duration = Duration::from_secs(4);

/// What one has heard.
async fn listen(mut events: Events, last: String) -> Vec<String> {
    let mut heard = Vec::new();
    let mut ended = 0;
    while ended < PEOPLE
        && let Some(event) = events.next().await
    {
        let ConversationEvent::Event(event) = event else { continue };
        if let Content::Text(text) = event.content() {
            ended += usize::from(text == last);
            heard.push(format!("{}: {text}", event.user));
        }
    }
    heard
}

/// Says something now and then until `until`; what was said, and the receipts.
async fn talk(sender: Sender, until: Instant) -> Result<Vec<(String, Receipt)>> {
    let mut said = Vec::new();
    while Instant::now() < until {
        let text = format!("line {}", said.len());
        let receipt = sender.send(&text).await?;
        said.push((text, receipt));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(said)
}

/// How long it took until the app saw that the relay does not answer.
async fn notice(client: &Client, killed: Instant) -> Result<Duration> {
    let mut state = client.state();
    timeout(PATIENCE, state.wait_for(|state| !matches!(state, ConnectionState::Online { .. }))).await??;
    Ok(killed.elapsed())
}

#[tokio::test]
async fn people_who_talk_learn_of_a_killed_relay_and_lose_nothing() -> Result<()> {
    let mut relay = Relay::start()?;
    let until = Instant::now() + 2 * AWAY;
    let mut clients = Vec::new();
    let mut talking: Vec<JoinHandle<_>> = Vec::new();
    let mut listening: Vec<JoinHandle<_>> = Vec::new();
    for person in 0..PEOPLE {
        let config = Config::new(
            [relay.address.to_string()],
            Trust::Fingerprint(relay.fingerprint()?),
            relay.token(&format!("person {person}"))?,
        );
        let client = Client::connect(config).await?;
        let options = OpenOptions::join().start(Start::Beginning);
        let (sender, events) = client.open(Target::room("lobby:main")?, options).await?.split();
        talking.push(tokio::spawn(talk(sender.clone(), until)));
        listening.push(tokio::spawn(listen(events, "the end".to_owned())));
        clients.push((client, sender));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    relay.kill();
    let killed = Instant::now();
    for (client, _) in &clients {
        let after = notice(client, killed).await?;
        println!("noticed after {after:?}");
        ensure!(after < KNOWN, "noticed after {after:?}");
    }
    tokio::time::sleep(AWAY.saturating_sub(killed.elapsed())).await;
    relay.run()?;
    let mut sent = Vec::new();
    for (person, talk) in talking.into_iter().enumerate() {
        for (text, receipt) in talk.await?? {
            timeout(PATIENCE, receipt.accepted()).await.context("an answer")??;
            sent.push(format!("person {person}: {text}"));
        }
    }
    for (person, (_, sender)) in clients.iter().enumerate() {
        timeout(PATIENCE, sender.send("the end").await?.accepted()).await??;
        sent.push(format!("person {person}: the end"));
    }
    sent.sort();
    let mut first = None;
    for heard in listening {
        let heard = timeout(PATIENCE, heard).await.context("the end")??;
        ensure!(*first.get_or_insert_with(|| heard.clone()) == heard, "two heard different things");
        let mut sorted = heard;
        sorted.sort();
        ensure!(sorted == sent, "{} were sent, {} heard", sent.len(), sorted.len());
    }
    println!("{} messages, each heard once by {PEOPLE}", sent.len());
    Ok(())
}
