//! `quip send`.

use std::io::{self, BufRead};

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream::FuturesOrdered};
use quip_client::{Receipt, Sender, Start};
use serde_json::json;

use crate::{
    args::{Common, SendArgs},
    connect, out,
};

/// Sends, and prints where the relay stored it.
pub(crate) async fn run(common: &Common, args: &SendArgs) -> anyhow::Result<()> {
    let client = connect::connect(common).await?;
    let conversation = connect::open(&client, &args.target, Start::Now).await?;
    let (sender, _) = conversation.split();
    if args.text == ["-"] {
        lines(&sender, common.json).await?;
    } else {
        let receipt = sender.send(&args.text.join(" ")).await?;
        accepted(receipt, common.json).await?;
    }
    client.close().await;
    Ok(())
}

/// Each line of standard input is a message; empty ones are left out. As many as allowed are on their way at once.
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

/// Waits until the message is stored, and says where.
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

/// Messages on their way at once, and lines read ahead: what one conversation may have unanswered.
const WINDOW: usize = quip_protocol::limit::UNANSWERED as usize;
