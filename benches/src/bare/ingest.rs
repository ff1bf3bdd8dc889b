//! Many senders, each with a window of unanswered messages: the most the server can take in.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    Server,
    clients::{Client, Clients},
    wire::{ACK, FRAME, Role, Splitter},
};
use crate::{
    load::{PAYLOAD, SETTLE},
    meter::Usage,
    report::{Options, Report, Sample},
    saturate::{Datagrams, Load, Span, Tally, summarise},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    load: Load,
}

pub(super) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("bare ingest", options);
    args.load.describe(&mut report);
    for _ in 0..options.runs() {
        report.add("bare", measure(&args.load)?);
    }
    Ok(report)
}

/// One run against a forwarder of its own.
pub(crate) fn measure(load: &Load) -> Result<Sample> {
    let server = Server::start()?;
    super::runtime()?.block_on(run_once(&server, load))
}

/// One run on a forwarder that is there.
pub(crate) async fn run_once(server: &Server, load: &Load) -> Result<Sample> {
    let clients = Clients::new(server)?;
    let mut senders = Vec::new();
    for _ in 0..load.senders {
        senders.push(clients.open(Role::Ingest).await?);
    }
    let connections: Vec<_> = senders.iter().map(|client| client.connection.clone()).collect();
    let span = load.span(Instant::now() + SETTLE);
    let mut tasks = JoinSet::new();
    for client in senders {
        tasks.spawn(send(client, span, load.window));
    }
    let usage = Usage::between(span.from, span.to, server.pid());
    let (usage, datagrams) = tokio::join!(usage, Datagrams::between(&span, &connections));
    let tallies: Vec<Tally> = tasks.join_all().await.into_iter().collect::<Result<_>>()?;
    Ok(summarise(&span, &tallies, &usage?, &datagrams))
}

/// Keeps the window full until the span ends.
async fn send(mut client: Client, span: Span, window: usize) -> Result<Tally> {
    let mut tally = Tally::new(span);
    let (mut splitter, mut answers) = (Splitter::default(), Vec::<Bytes>::new());
    let mut frames = Vec::with_capacity(window * FRAME);
    while !tally.is_over() {
        frames.clear();
        while tally.may_send(window) {
            let number = tally.send();
            frames.push(PAYLOAD as u8);
            frames.extend_from_slice(&number.to_be_bytes());
            frames.resize(frames.len() + PAYLOAD - size_of::<u64>(), b'.');
        }
        client.send.write_all(&frames).await?;
        let chunk = client.receive.read_chunk(usize::MAX, true).await?;
        splitter.push(chunk.context("the forwarder ended the stream")?.bytes, &mut answers)?;
        for answer in answers.drain(..) {
            ensure!(answer.len() == 1 + ACK, "an answer of {} bytes", answer.len());
            let number = u64::from_be_bytes(answer[1..].try_into()?);
            tally.answered(number)?;
        }
    }
    Ok(tally)
}
