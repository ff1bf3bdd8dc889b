//! NATS instead of the relay: a client with all its conversations on one TCP connection through the link. The quiet ones are
//! subjects of core NATS, the bulk is a JetStream stream.
//!
//! The server and the senders are at the far side of the link. Only the client is at the near side, on its own thread.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use quip_link::Link;
use tokio::{sync::oneshot, task::JoinSet, time::timeout_at};

use super::{
    Heard, rate,
    stage::{BULK_BYTES, BULK_MESSAGES, QUIET},
};
use crate::{
    bare,
    load::{self, DRAIN, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    peer::{
        Paced, PeerServer,
        nats::{Bulk, Came, Client, Core},
    },
    report::Options,
};

/// The same size as in the relay's rows. It is read repeatedly.
const BULK: Bulk = Bulk { messages: BULK_MESSAGES, bytes: BULK_BYTES };

/// The senders, and the resources that the broker used.
struct Talked {
    plans: Vec<Plan>,
    sent: Vec<Sent>,
    usage: Usage,
    bulk_rate: f64,
}

/// One row of one run.
pub(super) fn run(link: &Link, pace: &Pace, tcp: &str, bulk: bool, options: &Options) -> Result<Heard> {
    for side in [&link.near, &link.far] {
        side.set_congestion_control(tcp).with_context(|| format!("the kernel has no congestion control {tcp}"))?;
    }
    let server = link.far.run(|| Client::start(link.far.address(), options))??;
    if bulk {
        link.far.run(|| bare::runtime()?.block_on(Client::prepare(&server, BULK)))??;
    }
    let caught_up = AtomicU64::new(0);
    let (listens, is_listening) = oneshot::channel();
    let (starts, start) = oneshot::channel();
    let (ends, is_over) = oneshot::channel::<()>();
    let (talked, received) = thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let listen = || bare::runtime()?.block_on(listen(&server, bulk, &caught_up, (listens, start)));
            let received = link.near.run(listen);
            drop(ends);
            anyhow::Ok(received??)
        });
        let talk = || bare::runtime()?.block_on(talk(&server, pace, &caught_up, (is_listening, starts, is_over)));
        let talked = link.far.run(talk);
        (talked, listening.join())
    });
    // If the client failed, its error is the cause of the senders' errors.
    let received = received.map_err(|_| anyhow!("the client panicked"))??;
    let Talked { plans, sent, usage, bulk_rate } = talked??;
    let lanes = plans.into_iter().zip(sent).zip(received).map(|((plan, sent), received)| (plan, sent, received));
    Ok(Heard { lanes: lanes.collect(), usage, bulk_rate })
}

async fn talk(
    server: &PeerServer,
    pace: &Pace,
    caught_up: &AtomicU64,
    (is_listening, starts, is_over): (oneshot::Receiver<()>, oneshot::Sender<Vec<Plan>>, oneshot::Receiver<()>),
) -> Result<Talked> {
    let mut talkers = Vec::new();
    for lane in 0..QUIET {
        talkers.push(Paced::connect::<Core>(server, lane).await?);
    }
    is_listening.await.context("the client does not listen")?;
    let start = Instant::now() + SETTLE;
    let plans: Vec<Plan> = (0..QUIET).map(|lane| Plan::lane(pace, start, lane, QUIET)).collect();
    starts.send(plans.clone()).map_err(|_| anyhow!("the client ended"))?;
    let mut talking = JoinSet::new();
    for (plan, mut talker) in plans.iter().copied().zip(talkers) {
        talking.spawn(async move {
            let sent = load::drive(plan, &mut talker).await?;
            anyhow::Ok((plan.intended(0), sent, talker))
        });
    }
    let whole = plans[0];
    let usage = Usage::between(whole.measured_from(), whole.end(), server.pid());
    let (usage, bulk_rate) = tokio::try_join!(usage, rate(caught_up, whole))?;
    let mut sent: Vec<_> = talking.join_all().await.into_iter().collect::<Result<_>>()?;
    sent.sort_by_key(|(first, ..)| *first);
    // Written messages may still be buffered, so this waits until the client is done, which drops its sender.
    is_over.await.ok();
    let sent = sent.into_iter().map(|(_, sent, _)| sent).collect();
    Ok(Talked { plans, sent, usage, bulk_rate })
}

async fn listen(
    server: &PeerServer,
    bulk: bool,
    caught_up: &AtomicU64,
    (listens, start): (oneshot::Sender<()>, oneshot::Receiver<Vec<Plan>>),
) -> Result<Vec<Received>> {
    let mut client = Client::listen(server, bulk).await?;
    listens.send(()).map_err(|()| anyhow!("the talker ended"))?;
    let plans = start.await.context("the talker ended")?;
    let mut received: Vec<Received> = plans.iter().map(Received::new).collect();
    let last = plans.iter().map(Plan::end).max().context("there are no plans")?;
    while !received.iter().zip(&plans).all(|(received, plan)| received.is_complete(plan)) {
        // Messages that have not arrived by now count as lost.
        let Ok(came) = timeout_at((last + DRAIN).into(), client.next()).await else { break };
        match came? {
            Came::Bulk { bytes } => drop(caught_up.fetch_add(bytes as u64, Ordering::Relaxed)),
            Came::Quiet { topic, payload } => {
                let lane = topic as usize;
                let (received, plan) = received.get_mut(lane).zip(plans.get(lane)).context("an unknown topic")?;
                received.record(plan, &payload)?;
            }
        }
    }
    Ok(received)
}
