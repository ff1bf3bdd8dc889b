//! Handshakes alone, at a relay and at the bare forwarder, and the first message of a new client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use quip_protocol::{ToClient, conversation::Start, event::kind};

use super::{
    flock::{CLIENTS_PER_SOCKET, socket, sockets},
    storm::{self, Back, Storm, Watch, all},
};
use crate::{
    bare::{Handshakes, Server},
    load::PAYLOAD,
    relay::Relay,
    report::Sample,
    scenario::history,
    stats::Latencies,
    wire::{Clients, Identity},
};

/// Number of clients for the first message, one after the other.
const TRIES: u32 = 50;
const NEWCOMER: &str = "newcomer";
const FRIEND: &str = "friend";
/// Pause before a storm, so that earlier work is done.
pub(super) const LULL: Duration = Duration::from_millis(200);

/// The time to the first event: connect, `Hello`, `Open`, each client on its own socket.
pub(super) async fn first_message(relay: &Relay) -> Result<Sample> {
    let clients = Clients::new(relay, 1)?;
    let friend = clients.connect(&relay.token(FRIEND)?).await?;
    let conversation = friend.open_direct(NEWCOMER, true).await?;
    let token = relay.token(NEWCOMER)?;
    clients.connect(&token).await?.open_direct(FRIEND, true).await?;
    history::write(conversation, 1, PAYLOAD).await?;
    let mut latencies = Latencies::new();
    for _ in 0..TRIES {
        let fresh = Clients::new(relay, 1)?;
        let began = Instant::now();
        let session = fresh.connect(&token).await?;
        let mut conversation = session.open_direct_from(FRIEND, false, Start::Last(1)).await?;
        match conversation.reader.next().await?.context("the relay ended the stream")? {
            ToClient::Event(event) if event.kind == kind::TEXT => latencies.record(began.elapsed()),
            other => bail!("expected the first message, got {other:?}"),
        }
        fresh.close().await;
    }
    clients.close().await;
    let mut sample = Sample::default();
    sample.push_latency(&latencies);
    Ok(sample)
}

/// Connects this number of clients at once to an idle relay, from the first packet to `Welcome`.
pub(super) async fn welcomes(relay: &Relay, clients: u32, jitter: Duration) -> Result<Sample> {
    let sockets = sockets(relay, clients)?;
    let tokens: Vec<String> =
        (0..clients).map(|client| relay.token(&format!("member-{client}"))).collect::<Result<_>>()?;
    let storm = Storm { start: Instant::now() + LULL, jitter };
    let coming = tokens.into_iter().enumerate().map(|(client, token)| {
        let (clients, who) = (socket(&sockets, client), Identity::new());
        async move { storm.come(|| clients.connect_as(who, &token)).await }
    });
    let watch = Watch::start(storm, relay.pid(), relay.address.port());
    let (backs, watch) = tokio::try_join!(all(coming), watch)?;
    let mut sample = Sample::default();
    push(&mut sample, &backs, ["welcomes_per_s", "relay_cpu_us_per_welcome"], watch)?;
    drop(backs);
    for clients in sockets {
        clients.close().await;
    }
    Ok(sample)
}

/// As [`welcomes`], with handshakes only, at the bare forwarder.
pub(super) async fn bare(clients: u32, jitter: Duration) -> Result<Sample> {
    let server = Server::start()?;
    let count = clients.div_ceil(CLIENTS_PER_SOCKET);
    let sockets: Vec<Handshakes> = (0..count).map(|_| Handshakes::new(&server)).collect::<Result<_>>()?;
    let storm = Storm { start: Instant::now() + LULL, jitter };
    let coming = (0..clients).map(|client| {
        let clients = sockets[(client / CLIENTS_PER_SOCKET) as usize].clone();
        async move { storm.come(|| clients.connect()).await }
    });
    let watch = Watch::start(storm, server.pid(), server.address.port());
    let (backs, watch) = tokio::try_join!(all(coming), watch)?;
    let mut sample = Sample::default();
    push(&mut sample, &backs, ["bare_handshakes_per_s", "bare_cpu_us_per_handshake"], watch)?;
    drop(backs);
    for clients in sockets {
        clients.close().await;
    }
    Ok(sample)
}

fn push<T>(sample: &mut Sample, backs: &[Back<T>], [per_s, cpu]: [&'static str; 2], watch: Watch) -> Result<()> {
    let (usage, dropped) = watch.finish()?;
    storm::push(sample, per_s, backs.iter().map(|back| (back.after, back.failed)));
    sample.push(cpu, usage.server_micros_per(backs.len() as u64));
    sample.push("kernel_drops_at_server", dropped as f64);
    usage.add_to(sample, 0);
    Ok(())
}
