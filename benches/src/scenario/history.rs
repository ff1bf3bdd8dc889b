//! A page of history: from the relay's cache, and from the disk.
//!
//! Latency is that of a client on the same machine. An empty page costs the same round trip and reads nothing, so the
//! difference to it is spent in the relay.

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{ConversationId, ToClient};
use rustix::fs::{Advice, fadvise};
use tokio::task::JoinSet;

use crate::{
    bare,
    meter::Meter,
    proc,
    relay::Relay,
    report::{Options, Report, Sample},
    stats::Latencies,
    wire::{Clients, Conversation, Session, encode_post},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events in a page.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    page: u64,
    /// Conversations, written one after the other; the older half is read.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    conversations: u32,
    /// Messages in each conversation. All together should have more than two memtables of the
    /// store (2 x 64 MiB), so that the older half is read from the disk.
    #[arg(long, default_value_t = 1000)]
    messages: u64,
    /// Bytes of text in each message; a line of the Ubuntu IRC channel has 59 on average.
    #[arg(long, default_value_t = 60)]
    bytes: usize,
}

/// The user that writes and reads.
const USER: &str = "reader";
/// Maximum conversations written concurrently.
const AT_ONCE: usize = 32;
/// Maximum unanswered messages of one conversation.
const WINDOW: u64 = 32;

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("history", options);
    report.setting("page", args.page);
    report.setting("conversations", args.conversations);
    report.setting("messages", args.messages);
    report.setting("message_bytes", args.bytes);
    ensure!(args.messages >= args.page, "a page of {} events needs at least as many --messages", args.page);
    let mut relay = Relay::start(options)?;
    let runtime = bare::runtime()?;
    let ids = runtime.block_on(fill(&relay, args))?;
    let older = &ids[..ids.len() / 2];
    for _ in 0..options.runs() {
        relay.restart(|data| forget(&data.join("store")))?;
        for (row, sample) in runtime.block_on(measure(&relay, older, args.page))? {
            report.add(row, sample);
        }
    }
    let p50 = |row| report.spread(row, "p50_us").map(|spread| spread.median).context("no run");
    let (empty, cold, cached) = (p50("empty")?, p50("cold")?, p50("cached")?);
    report.result("page_cold_p50_us", cold);
    report.result("page_cached_p50_us", cached);
    report.result("page_cold_at_relay_p50_us", cold - empty);
    report.result("page_cached_at_relay_p50_us", cached - empty);
    report.note("one request at a time; at_relay is the row minus the empty page");
    report.note("cold: first read after a restart, with the store's files evicted from the page cache");
    Ok(report)
}

/// A first page of every conversation, the same pages again, then empty pages.
async fn measure(relay: &Relay, ids: &[ConversationId], page: u64) -> Result<Vec<(&'static str, Sample)>> {
    let clients = Clients::new(relay, 1)?;
    let session = clients.connect(&relay.token(USER)?).await?;
    let mut samples = Vec::new();
    for (row, events) in [("cold", page), ("cached", page), ("empty", 0)] {
        let reads_before = proc::disk_reads(relay.pid())?;
        let meter = Meter::start(relay.pid())?;
        let latencies = read_all(&session, ids, events).await?;
        let usage = meter.finish()?;
        let reads = proc::disk_reads(relay.pid())? - reads_before;
        let mut sample = Sample::default();
        sample.push_latency(&latencies);
        sample.push("disk_bytes_per_page", reads as f64 / ids.len() as f64);
        usage.add_to(&mut sample, 0);
        if row == "cold" && reads == 0 {
            sample.doubt("nothing was read from the disk: use more --messages, or another --dir".to_owned());
        }
        samples.push((row, sample));
    }
    clients.close().await;
    Ok(samples)
}

async fn read_all(session: &Session, ids: &[ConversationId], events: u64) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for id in ids {
        let began = Instant::now();
        let count = session.page(*id, events).await?;
        latencies.record(began.elapsed());
        ensure!(count == events, "expected a page of {events} events, got {count}");
    }
    Ok(latencies)
}

/// Writes all conversations, a few at a time, in order.
async fn fill(relay: &Relay, args: &Args) -> Result<Vec<ConversationId>> {
    let clients = Clients::new(relay, AT_ONCE as u32)?;
    let session = clients.connect(&relay.token(USER)?).await?;
    let (mut ids, mut tasks) = (Vec::new(), JoinSet::new());
    for peer in 0..args.conversations {
        if tasks.len() >= AT_ONCE {
            tasks.join_next().await.context("tasks are under way")???;
        }
        let conversation = session.open_direct(&format!("peer-{peer}"), true).await?;
        ids.push(conversation.id);
        tasks.spawn(write(conversation, args.messages, args.bytes));
    }
    while let Some(written) = tasks.join_next().await {
        written??;
    }
    clients.close().await;
    Ok(ids)
}

/// Sends `count` messages and waits until all are accepted.
pub(super) async fn write(mut conversation: Conversation, messages: u64, bytes: usize) -> Result<()> {
    // Compresses about as well as real text, unlike one repeated letter.
    let text: String = (0..bytes).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let (first, last) = (conversation.last_n + 1, conversation.last_n + messages);
    let mut posts = Vec::new();
    for window in (first..=last).step_by(WINDOW as usize) {
        posts.clear();
        let until = last.min(window + WINDOW - 1);
        (window..=until).for_each(|n| encode_post(n, text.as_bytes(), &mut posts));
        conversation.send.write_all(&posts).await?;
        await_answer(&mut conversation, until).await?;
    }
    conversation.send.finish()?;
    while conversation.reader.next().await?.is_some() {}
    Ok(())
}

async fn await_answer(conversation: &mut Conversation, until: u64) -> Result<()> {
    loop {
        match conversation.reader.next().await? {
            Some(ToClient::Accepted(accepted)) if accepted.n == until => return Ok(()),
            Some(ToClient::Ack(ack)) if ack.n == until => return Ok(()),
            Some(ToClient::Accepted(_) | ToClient::Ack(_) | ToClient::Event(_)) => {}
            other => bail!("unexpected frame for the writer: {other:?}"),
        }
    }
}

/// Evicts all files under a folder from the page cache.
fn forget(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = File::open(&path)?;
            // Only pages that are on the disk can be evicted.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
