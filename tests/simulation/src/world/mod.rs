//! The world: a relay, devices with apps, and what goes wrong between them.

mod actions;
mod app;
mod chaos;
mod disk;
mod impostor;
mod issuer;
mod place;
mod reader;
mod relay;
mod shared;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quip_protocol::UserId;
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(crate) use self::issuer::BEGIN;
use self::{
    chaos::{Chaos, RELAY},
    impostor::Impostor,
    issuer::Issuer,
    place::Place,
    relay::Relay,
    shared::Shared,
};
use crate::{
    crypto,
    history::{History, Recorder},
    identity::Identity,
    net::Net,
    plant::Plant,
    trace::Trace,
    watch::Watch,
};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// How long things go wrong, in virtual time.
    pub time: Duration,
    /// A fault to pretend.
    pub plant: Option<Plant>,
    /// Keep a line for each packet.
    pub text: bool,
}

/// What came of a run.
pub struct Ran {
    /// What happened.
    pub history: History,
    /// The hash of every packet and every entry of the history.
    pub trace: u64,
    /// The packets and entries, on request.
    pub lines: Vec<String>,
    /// How many packets were sent.
    pub packets: u64,
    /// How long it took in virtual time.
    pub time: Duration,
}

/// Runs a world.
pub fn run(options: Options) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(PAUSED).build();
    runtime.expect("a runtime needs nothing that can fail").block_on(play(options))
}

async fn play(options: Options) -> Ran {
    let mut rng = StdRng::seed_from_u64(options.seed);
    crypto::begin(options.seed);
    let trace = Trace::new(options.text);
    let net = Net::new(rng.random(), trace.clone());
    let users = people(&mut rng);
    let recorder = Recorder::new(users.clone(), trace.clone());
    let watch = Watch::start(recorder.clone());
    let identity = Identity::draw(rng.random());
    let mut names = users.clone();
    names.dedup();
    let relays = addresses(&mut rng);
    let issuer = (rng.random_range(0..5) == 0).then(Issuer::new);
    let (places, fingerprint) = (Place::all(&names), identity.fingerprint);
    let shared = Arc::new(Shared::new(recorder.clone(), places, relays, fingerprint, issuer, options.plant));
    let impostor = Impostor::start(rng.random(), &net, &shared);
    let relay = Relay::new(rng.random(), net.clone(), shared.clone(), identity);
    let mut chaos = Chaos::start(rng.random(), net.clone(), shared, relay, users.len());
    chaos.rage(options.time).await;
    chaos.settle().await;
    chaos.end();
    drop(impostor);
    drop(watch);
    Ran {
        history: recorder.take(),
        trace: trace.hash(),
        lines: trace.lines(),
        packets: net.sent(),
        time: trace.elapsed(),
    }
}

/// The addresses that clients know: one at which the relay is, or two and it moves between them, or somebody else is at one.
fn addresses(rng: &mut StdRng) -> Vec<SocketAddr> {
    let relay = |port| SocketAddr::new(RELAY.ip(), port);
    match rng.random_range(0..4) {
        0 => vec![relay(4433), relay(4434)],
        1 => vec![relay(4433), impostor::ADDRESS],
        _ => vec![relay(4433)],
    }
}

/// The user of each device.
fn people(rng: &mut StdRng) -> Vec<UserId> {
    let users = ["alice", "bob", "carol", "dave", "eve"];
    let count = rng.random_range(3..=users.len());
    let devices = users[..count].iter().flat_map(|user| std::iter::repeat_n(*user, [1, 1, 2][rng.random_range(0..3)]));
    devices.map(|user| UserId::parse(user).expect("a user id")).collect()
}

const PAUSED: bool = true;
