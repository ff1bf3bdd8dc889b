//! All conversations of one client on one ordered byte stream, between a multiplexer next to the relay, which is a client of
//! the relay, and the listener.
//!
//! Each frame of the relay is preceded by a byte that names its conversation. The listener requests the bulk with a byte, as
//! a client of the relay does with an `Open`, and receives a byte at its end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quip_protocol::{ToClient, event::kind, frame, limit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
    time::timeout_at,
};

use super::stage::{CatchUp, QUIET, Stage};
use crate::{
    load::{DRAIN, Plan, Received},
    wire::{Clients, Conversation, Session},
};

/// The bulk conversation.
const BULK: u8 = QUIET as u8;
/// The end of the bulk.
const END: u8 = BULK + 1;
/// Requests the bulk.
const WANTED: u8 = 1;
/// Maximum queued quiet messages; more than are ever sent.
const WAITING: usize = 65_536;

/// One end of a stream.
pub(super) struct End {
    pub(super) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) write: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Both ends of a stream through the link, and the resources that it needs.
pub(super) struct Ends {
    pub(super) near: End,
    pub(super) far: End,
    pub(super) alive: Box<dyn std::any::Any + Send>,
}

pub(super) struct Listener {
    end: End,
    multiplexer: JoinSet<Result<()>>,
    _alive: Box<dyn std::any::Any + Send>,
}

impl Listener {
    /// Starts the multiplexer at the far end.
    pub(super) async fn new(stage: &Stage<'_>, ends: Ends) -> Result<Self> {
        let clients = Clients::within(&stage.link.far, &stage.relay, QUIET + 1)?;
        let (session, quiet) = stage.listen(&clients).await?;
        Ok(Self { end: ends.near, multiplexer: multiplex(session, quiet, ends.far), _alive: ends.alive })
    }

    pub(super) async fn receive(mut self, plans: &[Plan], bulk: Option<Arc<AtomicU64>>) -> Result<Vec<Received>> {
        let mut received: Vec<Received> = plans.iter().map(Received::new).collect();
        if bulk.is_some() {
            ask(&mut self.end).await?;
        }
        let last = plans.iter().map(Plan::end).max().context("there are no plans")?;
        let mut buffer = BytesMut::new();
        while !received.iter().zip(plans).all(|(received, plan)| received.is_complete(plan)) {
            let more = tokio::select! {
                more = timeout_at((last + DRAIN).into(), self.end.read.read_buf(&mut buffer)) => more,
                Some(failed) = self.multiplexer.join_next() => bail!("the multiplexer ended: {failed:?}"),
            };
            // Messages that have not arrived by now count as lost.
            let Ok(more) = more else { break };
            if more? == 0 {
                bail!("the multiplexer ended the stream");
            }
            while let Some((conversation, length)) = split(&buffer, plans, &mut received)? {
                match (conversation, &bulk) {
                    (BULK, Some(bytes)) => drop(bytes.fetch_add(length as u64, Ordering::Relaxed)),
                    (END, _) => ask(&mut self.end).await?,
                    _ => {}
                }
                buffer.advance(length);
            }
        }
        Ok(received)
    }
}

async fn ask(end: &mut End) -> Result<()> {
    end.write.write_all(&[WANTED]).await?;
    Ok(end.write.flush().await?)
}

/// Records the first message if it is complete; returns its conversation and length.
fn split(buffer: &[u8], plans: &[Plan], received: &mut [Received]) -> Result<Option<(u8, usize)>> {
    let Some((&conversation, rest)) = buffer.split_first() else { return Ok(None) };
    if conversation == END {
        return Ok(Some((END, 1)));
    }
    let Some((frame, length)) = frame::split(rest, limit::FRAME)? else { return Ok(None) };
    if conversation != BULK {
        let lane = usize::from(conversation);
        match ToClient::decode(frame)? {
            Some(ToClient::Event(event)) => received[lane].record(&plans[lane], event.body.0)?,
            other => bail!("unexpected frame in a quiet conversation: {other:?}"),
        }
    }
    Ok(Some((conversation, 1 + length)))
}

/// A task for each conversation, and one that writes.
fn multiplex(session: Session, quiet: Vec<Conversation>, end: End) -> JoinSet<Result<()>> {
    let (live, live_waits) = mpsc::channel(WAITING);
    // No capacity for the bulk, so that no quiet message waits behind it.
    let (bulk, bulk_waits) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    for (lane, conversation) in quiet.into_iter().enumerate() {
        tasks.spawn(follow(lane as u8, conversation, live.clone()));
    }
    tasks.spawn(catch_up(session, end.read, bulk));
    tasks.spawn(write(end.write, live_waits, bulk_waits));
    tasks
}

async fn follow(lane: u8, mut conversation: Conversation, live: mpsc::Sender<Bytes>) -> Result<()> {
    while let Some((message, frame)) = conversation.reader.next_frame().await? {
        if matches!(&message, ToClient::Event(event) if event.kind == kind::TEXT) {
            live.send(tagged(lane, frame)).await?;
        }
    }
    bail!("the relay ended a quiet conversation")
}

async fn catch_up(
    session: Session,
    mut asked: Box<dyn AsyncRead + Send + Unpin>,
    bulk: mpsc::Sender<Bytes>,
) -> Result<()> {
    loop {
        asked.read_exact(&mut [0]).await?;
        let mut pass = CatchUp::open(&session).await?;
        while let Some(frame) = pass.next().await? {
            bulk.send(tagged(BULK, &frame)).await?;
        }
        bulk.send(Bytes::from_static(&[END])).await?;
    }
}

/// Quiet messages go first.
async fn write(
    mut stream: Box<dyn AsyncWrite + Send + Unpin>,
    mut live: mpsc::Receiver<Bytes>,
    mut bulk: mpsc::Receiver<Bytes>,
) -> Result<()> {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = live.recv() => message,
            Some(message) = bulk.recv() => message,
            else => bail!("no conversation is left"),
        };
        stream.write_all(&message).await?;
        stream.flush().await?;
    }
}

fn tagged(conversation: u8, frame: &[u8]) -> Bytes {
    let mut tagged = BytesMut::with_capacity(1 + frame.len());
    tagged.put_u8(conversation);
    tagged.put_slice(frame);
    tagged.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quip_protocol::request::History;

    use super::*;

    #[test]
    fn messages_are_found_only_when_they_are_whole() {
        let request =
            History { conversation: quip_protocol::ConversationId([1; 16]), forward: true, from: 0, limit: 1 };
        let frame = frame::to_bytes(&request);
        let whole = [&tagged(BULK, &frame)[..], &[END]].concat();
        for length in 0..=frame.len() {
            assert_eq!(split(&whole[..length], &[], &mut []).unwrap(), None, "{length} bytes");
        }
        assert_eq!(split(&whole, &[], &mut []).unwrap(), Some((BULK, 1 + frame.len())));
        assert_eq!(split(&whole[1 + frame.len()..], &[], &mut []).unwrap(), Some((END, 1)));
    }
}
