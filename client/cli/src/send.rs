//! `quip send`.

use std::io;

use anyhow::bail;
use futures_util::{StreamExt, stream::FuturesOrdered};
use quip_client::{Accepted, Client, ConversationEvent, Receipt, ReceiptError, SendError, Sender, Start};
use serde_json::json;

use crate::{
    advice,
    args::{Common, SendArgs},
    connect::{self, Ended},
    fate::{Fate, Outcome},
    lines::{BadLine, Lines},
    out, people, show,
    stop::{Stop, Stopping},
};

/// Sends, pipelined up to the limit of unanswered commands, and prints the seq of each stored message. Whatever goes wrong,
/// it sends no more, waits for what is on its way, and says what became of each line.
pub(crate) async fn run(
    common: &Common,
    client: &Client,
    args: &SendArgs,
    mut stopping: Stopping,
) -> anyhow::Result<()> {
    let is_stream = args.is_stream();
    let mut input = if is_stream { Lines::of_stdin(WINDOW) } else { Lines::of(args.text.join(" ")) };
    if !is_stream && args.text.iter().all(String::is_empty) {
        bail!("the message is empty");
    }
    let conversation = tokio::select! {
        biased;
        stop = stopping.told() => return Err(stop.into()),
        opened = connect::open(client, &args.target, Start::Now) => opened?,
    };
    let (sender, mut events) = conversation.split();
    people::stranger(client, &args.target).await.into_iter().for_each(out::note);
    let mut sending = Sending::new(common, sender);
    // Answers come in the order in which the messages were sent.
    let mut waiting = FuturesOrdered::new();
    while sending.wants_more || !waiting.is_empty() {
        tokio::select! {
            biased;
            stop = stopping.told(), if sending.stop.is_none() => sending.stop(stop),
            Some((line, answer)) = waiting.next() => sending.answer(line, answer),
            event = events.next(), if sending.wants_more => match event {
                Some(ConversationEvent::Ended(code)) => sending.end(Ended::new(&args.target, code).into()),
                Some(_) => {}
                None => sending.end(SendError::Closed.into()),
            },
            message = input.next(), if sending.wants_more && waiting.len() < WINDOW => {
                if let Some((line, receipt)) = sending.message(message).await {
                    waiting.push_back(async move { (line, receipt.accepted().await) });
                }
            }
        }
    }
    let rest = input.rest().await;
    let Some((why, outcome)) = sending.outcome(rest) else { return Ok(()) };
    Err(why.context(if is_stream { outcome.of_lines() } else { outcome.of_message() }))
}

/// Sends messages, one for each line.
struct Sending {
    sender: Sender,
    json: bool,
    /// A state file keeps messages without an answer.
    kept: bool,
    /// Nothing went wrong, and the input has not ended.
    wants_more: bool,
    /// What went wrong first.
    why: Option<anyhow::Error>,
    stop: Option<Stop>,
    outcome: Outcome,
}

impl Sending {
    fn new(common: &Common, sender: Sender) -> Self {
        let (json, kept) = (common.json, common.state.is_some());
        Self { sender, json, kept, wants_more: true, why: None, stop: None, outcome: Outcome::default() }
    }

    /// Sends the next message. Empty lines are skipped.
    async fn message(&mut self, message: Option<Result<String, BadLine>>) -> Option<(u64, Receipt)> {
        let Some(message) = message else {
            self.wants_more = false;
            return None;
        };
        self.outcome.read += 1;
        let sent = match message {
            Ok(text) if text.is_empty() => return None,
            Ok(text) => self.sender.send(&text).await.map_err(anyhow::Error::from),
            Err(bad) => Err(bad.into()),
        };
        let line = self.outcome.read;
        match sent {
            Ok(receipt) => Some((line, receipt)),
            Err(error) => {
                self.fail(line, Fate::NotSent, error);
                None
            }
        }
    }

    fn answer(&mut self, line: u64, answer: Result<Accepted, ReceiptError>) {
        match answer {
            Ok(accepted) => {
                self.outcome.stored += 1;
                self.print(accepted).unwrap_or_else(|error| self.end(unprinted(error)));
            }
            Err(error @ ReceiptError::Refused(_)) => self.fail(line, Fate::NotStored, error.into()),
            Err(error) => self.fail(line, Fate::Unknown, advice::unanswered(error, self.kept)),
        }
    }

    fn print(&self, Accepted { seq, number, at }: Accepted) -> io::Result<()> {
        if self.json { out::line(json!({ "seq": seq, "number": number, "at": at })) } else { out::line(seq) }
    }

    fn fail(&mut self, line: u64, fate: Fate, error: anyhow::Error) {
        self.outcome.fail(line, fate, show::failure(&error));
        self.end(error);
    }

    fn end(&mut self, why: anyhow::Error) {
        self.wants_more = false;
        self.why.get_or_insert(why);
    }

    fn stop(&mut self, stop: Stop) {
        self.wants_more = false;
        self.stop = Some(stop);
    }

    /// Why not every message was stored and printed, and what became of them. `rest`: how many lines were not read, if that is
    /// known.
    fn outcome(mut self, rest: Option<u64>) -> Option<(anyhow::Error, Outcome)> {
        self.outcome.leave(rest);
        // A stop that came when everything was done changes nothing.
        let why = match self.stop {
            Some(_) if self.why.is_none() && self.outcome.is_whole() => None,
            Some(stop) => Some(stop.into()),
            None => self.why,
        }?;
        self.outcome.because(show::failure(&why));
        Some((why, self.outcome))
    }
}

fn unprinted(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::Unread.into(),
        _ => anyhow::Error::from(error).context("cannot write to standard output"),
    }
}

/// Unanswered messages, and lines read ahead.
const WINDOW: usize = connect::OUTBOX;
