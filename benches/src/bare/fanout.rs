//! One sender, many receivers: what it costs to hand a message to each over QUIC, without a protocol.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Error, Result};
use quinn::RecvStream;

use super::{
    Server,
    clients::Clients,
    pairs::Framed,
    wire::{Role, Splitter},
};
use crate::{
    crowd::{Crowd, Ear, PER_SOCKET, gather},
    load::{self, Pace, Plan, SETTLE},
    report::Sample,
    room,
};

/// The only pair: all receivers have the one sender.
const PAIR: u32 = 0;

/// One run against a forwarder of its own.
pub(crate) fn measure(pace: &Pace, receivers: u32) -> Result<Sample> {
    let server = Server::start()?;
    super::runtime()?.block_on(run_once(&server, pace, receivers))
}

pub(crate) async fn run_once(server: &Server, pace: &Pace, receivers: u32) -> Result<Sample> {
    let deliveries = pace.messages() * u64::from(receivers);
    let mut crowd = Crowd::new(server.address.port(), server.pid(), deliveries);
    let mut clients = Arc::new(Clients::new(server)?);
    let opened = gather(receivers, |receiver| {
        if receiver % PER_SOCKET == 0 {
            clients = Arc::new(Clients::new(server)?);
            crowd.watch(clients.port()?);
        }
        let clients = Arc::clone(&clients);
        Ok(async move { clients.open(Role::Receiver(PAIR)).await })
    });
    for client in opened.await? {
        crowd.count(client.connection);
        crowd.join(|ear| listen(ear, client.receive));
    }
    let mut outlet = Framed(Clients::new(server)?.open(Role::Sender(PAIR)).await?.send);
    let plan = Plan::lane(pace, Instant::now() + SETTLE, 0, 1);
    room::attend(crowd, pace, plan, load::drive(plan, &mut outlet)).await
}

/// Notes whatever comes; ends only with an error.
async fn listen(mut ear: Ear, mut from: RecvStream) -> Error {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    loop {
        let heard = async {
            let chunk = from.read_chunk(usize::MAX, true).await?.context("the forwarder ended a stream")?;
            splitter.push(chunk.bytes, &mut frames)?;
            for frame in frames.drain(..) {
                ear.hear(load::number(&frame[1..])?);
            }
            anyhow::Ok(())
        };
        if let Err(error) = heard.await {
            return error;
        }
    }
}
