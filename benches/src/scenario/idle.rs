//! The cost of an idle connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
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
    /// Connections, each of its own user; a list (1000,5000,10000) gives a row each.
    #[arg(long, default_value = "1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    connections: Vec<u32>,
    /// Open conversations per connection.
    #[arg(long, default_value_t = 4)]
    conversations: u32,
    /// Measured seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before memory is read, in which memory of handshakes is freed.
    #[arg(long, default_value_t = 3.0)]
    calm: f64,
    /// Segmentation offload of the relay [default: as the relay's default].
    #[arg(long)]
    gso: Option<Gso>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Gso {
    On,
    Off,
    /// One row each.
    Both,
}

/// One row: the number of connections, and the relay's settings.
#[derive(Clone, Copy)]
struct Size {
    connections: u32,
    /// Segmentation offload of the relay; `None` = the relay's default.
    offload: Option<bool>,
}

/// A session with its open conversations.
struct Idle {
    session: Session,
    /// Kept because dropping one finishes the stream, which closes the conversation.
    _streams: Vec<SendStream>,
}

/// Maximum concurrent handshakes.
const AT_ONCE: usize = 32;
const QUIP: &str = "quip";

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("idle", options);
    let sizes = sizes(args);
    match &*args.connections {
        [one] => report.setting("connections", *one),
        several => report.setting("connections", several),
    }
    report.setting("conversations", args.conversations);
    report.setting("seconds", args.seconds);
    if let Some(gso) = args.gso {
        report.setting("gso", gso.to_possible_value().map(|name| name.get_name().to_owned()));
    }
    for _ in 0..options.runs() {
        for size in &sizes {
            report.add(&row(*size, args), measure(*size, args, options)?);
        }
    }
    if let [_] = &*sizes {
        report.result_of(QUIP, "relay_bytes_per_connection");
    }
    report.note("resident memory with connections minus before, per connection; without socket buffers of the kernel");
    report.note("all connections share one socket, independent of the limit on open files");
    Ok(report)
}

fn sizes(args: &Args) -> Vec<Size> {
    let offloads: &[Option<bool>] = match args.gso {
        None => &[None],
        Some(Gso::On) => &[Some(true)],
        Some(Gso::Off) => &[Some(false)],
        Some(Gso::Both) => &[Some(false), Some(true)],
    };
    let mut sizes = Vec::new();
    for connections in &args.connections {
        sizes.extend(offloads.iter().map(|offload| Size { connections: *connections, offload: *offload }));
    }
    sizes
}

/// The name of a row, with the settings that differ between rows.
fn row(size: Size, args: &Args) -> String {
    let mut name = QUIP.to_owned();
    if args.connections.len() > 1 {
        name += &format!(" {}", size.connections);
    }
    match (args.gso, size.offload) {
        (Some(Gso::Both), Some(true)) => name += ", gso on",
        (Some(Gso::Both), _) => name += ", gso off",
        _ => {}
    }
    name
}

/// Conversations are created first and the relay is restarted, so that the memory is that of idle connections and not of the
/// records from creating conversations.
fn measure(size: Size, args: &Args, options: &Options) -> Result<Sample> {
    let settings: Vec<String> = size.offload.iter().map(|on| format!("segmentation_offload = {on}")).collect();
    let mut relay = Relay::start_with(options, &settings)?;
    let runtime = bare::runtime()?;
    if args.conversations > 0 {
        runtime.block_on(async {
            let clients = Clients::new(&relay, args.conversations)?;
            connect_all(&clients, &relay, size.connections, args.conversations, true).await?;
            clients.close().await;
            anyhow::Ok(())
        })?;
    }
    relay.restart(|_| Ok(()))?;
    runtime.block_on(idle(&relay, size.connections, args))
}

async fn idle(relay: &Relay, connections: u32, args: &Args) -> Result<Sample> {
    let clients = Clients::new(relay, args.conversations)?;
    let calm = Duration::from_secs_f64(args.calm);
    // The first connection allocates what all share; it stays open and is not counted.
    let _first = connect(&clients, &relay.token("first")?, Vec::new(), false).await?;
    sleep(calm).await;
    let before = proc::memory(relay.pid())?;
    let began = Instant::now();
    let sessions = connect_all(&clients, relay, connections, args.conversations, false).await?;
    let connecting = began.elapsed();
    sleep(calm).await;
    let from = Instant::now();
    let to = from + Duration::from_secs_f64(args.seconds);
    let usage = Usage::between(from, to, relay.pid()).await?;
    let after = proc::memory(relay.pid())?;
    for idle in &sessions {
        let lost = idle.session.connection.close_reason();
        lost.map_or(Ok(()), Err).context("a connection was lost")?;
    }
    let count = f64::from(connections);
    let per = |after: u64, before: u64| (after as f64 - before as f64) / count;
    let mut sample = Sample::default();
    sample.push("relay_bytes_per_connection", per(after.rss, before.rss));
    sample.push("private_dirty_bytes_per_connection", per(after.private_dirty, before.private_dirty));
    sample.push("connects_per_s", count / connecting.as_secs_f64());
    sample.push("relay_rss_before_bytes", before.rss as f64);
    usage.add_to(&mut sample, 0);
    Ok(sample)
}

async fn connect_all(
    clients: &Clients,
    relay: &Relay,
    connections: u32,
    conversations: u32,
    join: bool,
) -> Result<Vec<Idle>> {
    let (mut sessions, mut tasks) = (Vec::new(), JoinSet::new());
    for user in 0..connections {
        let token = relay.token(&format!("user-{user}"))?;
        let peers = (0..conversations).map(|peer| format!("peer-{user}-{peer}")).collect();
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

/// Connects and opens the conversations. Their streams stay open as long as the session, each read by its own task.
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
