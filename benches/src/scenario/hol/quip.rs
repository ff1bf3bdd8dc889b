//! The listener as a client of the relay: a stream for each conversation.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use tokio::task::JoinSet;

use super::stage::{CatchUp, QUIET, Stage};
use crate::{
    load::{Plan, Received},
    scenario::latency,
    wire::{Clients, Conversation, Session},
};

pub(super) struct Listener {
    session: Session,
    quiet: Vec<Conversation>,
}

impl Listener {
    pub(super) async fn connect(stage: &Stage<'_>) -> Result<Self> {
        let clients = Clients::within(&stage.link.near, &stage.relay, QUIET + 1)?;
        let (session, quiet) = stage.listen(&clients).await?;
        Ok(Self { session, quiet })
    }

    pub(super) async fn receive(self, plans: &[Plan], bulk: Option<Arc<AtomicU64>>) -> Result<Vec<Received>> {
        let mut lanes = JoinSet::new();
        for (lane, (plan, conversation)) in plans.iter().copied().zip(self.quiet).enumerate() {
            lanes.spawn(async move { anyhow::Ok((lane, receive(plan, conversation).await?)) });
        }
        let all = async {
            let mut received: Vec<_> = lanes.join_all().await.into_iter().collect::<Result<_>>()?;
            received.sort_by_key(|(lane, _)| *lane);
            Ok(received.into_iter().map(|(_, received)| received).collect())
        };
        tokio::select! {
            received = all => received,
            failed = catch_up(&self.session, bulk) => Err(failed),
        }
    }
}

/// Includes the sending half, because dropping it would close the conversation.
async fn receive(plan: Plan, mut conversation: Conversation) -> Result<Received> {
    latency::receive(plan, &mut conversation.reader).await
}

/// Reads the bulk repeatedly; ends only with an error.
async fn catch_up(session: &Session, bulk: Option<Arc<AtomicU64>>) -> anyhow::Error {
    let Some(bytes) = bulk else { return std::future::pending().await };
    loop {
        if let Err(error) = pass(session, &bytes).await {
            return error;
        }
    }
}

async fn pass(session: &Session, bytes: &AtomicU64) -> Result<()> {
    let mut catch_up = CatchUp::open(session).await?;
    while let Some(frame) = catch_up.next().await? {
        bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}
