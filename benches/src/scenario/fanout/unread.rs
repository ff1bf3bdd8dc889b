//! The room beside a reader who does not read: one connection that has many groups open with a tiny window, while another
//! user posts in them. The posting goes on without the reader too, so that only the reader makes a difference.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use quip_protocol::{
    Blob, ConversationId, Message, ToClient,
    conversation::{Add, Post, Start, Target},
    event::kind,
    frame, limit,
};
use tokio::{runtime::Builder, sync::oneshot, time::interval};

use super::SETTINGS;
use crate::{
    bare,
    load::Pace,
    relay::Relay,
    report::{Options, Sample},
    wire::{Clients, Conversation, Session},
};

/// Memory for recent events, which the groups would fill.
const MEMORY: &str = r#"limits.ring_bytes = "8MiB""#;
/// Messages of the largest size in each group, before the measurement.
const FILLING: usize = 20;
/// Messages per second in all groups together during the measurement, and their bytes.
const TRICKLE: u32 = 100;
const SIZE: usize = 4096;
/// Bytes that the reader takes on one stream.
const WINDOW: u32 = 64;
/// Niceness of the other users' thread, so that on a small machine it does not delay the room.
const NICE: i32 = 10;
const READER: &str = "unread";

/// The results of the room.
pub(super) struct Both {
    pub(super) without: Sample,
    pub(super) with: Sample,
}

/// Measures the room without the reader and beside one with this number of groups, each on a relay of its own.
pub(super) fn measure(options: &Options, room: &Pace, members: u32, groups: u32) -> Result<Both> {
    let without = once(options, room, members, groups, false)?;
    Ok(Both { without, with: once(options, room, members, groups, true)? })
}

fn once(options: &Options, room: &Pace, members: u32, groups: u32, with_reader: bool) -> Result<Sample> {
    let relay = Relay::start_with(options, &[SETTINGS.to_owned(), MEMORY.to_owned()])?;
    let be_nice = || {
        // Without permission they delay the room, whose lag shows it.
        let _ = rustix::process::setpriority_process(None, NICE);
    };
    let others = Builder::new_multi_thread().worker_threads(1).on_thread_start(be_nice).enable_all().build()?;
    let (enough, until) = oneshot::channel();
    let others_talk = others.block_on(Groups::fill(&relay, groups, with_reader))?;
    let talking = others.spawn(others_talk.talk(until));
    let mut sample = bare::runtime()?.block_on(super::run_once(&relay, room, members))?;
    // They may have failed by now, which the next line reports.
    let _ = enough.send(());
    sample.push("posted_beside", others.block_on(talking)??);
    Ok(sample)
}

/// Groups in which one user posts, and which another has open if there is one.
struct Groups {
    posting: Vec<Conversation>,
    /// Kept because dropping them ends the streams.
    _unread: Vec<Conversation>,
    _sessions: Vec<Session>,
}

impl Groups {
    async fn fill(relay: &Relay, count: u32, with_reader: bool) -> Result<Self> {
        let poster = Clients::new(relay, count)?.connect(&relay.token("poster")?).await?;
        let reader = match with_reader {
            true => Some(Clients::with_window(relay, count, WINDOW)?.connect(&relay.token(READER)?).await?),
            false => None,
        };
        let (mut posting, mut unread) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let id = ConversationId::group(rand::random());
            let mut group = poster.open(&Target::NewGroup(id), true, Start::Now).await?;
            send(&mut group, |n| Add { n, user: READER }).await?;
            if let Some(reader) = &reader {
                unread.push(reader.open(&Target::Id(id), false, Start::Now).await?);
            }
            for _ in 0..FILLING {
                post(&mut group, limit::MESSAGE).await?;
            }
            posting.push(group);
        }
        let sessions = [Some(poster), reader].into_iter().flatten().collect();
        Ok(Self { posting, _unread: unread, _sessions: sessions })
    }

    /// Posts in one group after the other. Gives how many messages that were.
    async fn talk(mut self, mut until: oneshot::Receiver<()>) -> Result<f64> {
        let (mut pace, mut posted) = (interval(Duration::from_secs(1) / TRICKLE), 0);
        loop {
            tokio::select! {
                _ = &mut until => return Ok(posted as f64),
                _ = pace.tick() => {}
            }
            let groups = self.posting.len();
            post(&mut self.posting[posted % groups], SIZE).await?;
            posted += 1;
        }
    }
}

async fn post(group: &mut Conversation, size: usize) -> Result<()> {
    let body = vec![b'.'; size];
    send(group, |n| Post { n, kind: kind::TEXT, body: Blob(&body) }).await
}

/// Sends a command and waits until it is accepted.
async fn send<M: Message>(to: &mut Conversation, command: impl FnOnce(u64) -> M) -> Result<()> {
    to.last_n += 1;
    to.send.write_all(&frame::to_bytes(&command(to.last_n))).await?;
    loop {
        match to.reader.next().await?.context("the relay ended the stream")? {
            ToClient::Accepted(accepted) if accepted.n == to.last_n => return Ok(()),
            ToClient::Ack(ack) if ack.n == to.last_n => return Ok(()),
            // The answer to the join, or what is answered by an Ack.
            ToClient::Accepted(_) | ToClient::Ack(_) | ToClient::Event(_) => {}
            other => bail!("unexpected frame for one who posts beside the room: {other:?}"),
        }
    }
}
