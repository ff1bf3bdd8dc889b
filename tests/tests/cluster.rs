//! Two relays over one stream of NATS JetStream, with clients of both.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use quip_protocol::{Code, ConversationId, DeviceId, InstanceId, conversation::Start};
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::Relay,
    talk::{Answer, Seen, direct, room, until},
};

#[path = "../../relay/order/jetstream/tests/it/server.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the engine's own tests")]
mod server;

use server::Servers;

/// The config of a relay on these servers.
fn cluster(servers: &Servers) -> String {
    let (urls, monitors, replicas) = (servers.urls(), servers.monitors(), servers.replicas());
    format!("[cluster]\nservers = {urls:?}\nmonitors = {monitors:?}\nreplicas = {replicas}\npatience = \"20s\"\n")
}

fn relay(folder: &Path, name: &str, servers: &Servers) -> Result<Relay> {
    let mut relay = Relay::prepare(&folder.join(name), &cluster(servers));
    relay.run()?;
    Ok(relay)
}

/// The same device at any relay.
async fn login(relay: &Relay, user: &str) -> Result<Raw> {
    Raw::login_as(relay, user, 1, RawOptions::default()).await
}

/// The next `count` events, whoever they are from.
async fn events(stream: &mut RawStream, count: usize) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let frame = stream.frame().await?;
        match frame.seen() {
            Some(event) => seen.push(event),
            None => ensure!(frame.answer().is_some(), "{frame:?}"),
        }
    }
    Ok(seen)
}

/// Waits until the relay has this much of a conversation, and returns all of it.
async fn whole(raw: &Raw, conversation: ConversationId, head: u64) -> Result<Vec<Seen>> {
    let mut history = Vec::new();
    until("the relay has caught up", async || {
        // It is refused as long as the relay knows nothing of it.
        history = raw.history(conversation).await.unwrap_or_default();
        Ok(history.last().is_some_and(|last| last.seq >= head))
    })
    .await?;
    Ok(history)
}

#[tokio::test]
async fn clients_of_two_relays_share_a_conversation() -> Result<()> {
    let Some(servers) = Servers::alone() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (first, second) = (relay(folder.path(), "a", &servers)?, relay(folder.path(), "b", &servers)?);
    let (alice, bob) = (login(&first, "alice").await?, login(&second, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&room("lobby:main")).await?;
    let (mut at_bob, other) = bob.enter(&room("lobby:main")).await?;
    assert_eq!((opening.id, opening.generation), (other.id, other.generation), "one log");
    assert_eq!(at_alice.seen().await?.seq, 2, "bob has joined");

    for n in 2..52 {
        at_alice.post(n, &format!("a{n}")).await?;
        at_bob.post(n, &format!("b{n}")).await?;
    }
    let (from_alice, from_bob) = (events(&mut at_alice, 100).await?, events(&mut at_bob, 100).await?);
    let seqs = |seen: &[Seen]| seen.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&from_alice), (3..103).collect::<Vec<_>>());
    assert_eq!(seqs(&from_bob), (3..103).collect::<Vec<_>>());

    let histories = [whole(&alice, opening.id, 102).await?, whole(&bob, opening.id, 102).await?];
    assert_eq!(histories[0], histories[1], "the same bytes at the same places");
    for event in from_alice.iter().chain(&from_bob).filter(|event| event.n.is_none()) {
        let stored = &histories[0][event.seq as usize - 1];
        assert_eq!((&stored.user, &stored.body), (&event.user, &event.body));
    }

    // A cursor of one relay is good at the other one.
    drop((at_alice, alice));
    let alice = login(&second, "alice").await?;
    let cursor = Start::After { generation: opening.generation, seq: 90 };
    let (mut at_alice, again) = alice.reopen(&room("lobby:main"), cursor).await?;
    assert_eq!((again.start, again.head, again.last_n), (91, 102, 51));
    assert_eq!(seqs(&events(&mut at_alice, 12).await?), (91..103).collect::<Vec<_>>());
    assert_eq!(at_alice.post_accepted(52, "from the other relay").await?.seq, 103);
    assert_eq!(events(&mut at_bob, 1).await?[0].seq, 103);

    // A direct conversation that only one of them has seen.
    let carol = login(&first, "carol").await?;
    let (mut at_carol, with_bob) = carol.enter(&direct("bob")).await?;
    at_carol.post_accepted(2, "psst").await?;
    let direct = whole(&bob, with_bob.id, 1).await?;
    assert!(direct.iter().any(|event| event.body == b"psst"), "{direct:?}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_killed_costs_nothing() -> Result<()> {
    let Some(servers) = Servers::alone() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (mut first, second) = (relay(folder.path(), "a", &servers)?, relay(folder.path(), "b", &servers)?);
    let bob = login(&second, "bob").await?;
    let (mut at_bob, opening) = bob.enter(&room("lobby:main")).await?;
    let generation = opening.generation;
    let (mut accepted, mut n) = (Vec::new(), 0);
    for round in 0..3 {
        // Alice is at the first relay, which dies with messages on their way.
        if let Some((_, seq)) = accepted.last() {
            whole(&login(&first, "bob").await?, opening.id, *seq).await?;
        }
        let alice = login(&first, "alice").await?;
        let mut stream = enter(&alice, &mut n).await?;
        for _ in 0..30 {
            n += 1;
            accepted.push((n, stream.post_accepted(n, &text(n)).await?.seq));
        }
        for ahead in 1..=20 {
            stream.post(n + ahead, &text(n + ahead)).await?;
        }
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        first.kill();

        // She goes on at the second one: what it knows of her numbers, and the rest again.
        let sent = n + 20;
        let alice = login(&second, "alice").await?;
        let (mut stream, opening) = alice.reopen(&room("lobby:main"), Start::Now).await?;
        assert_eq!(opening.generation, generation);
        assert!(opening.last_n <= sent);
        for n in n + 1..=sent {
            stream.post(n, &text(n)).await?;
            let answer = stream.answer().await?;
            assert!(answer.n() == n && answer.code() == Code::DONE, "{answer:?}");
            let (Answer::Accepted(quip_protocol::conversation::Accepted { seq, .. })
            | Answer::Ack(quip_protocol::conversation::Ack { seq, .. })) = answer
            else {
                anyhow::bail!("{answer:?}")
            };
            accepted.push((n, seq));
        }
        n = sent;
        first.run()?;
    }
    let head = accepted.iter().map(|(_, seq)| *seq).max().context("some were accepted")?;
    let at_second = whole(&bob, opening.id, head).await?;
    let at_first = whole(&login(&first, "bob").await?, opening.id, head).await?;
    assert_eq!(at_first, at_second, "the killed one has everything, as the other one has it");
    let mut expected: Vec<_> = accepted.iter().map(|(n, seq)| (*seq, text(*n).into_bytes())).collect();
    expected.sort();
    let of_alice = at_second.into_iter().filter(|event| event.user == "alice" && !event.body.is_empty());
    let of_alice: Vec<_> = of_alice.map(|event| (event.seq, event.body)).collect();
    assert_eq!(of_alice, expected, "each once, where it was accepted");
    let seen = events(&mut at_bob, head as usize - 1).await?;
    assert!(seen.iter().map(|event| event.seq).eq(2..=head), "bob saw everything as it came");
    Ok(())
}

/// Opens the room, and joins the first time.
async fn enter(raw: &Raw, n: &mut u64) -> Result<RawStream> {
    if *n == 0 {
        *n = 1;
        return Ok(raw.enter(&room("lobby:main")).await?.0);
    }
    Ok(raw.reopen(&room("lobby:main"), Start::Now).await?.0)
}

fn text(n: u64) -> String {
    format!("message {n}")
}

#[tokio::test]
async fn a_server_that_is_killed_only_delays() -> Result<()> {
    let Some(mut servers) = Servers::alone() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let relay = relay(folder.path(), "a", &servers)?;
    let mut alice = Raw::connect(&relay).await?;
    alice.hello(&relay.token("alice")?, DeviceId([1; 16]), InstanceId([1; 16])).await?;
    let (mut stream, _) = alice.enter(&room("lobby:main")).await?;
    for round in 0..3 {
        for n in 0..10 {
            stream.post_accepted(2 + round * 20 + n, "before").await?;
        }
        servers.kill(0);
        for n in 10..20 {
            stream.post(2 + round * 20 + n, "while it is down").await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        servers.restart(0);
        for n in 10..20 {
            let answer = stream.answer().await?;
            assert_eq!((answer.n(), answer.code()), (2 + round * 20 + n, Code::DONE));
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_server_of_three_may_be_away() -> Result<()> {
    let Some(mut servers) = Servers::three() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (first, second) = (relay(folder.path(), "a", &servers)?, relay(folder.path(), "b", &servers)?);
    let (alice, bob) = (login(&first, "alice").await?, login(&second, "bob").await?);
    let (mut at_alice, opening) = alice.enter(&room("lobby:main")).await?;
    let (mut at_bob, _) = bob.enter(&room("lobby:main")).await?;
    let mut n = 1;
    for victim in 0..3 {
        servers.kill(victim);
        for _ in 0..5 {
            n += 1;
            at_alice.post(n, &text(n)).await?;
            at_bob.post(n, &text(n)).await?;
        }
        for stream in [&mut at_alice, &mut at_bob] {
            // The two joins, and what both have said so far.
            while stream.seen().await?.seq < 2 + 2 * (n - 1) {}
        }
        servers.restart(victim);
        // Two of three must have everything before the next one goes.
        until("the server has caught up", async || Ok(servers.has_caught_up(victim))).await?;
    }
    let head = 2 + 2 * (n - 1);
    assert_eq!(whole(&alice, opening.id, head).await?, whole(&bob, opening.id, head).await?);
    Ok(())
}

#[tokio::test]
async fn a_relay_whose_log_is_gone_stops_and_says_why() -> Result<()> {
    let Some(mut servers) = Servers::alone() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(folder.path(), &cluster(&servers).replace("20s", "1s"));
    relay.run()?;
    let alice = login(&relay, "alice").await?;
    let (mut stream, _) = alice.enter(&room("lobby:main")).await?;
    stream.post_accepted(2, "stored").await?;
    servers.kill(0);
    servers.wipe(0);
    servers.restart(0);
    let status = relay.wait()?;
    let log = relay.log();
    ensure!(!status.success() && log.contains("the stream QUIP_0 is gone"), "{status}: {log}");
    assert_eq!(alice.close_code().await?, Code::INTERNAL);
    println!("{log}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_relied_upon_is_refused_at_the_start() -> Result<()> {
    let Some(careless) = Servers::careless() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let config = cluster(&careless).replace("20s", "1s");
    let (status, log) = Relay::prepare(&folder.path().join("careless"), &config).run_to_end()?;
    ensure!(!status.success() && log.contains("sync_interval: always"), "{log}");

    // A store follows one log for good.
    let Some(servers) = Servers::alone() else { return Ok(()) };
    let alone = folder.path().join("alone");
    let mut relay = Relay::prepare(&alone, "");
    relay.run()?;
    let alice = login(&relay, "alice").await?;
    let (mut stream, _) = alice.enter(&room("lobby:main")).await?;
    stream.post_accepted(2, "stored").await?;
    relay.terminate()?;
    let (status, log) = Relay::prepare(&alone, &cluster(&servers)).run_to_end()?;
    ensure!(!status.success() && log.contains("follows the log"), "{log}");
    Ok(())
}
