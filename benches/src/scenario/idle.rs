//! What a connection costs while nothing happens on it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quinn::SendStream;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    bare,
    meter::Usage,
    proc,
    relay::Relay,
    report::{Options, Report, Sample},
    wire::{Clients, Conversation, Session, drain},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections, each of a user of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Conversations that each connection keeps open.
    #[arg(long, default_value_t = 4)]
    conversations: u32,
    /// Measured seconds of idling.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// A session with its open conversations.
struct Idle {
    session: Session,
    /// Dropping one would finish the stream, which closes the conversation.
    _streams: Vec<SendStream>,
}

/// Handshakes under way at once.
const AT_ONCE: usize = 32;
/// For allocations of the handshakes to be given back.
const CALM: Duration = Duration::from_secs(3);
const QUIP: &str = "quip";

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("idle", options);
    report.setting("connections", args.connections);
    report.setting("conversations", args.conversations);
    report.setting("seconds", args.seconds);
    for _ in 0..options.runs {
        report.add(QUIP, measure(args, options)?);
    }
    report.result_of(QUIP, "relay_bytes_per_connection");
    report.note(
        "resident memory with connections minus before, by connection; socket buffers of the kernel are not in it",
    );
    Ok(report)
}

/// Conversations are made first and the relay is started anew, so that what is measured is idling
/// connections and not the rows that creating conversations leaves in memory.
fn measure(args: &Args, options: &Options) -> Result<Sample> {
    let mut relay = Relay::start(options)?;
    let runtime = bare::runtime()?;
    if args.conversations > 0 {
        runtime.block_on(async {
            let clients = Clients::new(&relay, args.conversations)?;
            connect_all(&clients, &relay, args, true).await?;
            clients.close().await;
            anyhow::Ok(())
        })?;
    }
    relay.restart(|_| Ok(()))?;
    runtime.block_on(idle(&relay, args))
}

async fn idle(relay: &Relay, args: &Args) -> Result<Sample> {
    let clients = Clients::new(relay, args.conversations)?;
    // The first connection makes what all share; it stays, and is not counted.
    let _first = connect(&clients, &relay.token("first")?, Vec::new(), false).await?;
    sleep(CALM).await;
    let before = proc::memory(relay.pid())?;
    let began = Instant::now();
    let sessions = connect_all(&clients, relay, args, false).await?;
    let connecting = began.elapsed();
    sleep(CALM).await;
    let from = Instant::now();
    let to = from + Duration::from_secs_f64(args.seconds);
    let usage = Usage::between(from, to, relay.pid()).await?;
    let after = proc::memory(relay.pid())?;
    for idle in &sessions {
        let lost = idle.session.connection.close_reason();
        lost.map_or(Ok(()), Err).context("a connection did not stay")?;
    }
    let count = f64::from(args.connections);
    let per = |after: u64, before: u64| (after as f64 - before as f64) / count;
    let mut sample = Sample::default();
    sample.push("relay_bytes_per_connection", per(after.rss, before.rss));
    sample.push("private_dirty_bytes_per_connection", per(after.private_dirty, before.private_dirty));
    sample.push("connects_per_s", count / connecting.as_secs_f64());
    sample.push("relay_rss_before_bytes", before.rss as f64);
    usage.add_to(&mut sample, 0);
    Ok(sample)
}

async fn connect_all(clients: &Clients, relay: &Relay, args: &Args, join: bool) -> Result<Vec<Idle>> {
    let (mut sessions, mut tasks) = (Vec::new(), JoinSet::new());
    for user in 0..args.connections {
        let token = relay.token(&format!("user-{user}"))?;
        let peers = (0..args.conversations).map(|peer| format!("peer-{user}-{peer}")).collect();
        if tasks.len() >= AT_ONCE {
            sessions.push(tasks.join_next().await.context("tasks are under way")???);
        }
        let clients = clients.clone();
        tasks.spawn(async move { connect(&clients, &token, peers, join).await });
    }
    while let Some(session) = tasks.join_next().await {
        sessions.push(session??);
    }
    Ok(sessions)
}

/// Connects and opens; streams stay open, read by tasks of their own, as long as the session.
async fn connect(clients: &Clients, token: &str, peers: Vec<String>, join: bool) -> Result<Idle> {
    let session = clients.connect(token).await?;
    let mut streams = Vec::new();
    for peer in peers {
        let Conversation { send, reader, .. } = session.open_direct(&peer, join).await?;
        tokio::spawn(drain(reader));
        streams.push(send);
    }
    Ok(Idle { session, _streams: streams })
}
