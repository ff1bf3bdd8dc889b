//! What people would use instead: each peer's own server, and our generator speaking its protocol through a
//! well-kept client.
//!
//! One sender, one receiver, the same messages at the same intended times, TLS 1.3 everywhere, and where a
//! protocol acknowledges, at most [`WINDOW`] unanswered as with Quip.

mod mqtt;
mod mqtt_quic;
mod nats;
mod redis;
mod server;
mod xmpp;

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::time::timeout_at;

use self::{nats::Keep, server::Server};
use crate::{
    bare, commit,
    load::{self, DRAIN, Outlet, Pace, Plan, Received, SETTLE, Sent},
    meter::Usage,
    relay::Relay,
    report::{Options, Sample},
    scenario::latency,
};

/// Messages without an answer, as many as Quip allows a conversation.
const WINDOW: usize = 64;
/// The processor of a server that is pinned, and that of the generator beside it.
const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// Something that carries messages from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Quip,
    Bare,
    JetstreamAlways,
    Jetstream,
    Nats,
    Mosquitto,
    #[value(alias = "ejabberd")]
    Prosody,
    RedisAlways,
    RedisPubsub,
    MqttQuic,
    Fdatasync,
}

/// What a reader has to know of a peer's figures.
pub(crate) struct Facts {
    pub(crate) name: &'static str,
    /// A message is on the disk before its sender or receiver hears of it.
    pub(crate) durable: bool,
    pub(crate) says: &'static str,
}

impl Peer {
    pub(crate) fn facts(self) -> Facts {
        let (name, durable, says) = match self {
            Self::Quip => ("quip", true, "direct conversation; synced before delivery"),
            Self::Bare => ("bare", false, "quinn forwarder: no protocol, no store; what the transport costs here"),
            Self::JetstreamAlways => ("jetstream-always", true, "NATS JetStream, file, R1, sync_interval always"),
            Self::Jetstream => ("jetstream", false, "the same with the default sync: acknowledges before fsync"),
            Self::Nats => ("nats", false, "core NATS: keeps nothing, acknowledges nothing"),
            Self::Mosquitto => ("mosquitto", false, "MQTT 3.1.1, QoS 1, no persistence"),
            Self::Prosody => ("prosody", false, "XMPP room with archive; files are written, never synced"),
            Self::RedisAlways => ("redis-always", true, "stream (XADD, XREAD BLOCK), appendfsync always"),
            Self::RedisPubsub => ("redis-pubsub", false, "publish-subscribe: keeps nothing"),
            Self::MqttQuic => ("mqtt-quic", false, "MQTT 5 over QUIC, a stream per topic, QoS 1, kept in memory"),
            Self::Fdatasync => ("fdatasync", true, "no server: a message's bytes written to a file and synced"),
        };
        Facts { name, durable, says }
    }

    /// What its server says that it is.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Quip | Self::Bare | Self::Fdatasync => concat!("quip ", env!("CARGO_PKG_VERSION")).to_owned(),
            Self::JetstreamAlways | Self::Jetstream | Self::Nats => server::version(nats::PROGRAM, "--version"),
            Self::Mosquitto => server::version(mqtt::PROGRAM, "-h"),
            Self::Prosody => server::version("prosodyctl", "about"),
            Self::RedisAlways | Self::RedisPubsub => server::version(redis::PROGRAM, "--version"),
            Self::MqttQuic => server::version(mqtt_quic::PROGRAM, "--version"),
        }
    }

    /// One open-loop run of one pair against a server of its own; with `pinned`, the server has one processor
    /// and the generator another.
    pub(crate) fn measure(self, pace: &Pace, options: &Options, pinned: bool) -> Result<Sample> {
        let _pins = Pins::new(pinned)?;
        let runtime = bare::runtime()?;
        match self {
            Self::Fdatasync => {
                let interval = Duration::from_secs_f64(1.0 / pace.rate);
                commit::measure_file(&options.dir, 1, Duration::from_secs_f64(pace.seconds), Some(interval))
            }
            Self::Quip => {
                let relay = placed(pinned, || Relay::start(options))?;
                runtime.block_on(latency::run_once(&relay, pace, 1))
            }
            Self::Bare => {
                let server = placed(pinned, bare::Server::start)?;
                runtime.block_on(bare::run_pairs(&server, pace, 1))
            }
            Self::JetstreamAlways | Self::Jetstream => {
                let keep = if self == Self::Jetstream { Keep::Later } else { Keep::Synced };
                let server = placed(pinned, || nats::start(keep, options))?;
                runtime.block_on(async { run(pace, &server, nats::stream(&server).await?).await })
            }
            Self::Nats => {
                let server = placed(pinned, || nats::start(Keep::Nothing, options))?;
                runtime.block_on(async { run(pace, &server, nats::core(&server).await?).await })
            }
            Self::Mosquitto => {
                let server = placed(pinned, || mqtt::start(options))?;
                runtime.block_on(async { run(pace, &server, mqtt::pair(&server).await?).await })
            }
            Self::Prosody => {
                let server = placed(pinned, || xmpp::start(options))?;
                runtime.block_on(async { run(pace, &server, xmpp::pair(&server).await?).await })
            }
            Self::RedisAlways => {
                let server = placed(pinned, || redis::start(true, options))?;
                runtime.block_on(async { run(pace, &server, redis::stream(&server).await?).await })
            }
            Self::RedisPubsub => {
                let server = placed(pinned, || redis::start(false, options))?;
                runtime.block_on(async { run(pace, &server, redis::channel(&server).await?).await })
            }
            Self::MqttQuic => {
                let server = placed(pinned, || mqtt_quic::start(options))?;
                runtime.block_on(async { run(pace, &server, mqtt_quic::pair(&server).await?).await })
            }
        }
    }
}

/// Where messages come out.
trait Inlet: Send {
    /// The next message.
    fn receive(&mut self) -> impl Future<Output = Result<Bytes>> + Send;
}

async fn run(pace: &Pace, server: &Server, (outlet, inlet): (impl Outlet, impl Inlet)) -> Result<Sample> {
    let plan = Plan::lane(pace, Instant::now() + SETTLE, 0, 1);
    let usage = Usage::between(plan.measured_from(), plan.end(), server.pid());
    let (lane, usage) = tokio::try_join!(run_pair(plan, outlet, inlet), usage)?;
    let lanes = [lane];
    let mut sample = load::summarise(pace, &lanes);
    usage.add_to(&mut sample, load::measured(&lanes));
    Ok(sample)
}

async fn run_pair(plan: Plan, mut outlet: impl Outlet, mut inlet: impl Inlet) -> Result<(Plan, Sent, Received)> {
    let (sent, received) = tokio::try_join!(load::drive(plan, &mut outlet), receive(plan, &mut inlet))?;
    Ok((plan, sent, received))
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

/// Starts a server on its processor: what it inherits from this thread.
fn placed<T>(pinned: bool, start: impl FnOnce() -> Result<T>) -> Result<T> {
    if !pinned {
        return start();
    }
    sched_setaffinity(None, &only(SERVER_CPU))?;
    let server = start();
    sched_setaffinity(None, &only(GENERATOR_CPU))?;
    server
}

fn only(cpu: usize) -> CpuSet {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    cpus
}

/// Gives this thread its processors back.
struct Pins(CpuSet);

impl Pins {
    fn new(pinned: bool) -> Result<Self> {
        let all = rustix::thread::sched_getaffinity(None)?;
        if pinned {
            anyhow::ensure!(
                all.is_set(SERVER_CPU) && all.is_set(GENERATOR_CPU),
                "pinning needs processors {SERVER_CPU} and {GENERATOR_CPU}: run with --unpinned"
            );
        }
        Ok(Self(all))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // They were its own before.
        let _ = sched_setaffinity(None, &self.0);
    }
}
