//! A writer, which sends to members, also while they are away. After a kill of the relay it learns the outcomes of its messages.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use quip_protocol::ToClient;

use crate::{
    load,
    relay::Relay,
    wire::{Clients, Conversation, Identity, Session, encode_post},
};

/// A user with a conversation with each of its members, on one connection.
pub(super) struct Writer {
    token: Arc<str>,
    who: Identity,
    session: Option<Session>,
    pens: Vec<Pen>,
}

/// The writer's side of one conversation.
struct Pen {
    member: String,
    conversation: Option<Conversation>,
    /// The send number of message 0, after the conversation was opened.
    first_n: Option<u64>,
    /// The next message to send.
    next: u64,
}

impl Writer {
    pub(super) fn new(relay: &Relay, name: &str, members: impl Iterator<Item = String>) -> Result<Self> {
        let pen = |member| Pen { member, conversation: None, first_n: None, next: 0 };
        let token = relay.token(name)?.into();
        Ok(Self { token, who: Identity::new(), session: None, pens: members.map(pen).collect() })
    }

    /// Connects or reconnects, and learns which messages were accepted.
    pub(super) async fn open(mut self, clients: Clients) -> Result<Self> {
        let session = clients.connect_as(self.who, &self.token).await?;
        for pen in &mut self.pens {
            let conversation = session.open_direct(&pen.member, pen.first_n.is_none()).await?;
            let decided = conversation.last_n + 1;
            pen.next = decided - *pen.first_n.get_or_insert(decided);
            pen.conversation = Some(conversation);
        }
        self.session = Some(session);
        Ok(self)
    }

    /// Drops the connection.
    pub(super) fn lose(&mut self) {
        self.session = None;
        self.pens.iter_mut().for_each(|pen| pen.conversation = None);
    }

    /// Sends each member the missing ones of the first `total` messages.
    pub(super) async fn send(&mut self, total: u64) -> Result<()> {
        let mut posts = Vec::new();
        for pen in &mut self.pens {
            let first_n = pen.first_n.context("not open")?;
            posts.clear();
            for number in pen.next..total {
                encode_post(first_n + number, &load::payload(number), &mut posts);
            }
            pen.next = total;
            pen.conversation.as_mut().context("not connected")?.send.write_all(&posts).await?;
        }
        Ok(())
    }

    /// As [`Writer::send`], and waits until all are accepted.
    pub(super) async fn post(mut self, total: u64) -> Result<Self> {
        self.send(total).await?;
        for pen in &mut self.pens {
            let last_n = pen.first_n.context("not open")? + total - 1;
            let conversation = pen.conversation.as_mut().context("not connected")?;
            await_answer(conversation, last_n).await.with_context(|| format!("the writer to {}", pen.member))?;
        }
        Ok(self)
    }
}

async fn await_answer(conversation: &mut Conversation, last_n: u64) -> Result<()> {
    loop {
        match conversation.reader.next().await?.context("the relay ended the stream")? {
            ToClient::Accepted(accepted) if accepted.n == last_n => return Ok(()),
            ToClient::Ack(ack) if ack.n == last_n => return Ok(()),
            ToClient::Accepted(_) | ToClient::Ack(_) | ToClient::Event(_) => {}
            other => bail!("unexpected frame: {other:?}"),
        }
    }
}
