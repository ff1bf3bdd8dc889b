//! The same exchanges with every peer, whatever it speaks.

use std::time::{Duration, Instant};

use anyhow::{Error, Result, ensure};
use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{sleep_until, timeout_at},
};

use super::{server::Server, window::Window};
use crate::{
    crowd::{Crowd, Ear},
    load::{self, DRAIN, Outlet, PAYLOAD, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    report::Sample,
    room,
    saturate::{Load, Span},
};

/// Messages without an answer, as many as Quip allows a conversation.
const WINDOW: usize = 64;
const TEXT: [u8; PAYLOAD] = [b'.'; PAYLOAD];

/// What is asked of a peer.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// One sender, one receiver, open-loop.
    Latency(Pace),
    /// Many senders without a receiver, closed-loop.
    Ingest(Load),
    /// One sender, many receivers, open-loop.
    Fanout(Audience),
}

/// Who gets each message of [`Work::Fanout`].
#[derive(Clone, Copy)]
pub(crate) struct Audience {
    pub(crate) pace: Pace,
    pub(crate) members: u32,
}

/// A way to hand messages from one to another. Topics are numbered; each has one sender.
pub(crate) trait Protocol {
    type Outbox: Outbox + 'static;
    type Inlet: Inlet + 'static;
    /// Whether senders get acknowledgements.
    const ACKNOWLEDGES: bool = true;

    /// Makes the server ready for topics.
    async fn prepare(_server: &Server) -> Result<()> {
        Ok(())
    }

    /// A receiver of a topic; each gets every message.
    async fn receiver(server: &Server, topic: u32, number: u32) -> Result<Self::Inlet>;

    /// A sender who settles the window with every answer.
    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Self::Outbox>;
}

/// Where messages go in.
pub(crate) trait Outbox: Send {
    /// Hands over one message, which may wait for [`Outbox::flush`] to leave.
    fn queue(&mut self, payload: [u8; PAYLOAD]) -> impl Future<Output = Result<()>> + Send;

    /// Lets everything leave.
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Where messages come out.
pub(crate) trait Inlet: Send {
    /// The next message.
    fn receive(&mut self) -> impl Future<Output = Result<Bytes>> + Send;
}

/// One run on a server that is there.
pub(super) async fn run<P: Protocol>(work: &Work, server: &Server) -> Result<Sample> {
    P::prepare(server).await?;
    match work {
        Work::Latency(pace) => latency::<P>(pace, server).await,
        Work::Ingest(load) => ingest::<P>(load, server).await,
        Work::Fanout(audience) => fanout::<P>(audience, server).await,
    }
}

async fn latency<P: Protocol>(pace: &Pace, server: &Server) -> Result<Sample> {
    let mut inlet = P::receiver(server, 0, 0).await?;
    let mut outlet = Paced::connect::<P>(server, 0).await?;
    let plan = Plan::lane(pace, Instant::now() + SETTLE, 0, 1);
    let usage = Usage::between(plan.measured_from(), plan.end(), server.pid());
    let (sent, received, usage) = tokio::try_join!(load::drive(plan, &mut outlet), receive(plan, &mut inlet), usage)?;
    let lanes: [(Plan, Sent, Received); 1] = [(plan, sent, received)];
    let mut sample = load::summarise(pace, &lanes);
    usage.add_to(&mut sample, load::measured(&lanes));
    usage.add_wire_to(&mut sample, load::measured(&lanes));
    Ok(sample)
}

async fn fanout<P: Protocol>(audience: &Audience, server: &Server) -> Result<Sample> {
    let Audience { pace, members } = audience;
    let deliveries = pace.messages() * u64::from(*members);
    let mut crowd = Crowd::new(server.place().udp_port, server.pid(), deliveries);
    // Who serves many is not hurried: a connection after the other.
    for member in 0..*members {
        let inlet = P::receiver(server, 0, member).await?;
        crowd.join(|ear| listen(ear, inlet));
    }
    let mut outlet = Paced::connect::<P>(server, 0).await?;
    let plan = Plan::lane(pace, Instant::now() + SETTLE, 0, 1);
    room::attend(crowd, pace, plan, load::drive(plan, &mut outlet)).await
}

/// Notes every message; ends only with an error.
async fn listen(mut ear: Ear, mut inlet: impl Inlet) -> Error {
    loop {
        match inlet.receive().await.and_then(|payload| load::number(&payload)) {
            Ok(number) => ear.hear(number),
            Err(error) => return error,
        }
    }
}

/// One sender of open-loop load.
pub(crate) struct Paced<O> {
    outbox: O,
    /// What a peer that answers nothing does not have.
    window: Option<Window>,
}

impl<O> Paced<O> {
    pub(crate) async fn connect<P: Protocol<Outbox = O>>(server: &Server, topic: u32) -> Result<Self> {
        let window = Window::new(WINDOW);
        let outbox = P::sender(server, topic, window.clone()).await?;
        Ok(Self { outbox, window: P::ACKNOWLEDGES.then_some(window) })
    }
}

impl<O: Outbox> Outlet for Paced<O> {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        if let Some(window) = &self.window {
            window.enter().await?;
        }
        self.outbox.queue(payload).await?;
        self.outbox.flush().await
    }
}

/// Ends when everything has arrived, or some time after it should have.
async fn receive(plan: Plan, inlet: &mut impl Inlet) -> Result<Received> {
    let mut received = Received::new(&plan);
    let give_up = (plan.end() + DRAIN).into();
    while !received.is_complete(&plan) {
        let Ok(payload) = timeout_at(give_up, inlet.receive()).await else { break };
        received.record(&plan, &payload?)?;
    }
    Ok(received)
}

async fn ingest<P: Protocol>(load: &Load, server: &Server) -> Result<Sample> {
    ensure!(P::ACKNOWLEDGES, "the system has no acknowledgements to count");
    let (mut windows, mut senders) = (Vec::new(), Vec::new());
    for topic in 0..load.senders {
        let window = Window::new(load.window);
        senders.push((P::sender(server, topic, window.clone()).await?, window.clone()));
        windows.push(window);
    }
    let span = load.span(Instant::now() + SETTLE);
    let mut tasks = JoinSet::new();
    for (outbox, window) in senders {
        tasks.spawn(fill(outbox, window, span));
    }
    let usage = Usage::between(span.from, span.to, server.pid());
    let (usage, accepted) = tokio::join!(usage, accepted(&span, &windows));
    // Who is still waiting for an answer waits for nobody.
    while let Some(ended) = tokio::time::timeout(Duration::ZERO, tasks.join_next()).await.ok().flatten() {
        ended??;
    }
    let mut sample = Sample::default();
    sample.push("accepted_per_s", accepted as f64 / (span.to - span.from).as_secs_f64());
    usage?.add_to(&mut sample, accepted);
    Ok(sample)
}

/// Keeps the window full until the span ends.
async fn fill(mut outbox: impl Outbox, window: Window, span: Span) -> Result<()> {
    while Instant::now() < span.to {
        window.enter().await?;
        outbox.queue(TEXT).await?;
        while window.try_enter() {
            outbox.queue(TEXT).await?;
        }
        outbox.flush().await?;
    }
    Ok(())
}

/// Messages that were accepted within the span.
async fn accepted(span: &Span, windows: &[Window]) -> u64 {
    let count = || windows.iter().map(Window::answered).sum::<u64>();
    sleep_until(span.from.into()).await;
    let before = count();
    sleep_until(span.to.into()).await;
    count() - before
}
