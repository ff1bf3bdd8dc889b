//! The whole relay and the real client on an order that refuses, loses, repeats, delays and reorders commands by seed:
//! everything that the seam allows, and so what any engine may do.
//!
//! `QUIP_TEST_SEED` runs one seed, `QUIP_TEST_MESSAGES` that many messages of each client.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use quip_client::{
    Client, Config, Conversation, ConversationEvent, Events, OpenOptions, OwnedEvent, Sender, Target, Trust, kind,
};
use quip_tests::relay::Relay;
use tokio::task::JoinSet;

/// Short, as every lost command is waited out.
const CONFIG: &str = "[limits]\nmessages_per_second = 0\nanswer_timeout = \"200ms\"\n";
/// Longer than anything here takes.
const WHOLE: Duration = Duration::from_secs(120);

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> Vec<u64> {
    from_environment("QUIP_TEST_SEED").map_or_else(|| vec![1, 2], |seed| vec![seed])
}

fn messages() -> u64 {
    from_environment("QUIP_TEST_MESSAGES").unwrap_or(40)
}

async fn connect(relay: &Relay, user: &str) -> Result<Client> {
    let trust = Trust::Fingerprint(relay.fingerprint()?);
    let config = Config::new([relay.address.to_string()], trust, relay.token(user)?).answer_timeout(WHOLE);
    Ok(Client::connect(config).await?)
}

/// What one member of a conversation was given, and where its own messages were said to stand.
struct Told {
    events: Vec<OwnedEvent>,
    accepted: Vec<(String, u64)>,
}

/// Sends `count` messages and takes events until `total` messages came.
async fn talk(conversation: Conversation, user: &str, count: u64, total: u64) -> Result<Told> {
    let (sender, events) = conversation.split();
    let (accepted, events) = tokio::try_join!(send(&sender, user, count), take(events, total))?;
    Ok(Told { events, accepted })
}

async fn send(sender: &Sender, user: &str, count: u64) -> Result<Vec<(String, u64)>> {
    let mut receipts = Vec::new();
    for number in 0..count {
        let text = format!("{user} {number}");
        receipts.push((sender.send(&text).await?, text));
    }
    let mut accepted = Vec::new();
    for (receipt, text) in receipts {
        let place = receipt.accepted().await.with_context(|| format!("the receipt of {text:?}"))?;
        accepted.push((text, place.seq));
    }
    Ok(accepted)
}

async fn take(mut events: Events, total: u64) -> Result<Vec<OwnedEvent>> {
    let mut taken = Vec::<OwnedEvent>::new();
    while (taken.iter().filter(|event| event.kind == kind::TEXT).count() as u64) < total {
        match events.next().await.context("the conversation ended")? {
            ConversationEvent::Event(event) => taken.push(event),
            ConversationEvent::Skipped { to, .. } => ensure!(taken.is_empty(), "skipped to {to} in the middle"),
            ConversationEvent::Ended(code) => anyhow::bail!("the conversation ended: {code}"),
            _ => {}
        }
    }
    Ok(taken)
}

/// Everyone was given the same, dense, every message once, and each where its sender was told.
fn check(told: &[Told], total: u64) -> Result<()> {
    let mut places = HashMap::new();
    for member in told {
        for pair in member.events.windows(2) {
            ensure!(pair[1].seq == pair[0].seq + 1, "{} follows {}", pair[1].seq, pair[0].seq);
        }
        for event in &member.events {
            let known = places.entry(event.seq).or_insert_with(|| (event.user.clone(), event.body.clone()));
            ensure!(
                *known == (event.user.clone(), event.body.clone()),
                "two members see different events {}",
                event.seq
            );
        }
        let mut texts: Vec<_> = member.events.iter().filter_map(OwnedEvent::text).collect();
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        ensure!((texts.len(), count as u64) == (count, total), "{} different of {count} messages", texts.len());
    }
    for (text, seq) in told.iter().flat_map(|member| &member.accepted) {
        let (_, body) = places.get(seq).with_context(|| format!("nobody saw event {seq}"))?;
        ensure!(body == text.as_bytes(), "{text:?} was said to be event {seq}, which is {body:?}");
    }
    Ok(())
}

/// In a room, and beside it in a direct conversation, so that one's troubles are not the other's.
async fn everyone_talks(relay: &Relay) -> Result<()> {
    let count = messages();
    let (mut rooms, mut pairs) = (Vec::new(), Vec::new());
    for (user, peer) in [("ann", Some("bob")), ("bob", Some("ann")), ("cat", None)] {
        let client = connect(relay, user).await?;
        rooms.push((user, client.open(Target::room("lobby:main")?, OpenOptions::join()).await?));
        if let Some(peer) = peer {
            pairs.push((user, client.open(Target::direct(peer)?, OpenOptions::join()).await?));
        }
    }
    let (mut room, mut direct) = (JoinSet::new(), JoinSet::new());
    for (user, conversation) in rooms {
        room.spawn(talk(conversation, user, count, 3 * count));
    }
    for (user, conversation) in pairs {
        direct.spawn(talk(conversation, user, count, 2 * count));
    }
    let told = room.join_all().await.into_iter().collect::<Result<Vec<_>>>().context("in the room")?;
    check(&told, 3 * count).context("in the room")?;
    let told = direct.join_all().await.into_iter().collect::<Result<Vec<_>>>().context("in the direct conversation")?;
    check(&told, 2 * count).context("in the direct conversation")
}

/// Edits go by way of a reader and there is nobody else: no other traffic brings an answer along that was forgotten.
async fn one_edits(relay: &Relay) -> Result<()> {
    let client = connect(relay, "ann").await?;
    let conversation = client.open(Target::room("lobby:main")?, OpenOptions::join()).await?;
    let sender = conversation.sender();
    let seq = sender.send("0").await?.accepted().await.context("the message")?.seq;
    for number in 1..=3 * messages() {
        sender.edit(seq, number.to_string()).await?.accepted().await.with_context(|| format!("edit {number}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lone_sender_gets_every_refusal() {
    run(one_edits).await;
}

#[tokio::test]
async fn nothing_is_lost_repeated_or_reordered_on_an_order_that_does_all_of_it() {
    run(everyone_talks).await;
}

async fn run(scenario: impl AsyncFn(&Relay) -> Result<()>) {
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut relay = Relay::prepare_faulty(folder.path(), CONFIG, seed);
        relay.run().unwrap();
        let result = tokio::time::timeout(WHOLE, scenario(&relay)).await;
        let result = result.context("it takes too long").and_then(|result| result);
        if let Err(error) = result {
            panic!("seed {seed}: {error:#}\n{}", relay.log());
        }
        assert!(relay.terminate().unwrap().success(), "seed {seed}: {}", relay.log());
    }
}
