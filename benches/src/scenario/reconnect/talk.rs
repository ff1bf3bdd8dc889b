//! Clients that keep talking while others reconnect.

use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    check::Faults,
    load::{Pace, Plan, Received, Sent},
    relay::Relay,
    report::Sample,
    scenario::latency,
    stats::Latencies,
    wire::{Clients, Session},
};

/// Lag of the generator, at the 99th percentile, above which it counts as the limit, in microseconds.
const LAG_LIMIT: f64 = 1_000.0;

/// Pairs of a sender and a receiver.
pub(super) struct Talkers {
    clients: Clients,
    tokens: Vec<(String, String)>,
    sessions: Vec<(Session, Session)>,
}

/// The messages of each pair.
pub(super) struct Talk(Vec<(Plan, Sent, Received)>);

impl Talkers {
    pub(super) fn new(relay: &Relay, pairs: u32) -> Result<Self> {
        let token = |name: String| relay.token(&name);
        let tokens = (0..pairs).map(|pair| Ok((token(sender(pair))?, token(receiver(pair))?)));
        let tokens = tokens.collect::<Result<_>>()?;
        Ok(Self { clients: Clients::new(relay, 1)?, tokens, sessions: Vec::new() })
    }

    pub(super) async fn connect(mut self) -> Result<Self> {
        for (sender, receiver) in &self.tokens {
            self.sessions.push((self.clients.connect(sender).await?, self.clients.connect(receiver).await?));
        }
        Ok(self)
    }

    /// Talks at the given pace. Sends a plan to `begin` when all conversations are open.
    pub(super) async fn talk(self, pace: Pace, begin: tokio::sync::oneshot::Sender<Plan>) -> Result<(Self, Talk)> {
        let pairs = self.sessions.len() as u32;
        let mut conversations = Vec::new();
        for (pair, (from, to)) in (0..).zip(&self.sessions) {
            let from = from.open_direct(&receiver(pair), true).await?;
            conversations.push((from, to.open_direct(&sender(pair), true).await?));
        }
        let start = Instant::now() + crate::load::SETTLE;
        // The receiver is dropped in the row without a storm.
        begin.send(Plan::lane(&pace, start, 0, pairs)).ok();
        let mut lanes = JoinSet::new();
        for (lane, (from, to)) in (0..).zip(conversations) {
            let plan = Plan::lane(&pace, start, lane, pairs);
            lanes.spawn(latency::run_pair(plan, from, to, Received::traced(&plan)));
        }
        let mut said = Vec::new();
        while let Some(lane) = lanes.join_next().await {
            let (plan, sent, received, _) = lane??;
            said.push((plan, sent, received));
        }
        Ok((self, Talk(said)))
    }
}

impl Talk {
    /// The latency of messages that were due within the span.
    pub(super) fn sample(&self, from: Instant, to: Instant) -> Sample {
        let (mut latency, mut lag) = (Latencies::new(), Latencies::new());
        for (plan, sent, received) in &self.0 {
            for (number, at) in received.trace() {
                let due = plan.intended(*number);
                if due >= from && due < to {
                    latency.record(at.saturating_duration_since(due));
                }
            }
            lag.merge(&sent.lag);
        }
        let mut sample = Sample::default();
        sample.push_latency(&latency);
        let faults: Faults = self.0.iter().map(|(plan, _, received)| received.faults(plan)).sum();
        faults.add_to(&mut sample);
        sample.push("generator_lag_p99_us", lag.micros(0.99));
        if lag.micros(0.99) > LAG_LIMIT {
            sample.generator_was_limit(format!("it sent {:.0} µs late at p99", lag.micros(0.99)));
        }
        if self.0.iter().any(|(plan, ..)| plan.end() < to) {
            sample.doubt("the storm outlasted the load: use more --seconds".to_owned());
        }
        sample
    }
}

fn sender(pair: u32) -> String {
    format!("talker-{pair}")
}

fn receiver(pair: u32) -> String {
    format!("listener-{pair}")
}
