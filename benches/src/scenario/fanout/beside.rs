//! A small conversation beside the room: its latency while the relay serves a thousand members of the room.
//!
//! It has its own thread with priority over the one that reads for the room, so that it waits for the relay and not for the
//! generator. Its send lag shows whether that worked.

use std::{thread, time::Instant};

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Room;
use crate::{
    bare,
    load::{self, Pace, Plan, SETTLE},
    relay::Relay,
    report::Sample,
    scenario::latency::Pair,
    wire::Clients,
};

/// The scheduler's niceness of the small conversation's thread.
const NICE: i32 = -10;
/// The conversation alone, and beside the room.
const PHASES: u32 = 2;

/// The results of the room and the conversation.
pub(super) struct Both {
    pub(super) room: Sample,
    pub(super) alone: Sample,
    pub(super) beside: Sample,
}

/// Fills the room, measures the conversation while the room is quiet, and then both together.
pub(super) fn measure(relay: &Relay, room: &Pace, members: u32, small: &Pace) -> Result<Both> {
    let (starts, when) = unbounded_channel();
    let (done, mut samples) = unbounded_channel();
    thread::scope(|scope| {
        let talking = scope.spawn(move || bare::runtime()?.block_on(talk(relay, small, when, done)));
        let measured = bare::runtime()?.block_on(async {
            let filled = Room::fill(relay, room, members).await?;
            let ended = "the small conversation ended early";
            starts.send(Instant::now() + SETTLE).context(ended)?;
            let alone = samples.recv().await.context(ended)?;
            let start = Instant::now() + SETTLE;
            starts.send(start).context(ended)?;
            let beside = async { samples.recv().await.context(ended) };
            let (room, beside) = filled.talk_beside(room, start, beside).await?;
            Ok(Both { room, alone, beside })
        });
        drop(starts);
        // If the conversation failed, the room failed because of it.
        talking.join().expect("the thread does not panic").and(measured)
    })
}

/// Measures the conversation once from each start.
async fn talk(
    relay: &Relay,
    pace: &Pace,
    mut starts: UnboundedReceiver<Instant>,
    samples: UnboundedSender<Sample>,
) -> Result<()> {
    let preferred = setpriority_process(None, NICE).is_ok();
    let clients = Clients::new(relay, 1)?;
    let mut pairs = Vec::new();
    for phase in 0..PHASES {
        pairs.push(Pair::connect(relay, &clients, &clients, &format!("small-{phase}")).await?);
    }
    for pair in pairs {
        let Some(start) = starts.recv().await else { break };
        let plan = Plan::lane(pace, start, 0, 1);
        let (plan, sent, received, _) = pair.run(plan).await?;
        let mut sample = load::summarise(pace, &[(plan, sent, received)]);
        if !preferred {
            sample.doubt("its thread has no priority (needs root) and may have waited for the generator".to_owned());
        }
        // The receiver is gone if the room has failed.
        let _ = samples.send(sample);
    }
    Ok(())
}
