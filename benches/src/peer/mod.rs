//! What people would use instead: each peer's own server, and our generator speaking its protocol through a
//! well-kept client.
//!
//! The same senders and receivers, the same messages at the same intended times, TLS 1.3 except with Valkey, whose
//! build has none, and where a protocol acknowledges, as many unanswered at most as with Quip.

mod exchange;
mod mqtt;
mod mqtt_quic;
pub(crate) mod nats;
mod postgres;
mod redis;
mod server;
mod window;
mod xmpp;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_setaffinity};

use self::{exchange::Protocol, nats::Keep, server::Server};
pub(crate) use self::{
    exchange::{Audience, Paced, Work},
    server::Server as PeerServer,
};
use crate::{
    bare::{self, Library},
    commit,
    relay::Relay,
    report::{Options, Sample},
    scenario::{fanout, ingest, latency},
};

/// The processor of a server that is pinned, and that of the generator beside it.
const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// Something that carries messages from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Quip,
    Bare,
    BareS2n,
    JetstreamAlways,
    Jetstream,
    Nats,
    Mosquitto,
    #[value(alias = "ejabberd")]
    Prosody,
    RedisAlways,
    RedisPubsub,
    ValkeyAlwaysPlain,
    Postgres,
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
            Self::Quip => ("quip", true, "a conversation; synced before delivery"),
            Self::Bare => ("bare", false, "quinn forwarder: no protocol, no store; what the transport costs here"),
            Self::BareS2n => ("bare-s2n", false, "the same on s2n-quic instead of quinn; its clients are on quinn"),
            Self::JetstreamAlways => {
                ("jetstream-always", true, "NATS JetStream, one stream, file, R1, sync_interval always")
            }
            Self::Jetstream => ("jetstream", false, "the same with the default sync: acknowledges before fsync"),
            Self::Nats => ("nats", false, "core NATS: keeps nothing, acknowledges nothing"),
            Self::Mosquitto => ("mosquitto", false, "MQTT 3.1.1, QoS 1, no persistence"),
            Self::Prosody => ("prosody", false, "XMPP room with archive; files are written, never synced"),
            Self::RedisAlways => ("redis-always", true, "stream (XADD, XREAD BLOCK), appendfsync always"),
            Self::RedisPubsub => ("redis-pubsub", false, "publish-subscribe: keeps nothing"),
            Self::ValkeyAlwaysPlain => {
                ("valkey-always-plain", true, "a stream as in redis-always; plain TCP: this build has no TLS")
            }
            Self::Postgres => (
                "postgres",
                true,
                "INSERT and NOTIFY in one transaction, fsync, synchronous_commit; what a sender has at once is one transaction",
            ),
            Self::MqttQuic => ("mqtt-quic", false, "MQTT 5 over QUIC, a stream per topic, QoS 1, kept in memory"),
            Self::Fdatasync => ("fdatasync", true, "no server: a message's bytes written to a file and synced"),
        };
        Facts { name, durable, says }
    }

    /// What its server says that it is.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Quip | Self::Bare | Self::BareS2n | Self::Fdatasync => {
                concat!("quip ", env!("CARGO_PKG_VERSION")).to_owned()
            }
            Self::JetstreamAlways | Self::Jetstream | Self::Nats => server::version(nats::PROGRAM, "--version"),
            Self::Mosquitto => server::version(mqtt::PROGRAM, "-h"),
            Self::Prosody => server::version("prosodyctl", "about"),
            Self::RedisAlways | Self::RedisPubsub => server::version(redis::PROGRAM, "--version"),
            Self::ValkeyAlwaysPlain => server::version(redis::VALKEY, "--version"),
            Self::Postgres => server::version(postgres::PROGRAM, "--version"),
            Self::MqttQuic => server::version(mqtt_quic::PROGRAM, "--version"),
        }
    }

    /// One run against a server of its own; with `pinned`, the server has one processor and the generator another.
    pub(crate) fn measure(self, work: &Work, options: &Options, pinned: bool) -> Result<Sample> {
        let _pins = Pins::new(pinned)?;
        match self {
            Self::Quip => {
                let relay = placed(pinned, || Relay::start_with(options, &settings(work)))?;
                bare::runtime()?.block_on(async {
                    match work {
                        Work::Latency(pace) => latency::run_once(&relay, pace, 1).await,
                        Work::Ingest(load) => ingest::run_once(&relay, load).await,
                        Work::Fanout(audience) => fanout::run_once(&relay, &audience.pace, audience.members).await,
                    }
                })
            }
            Self::Bare => forward(work, pinned, Library::Quinn),
            Self::BareS2n => forward(work, pinned, Library::S2n),
            Self::Fdatasync => placed(pinned, || sync_file(work, options)),
            Self::JetstreamAlways => drive::<nats::Stream>(work, pinned, || nats::start(Keep::Synced, options)),
            Self::Jetstream => drive::<nats::Stream>(work, pinned, || nats::start(Keep::Later, options)),
            Self::Nats => drive::<nats::Core>(work, pinned, || nats::start(Keep::Nothing, options)),
            Self::Mosquitto => drive::<mqtt::Mqtt>(work, pinned, || mqtt::start(options)),
            Self::Prosody => drive::<xmpp::Room>(work, pinned, || xmpp::start(options)),
            Self::RedisAlways => drive::<redis::Stream>(work, pinned, || redis::start(true, options)),
            Self::RedisPubsub => drive::<redis::Channel>(work, pinned, || redis::start(false, options)),
            Self::ValkeyAlwaysPlain => drive::<redis::Stream>(work, pinned, || redis::start_valkey(options)),
            Self::Postgres => drive::<postgres::Table>(work, pinned, || postgres::start(options)),
            Self::MqttQuic => drive::<mqtt_quic::Mqtt>(work, pinned, || mqtt_quic::start(options)),
        }
    }
}

fn forward(work: &Work, pinned: bool, library: Library) -> Result<Sample> {
    let server = placed(pinned, || bare::Server::start_with(library))?;
    bare::runtime()?.block_on(async {
        match work {
            Work::Latency(pace) => bare::run_pairs(&server, pace, 1).await,
            Work::Ingest(load) => bare::run_ingest(&server, load).await,
            Work::Fanout(audience) => bare::run_fanout(&server, &audience.pace, audience.members).await,
        }
    })
}

fn drive<P: Protocol>(work: &Work, pinned: bool, start: impl FnOnce() -> Result<Server>) -> Result<Sample> {
    let server = placed(pinned, start)?;
    bare::runtime()?.block_on(exchange::run::<P>(work, &server))
}

/// The relay's configuration beside its defaults.
fn settings(work: &Work) -> Vec<String> {
    match work {
        Work::Latency(_) | Work::Ingest(_) => Vec::new(),
        Work::Fanout(_) => vec![fanout::SETTINGS.to_owned()],
    }
}

/// One message after the other: at the pace of the load, or as fast as the disk is.
fn sync_file(work: &Work, options: &Options) -> Result<Sample> {
    let (interval, seconds) = match work {
        Work::Latency(pace) => (Some(Duration::from_secs_f64(1.0 / pace.rate)), pace.seconds),
        Work::Ingest(load) => (None, load.seconds),
        Work::Fanout(_) => bail!("a file has no receivers"),
    };
    commit::measure_file(&options.dir, 1, Duration::from_secs_f64(seconds), interval)
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
