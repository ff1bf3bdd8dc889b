//! Senders and receivers in pairs: latency from intended send time to receipt.

use std::time::Instant;

use anyhow::Result;
use quinn::{RecvStream, SendStream};
use tokio::{task::JoinSet, time::timeout_at};

use super::{
    Server,
    clients::Clients,
    wire::{Role, Splitter, frame},
};
use crate::{
    load::{self, Outlet, PAYLOAD, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    report::{Options, Report, Sample},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pairs of one sender and one receiver; the rate is shared among them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    #[command(flatten)]
    pace: Pace,
}

pub(super) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("bare pairs", options);
    report.setting("pairs", args.pairs);
    args.pace.describe(&mut report);
    for _ in 0..options.runs() {
        report.add("bare", measure(&args.pace, args.pairs)?);
    }
    Ok(report)
}

/// One run against a forwarder of its own.
pub(crate) fn measure(pace: &Pace, pairs: u32) -> Result<Sample> {
    let server = Server::start()?;
    super::runtime()?.block_on(run_once(&server, pace, pairs))
}

/// One run on a forwarder that is there.
pub(crate) async fn run_once(server: &Server, pace: &Pace, pairs: u32) -> Result<Sample> {
    let (senders, receivers) = (Clients::new(server)?, Clients::new(server)?);
    let mut streams = Vec::new();
    for pair in 0..pairs {
        let receiver = receivers.open(Role::Receiver(pair)).await?;
        let sender = senders.open(Role::Sender(pair)).await?;
        streams.push((sender.send, receiver.receive));
    }
    let start = Instant::now() + SETTLE;
    let mut lanes = JoinSet::new();
    for (lane, (to, from)) in (0..).zip(streams) {
        lanes.spawn(run_pair(Plan::lane(pace, start, lane, pairs), to, from));
    }
    let whole = Plan::lane(pace, start, 0, pairs);
    let usage = Usage::between(whole.measured_from(), whole.end(), server.pid()).await?;
    let finished: Vec<_> = lanes.join_all().await.into_iter().collect::<Result<_>>()?;
    let mut sample = load::summarise(pace, &finished);
    usage.add_to(&mut sample, load::measured(&finished));
    usage.add_wire_to(&mut sample, load::measured(&finished));
    Ok(sample)
}

async fn run_pair(plan: Plan, to: SendStream, mut from: RecvStream) -> Result<(Plan, Sent, Received)> {
    let mut outlet = Framed(to);
    let send = load::drive(plan, &mut outlet);
    let (sent, received) = tokio::try_join!(send, receive(plan, &mut from))?;
    Ok((plan, sent, received))
}

pub(super) struct Framed(pub(super) SendStream);

impl Outlet for Framed {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        Ok(self.0.write_all(&frame(&payload)).await?)
    }
}

/// Ends when everything has arrived, or some time after it should have.
async fn receive(plan: Plan, from: &mut RecvStream) -> Result<Received> {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    let mut received = Received::new(&plan);
    while !received.is_complete(&plan) {
        let Ok(chunk) = timeout_at(received.give_up_at(&plan).into(), from.read_chunk(usize::MAX, true)).await else {
            break;
        };
        let Some(chunk) = chunk? else { break };
        splitter.push(chunk.bytes, &mut frames)?;
        for frame in frames.drain(..) {
            received.record(&plan, &frame[1..])?;
        }
    }
    Ok(received)
}
