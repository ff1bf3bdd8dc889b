//! Throughput of durable messages: many senders, each in its own conversation.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use quip_protocol::{Retry, ToClient, conversation::Rejected};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    bare,
    load::{PAYLOAD, SETTLE},
    meter::Usage,
    relay::Relay,
    report::{Options, Report, Sample},
    saturate::{Datagrams, Load, Span, Tally, summarise},
    wire::{Clients, Conversation, encode_post},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,
}

const QUIP: &str = "quip";
const TEXT: [u8; PAYLOAD] = [b'.'; PAYLOAD];

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("ingest", options);
    args.load.describe(&mut report);
    for _ in 0..options.runs() {
        report.add(QUIP, measure(&args.load, options)?);
        report.add("bare", bare::measure_ingest(&args.load)?);
    }
    report.result_of(QUIP, "accepted_per_s");
    report.result_of(QUIP, "messages_per_datagram_to_server");
    Ok(report)
}

/// One run against a new relay.
fn measure(load: &Load, options: &Options) -> Result<Sample> {
    let relay = Relay::start(options)?;
    bare::runtime()?.block_on(run_once(&relay, load))
}

/// One run on a started relay.
pub(crate) async fn run_once(relay: &Relay, load: &Load) -> Result<Sample> {
    let clients = Clients::new(relay, 1)?;
    let (mut sessions, mut conversations) = (Vec::new(), Vec::new());
    for sender in 0..load.senders {
        let session = clients.connect(&relay.token(&format!("sender-{sender}"))?).await?;
        conversations.push(session.open_direct(&format!("receiver-{sender}"), true).await?);
        sessions.push(session);
    }
    let connections: Vec<_> = sessions.iter().map(|session| session.connection.clone()).collect();
    let span = load.span(Instant::now() + SETTLE);
    let mut tasks = JoinSet::new();
    for conversation in conversations {
        tasks.spawn(send(conversation, span, load.window));
    }
    let usage = Usage::between(span.from, span.to, relay.pid());
    let (usage, datagrams) = tokio::join!(usage, Datagrams::between(&span, &connections));
    let tallies: Vec<Tally> = tasks.join_all().await.into_iter().collect::<Result<_>>()?;
    Ok(summarise(&span, &tallies, &usage?, &datagrams))
}

/// Keeps the window full until the span ends; messages with a temporary refusal are sent again.
async fn send(mut conversation: Conversation, span: Span, window: usize) -> Result<Tally> {
    let mut tally = Tally::new(span);
    let first_n = conversation.last_n + 1;
    let mut posts = Vec::new();
    while !tally.is_over() {
        posts.clear();
        while tally.may_send(window) {
            encode_post(conversation.last_n + tally.send(), &TEXT, &mut posts);
        }
        conversation.send.write_all(&posts).await?;
        ensure!(conversation.reader.fill().await?, "the relay ended the stream");
        let mut pause = Duration::ZERO;
        while let Some(message) = conversation.reader.buffered()? {
            match message {
                ToClient::Accepted(accepted) if accepted.n >= first_n => {
                    tally.answered(accepted.n - conversation.last_n)?;
                }
                ToClient::Ack(ack) if ack.n >= first_n => {
                    tally.answered(ack.n - conversation.last_n)?;
                }
                ToClient::Rejected(Rejected { n, code, retry_after, .. })
                    if code.retry() == Retry::Later && n >= first_n =>
                {
                    tally.refused(n - conversation.last_n);
                    pause = pause.max(Duration::from_millis(retry_after));
                }
                ToClient::Accepted(_) | ToClient::Ack(_) | ToClient::Event(_) => {}
                other => bail!("unexpected frame for the sender: {other:?}"),
            }
        }
        if tally.rewind() {
            sleep(pause).await;
        }
    }
    Ok(tally)
}
