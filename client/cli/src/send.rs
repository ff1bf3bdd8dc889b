//! `quip send`.

use std::io::{self, BufRead};

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream::FuturesOrdered};
use quip_client::{Client, Receipt, Sender, Start};
use serde_json::json;

use crate::{
    args::{Common, SendArgs},
    connect, out, people,
};

/// Sends, and prints the seq of each accepted message.
pub(crate) async fn run(common: &Common, client: &Client, args: &SendArgs) -> anyhow::Result<()> {
    let conversation = connect::open(client, &args.target, Start::Now).await?;
    let (sender, _) = conversation.split();
    people::stranger(client, &args.target).await.into_iter().for_each(out::note);
    if args.text == ["-"] {
        lines(&sender, common.json).await?;
    } else {
        let receipt = sender.send(&args.text.join(" ")).await?;
        accepted(receipt, common.json).await?;
    }
    Ok(())
}

/// Sends each line of standard input as a message, pipelined up to the limit of unanswered commands. Skips empty lines.
async fn lines(sender: &Sender, json: bool) -> anyhow::Result<()> {
    let mut input = read_lines();
    let mut waiting = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some(done) = waiting.next() => done?,
            line = input.recv(), if waiting.len() < WINDOW => match line {
                Some(line) => {
                    let line = line.context("cannot read standard input")?;
                    if !line.is_empty() {
                        waiting.push_back(accepted(sender.send(&line).await?, json));
                    }
                }
                None => break,
            },
        }
    }
    while let Some(done) = waiting.next().await {
        done?;
    }
    Ok(())
}

/// Waits until the message is accepted and prints its seq.
async fn accepted(receipt: Receipt, json: bool) -> anyhow::Result<()> {
    match receipt.accepted().await {
        Ok(accepted) if json => {
            out::line(json!({ "seq": accepted.seq, "number": accepted.number, "at": accepted.at }))?;
        }
        Ok(accepted) => out::line(accepted.seq)?,
        Err(error) => bail!("not sent: {error}"),
    }
    Ok(())
}

fn read_lines() -> tokio::sync::mpsc::Receiver<io::Result<String>> {
    let (lines, receiver) = tokio::sync::mpsc::channel(WINDOW);
    std::thread::spawn(move || io::stdin().lock().lines().try_for_each(|line| lines.blocking_send(line)));
    receiver
}

/// Unanswered messages, and lines read ahead: the limit of unanswered commands of a conversation.
const WINDOW: usize = quip_protocol::limit::UNANSWERED as usize;
