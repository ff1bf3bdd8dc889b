//! A client that disconnects and reconnects.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use quip_protocol::{ToClient, conversation::Start, event::kind};
use tokio::time::timeout;

use super::storm::{Back, Failed, Storm};
use crate::{
    check::{Faults, Sequence, Tamper},
    load,
    relay::Relay,
    wire::{Clients, Conversation, Identity, Session},
};

/// Time without a message after which a member gives up.
const SILENCE: Duration = Duration::from_secs(30);
/// How long to wait for messages after a later one, to count them as reordered and not lost.
const LATE: Duration = Duration::from_secs(1);

/// A user with one device and one conversation.
pub(super) struct Member {
    name: String,
    writer: String,
    token: Arc<str>,
    who: Identity,
    line: Option<Line>,
    /// Log and number of the latest event.
    cursor: (u64, u64),
    tamper: Tamper,
    sequence: Sequence,
}

/// The connection of a member.
struct Line {
    conversation: Conversation,
    _session: Session,
}

/// The times of a member since the start of the storm.
pub(super) struct Times {
    pub(super) welcomed: Duration,
    /// When it had received all missed messages.
    pub(super) caught_up: Duration,
    pub(super) failed: Failed,
}

impl Member {
    pub(super) fn new(relay: &Relay, name: String, writer: String) -> Result<Self> {
        let token = relay.token(&name)?.into();
        let (tamper, sequence) = (Tamper::default(), Sequence::default());
        Ok(Self { name, writer, token, who: Identity::new(), line: None, cursor: (0, 0), tamper, sequence })
    }

    /// Connects for the first time.
    pub(super) async fn join(mut self, clients: Clients, calm: Storm) -> Result<Self> {
        let Back { value: session, .. } = self.connect(clients, calm).await?;
        let conversation = session.open_direct(&self.writer, true).await?;
        self.cursor = (conversation.generation, conversation.head);
        self.line = Some(Line { conversation, _session: session });
        Ok(self)
    }

    fn connect(&self, clients: Clients, storm: Storm) -> impl Future<Output = Result<Back<Session>>> + Send + use<> {
        let (token, who) = (self.token.clone(), self.who);
        storm.come(move || {
            let (clients, token) = (clients.clone(), token.clone());
            async move { clients.connect_as(who, &token).await }
        })
    }

    /// Drops the connection and keeps the cursor.
    pub(super) fn lose(&mut self) {
        self.line = None;
    }

    /// Reconnects, and reads from its cursor until it has `total` messages.
    pub(super) async fn come_back(mut self, clients: Clients, storm: Storm, total: u64) -> Result<(Self, Times)> {
        let Back { value: session, after: welcomed, failed } = self.connect(clients, storm).await?;
        let (generation, seq) = self.cursor;
        let start = Start::After { generation, seq };
        let conversation = session.open_direct_from(&self.writer, false, start).await?;
        ensure!(conversation.generation == generation, "{} found another log", self.name);
        self.line = Some(Line { conversation, _session: session });
        let member = self.read(total).await?;
        Ok((member, Times { welcomed, caught_up: storm.start.elapsed(), failed }))
    }

    /// Reads until the first `total` messages have arrived, or the rest count as lost.
    pub(super) async fn read(mut self, total: u64) -> Result<Self> {
        while !self.sequence.is_complete(total) {
            let patience = if self.sequence.next() < total { SILENCE } else { LATE };
            // Messages that have not arrived by then count as lost.
            let Ok(read) = timeout(patience, self.read_one()).await else { break };
            read.with_context(|| self.name.clone())?;
        }
        Ok(self)
    }

    async fn read_one(&mut self) -> Result<()> {
        let line = self.line.as_mut().context("not connected")?;
        match line.conversation.reader.next().await?.context("the relay ended the stream")? {
            ToClient::Event(event) => {
                self.cursor.1 = event.seq;
                if event.kind == kind::TEXT {
                    for number in self.tamper.pass(load::number(event.body.0)?) {
                        self.sequence.record(number);
                    }
                }
            }
            // The own join, in place of its event.
            ToClient::Accepted(accepted) => self.cursor.1 = accepted.seq,
            ToClient::Ack(_) => {}
            other => bail!("unexpected frame: {other:?}"),
        }
        Ok(())
    }

    pub(super) fn faults(&self, total: u64) -> Faults {
        self.sequence.faults(total)
    }
}
