//! The parts shared by all systems: the link, the relay behind it, the senders and the bulk.

use anyhow::{Context, Result};
use bytes::Bytes;
use quip_link::Link;
use quip_protocol::{ToClient, conversation::Start};

use crate::{
    load::{self, Plan, Sent},
    relay::Relay,
    report::Options,
    scenario::{history, latency},
    wire::{Clients, Conversation, Poster, Session},
};

/// Number of quiet conversations.
pub(super) const QUIET: u32 = 7;
/// The user behind the link.
pub(super) const LISTENER: &str = "listener";
/// The other user of the bulk conversation.
const BULK: &str = "bulk";
/// Messages of the bulk and bytes of each: some seconds of a good link. It is read repeatedly.
pub(super) const BULK_MESSAGES: u64 = 4_000;
pub(super) const BULK_BYTES: usize = 1_000;
/// More events than any conversation has, so all of them.
const ALL: u64 = 1 << 32;

/// A link with a relay on its far side.
pub(super) struct Stage<'a> {
    pub(super) link: &'a Link,
    pub(super) relay: Relay,
}

/// The sender of a quiet conversation, next to the relay.
pub(super) struct Talker {
    _session: Session,
    conversation: Conversation,
}

impl<'a> Stage<'a> {
    /// Starts the relay and writes the bulk.
    pub(super) async fn new(link: &'a Link, options: &Options) -> Result<Self> {
        let relay = Relay::start_within(&link.far, options)?;
        let stage = Self { link, relay };
        let talker = stage.talker(BULK).await?;
        history::write(talker.conversation, BULK_MESSAGES, BULK_BYTES).await?;
        Ok(stage)
    }

    /// The listener's session, from either side, and its quiet conversations.
    pub(super) async fn listen(&self, clients: &Clients) -> Result<(Session, Vec<Conversation>)> {
        let session = clients.connect(&self.relay.token(LISTENER)?).await?;
        let mut quiet = Vec::new();
        for lane in 0..QUIET {
            quiet.push(session.open_direct(&quiet_user(lane), true).await?);
        }
        Ok((session, quiet))
    }

    /// One for each quiet conversation.
    pub(super) async fn talkers(&self) -> Result<Vec<Talker>> {
        let mut talkers = Vec::new();
        for lane in 0..QUIET {
            talkers.push(self.talker(&quiet_user(lane)).await?);
        }
        Ok(talkers)
    }

    async fn talker(&self, user: &str) -> Result<Talker> {
        let clients = Clients::within(&self.link.far, &self.relay, 1)?;
        let session = clients.connect(&self.relay.token(user)?).await?;
        let conversation = session.open_direct(LISTENER, true).await?;
        Ok(Talker { _session: session, conversation })
    }
}

impl Talker {
    /// Sends at the intended times, independent of the listener.
    pub(super) async fn talk(self, plan: Plan) -> Result<Sent> {
        let Conversation { last_n, send, mut reader, .. } = self.conversation;
        let mut poster = Poster::new(send, last_n);
        let credit = poster.credit.clone();
        let (sent, _) =
            tokio::try_join!(load::drive(plan, &mut poster), latency::accept(plan, &mut reader, last_n + 1, &credit),)?;
        Ok(sent)
    }
}

fn quiet_user(lane: u32) -> String {
    format!("talker-{lane}")
}

/// One pass over the whole bulk conversation.
pub(super) struct CatchUp {
    conversation: Conversation,
    seq: u64,
}

impl CatchUp {
    /// Opens the conversation from its beginning.
    pub(super) async fn open(session: &Session) -> Result<Self> {
        let conversation = session.open_direct_from(BULK, true, Start::Last(ALL)).await?;
        Ok(Self { conversation, seq: 0 })
    }

    /// The next event as it was received; `None` at the end, after closing the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.seq < self.conversation.head {
            let next = self.conversation.reader.next_frame().await?;
            let (message, frame) = next.context("the relay ended the bulk")?;
            if let ToClient::Event(event) = message {
                self.seq = event.seq;
                return Ok(Some(Bytes::copy_from_slice(frame)));
            }
        }
        self.conversation.send.finish()?;
        while self.conversation.reader.next().await?.is_some() {}
        Ok(None)
    }
}
