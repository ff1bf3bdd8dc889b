//! Starts the parts of a relay, runs them, and stops them in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::SystemTime,
};

use quip_jetstream::jetstream;
use quip_order::{
    Clock, EmbeddedConfig, Limits as OrderLimits, Order, OrderError, Submit, Watchdog, embedded, system_clock,
};
use quip_store::{OpenError, Readers, ReadersConfig, Sequencer, SequencerConfig, SequencerError, Store, StoreConfig};
use thiserror::Error;
use tokio::sync::{Notify, watch};

use crate::{
    auth::{Authenticator, KeyError},
    config::Config,
    hub::{Mailbox, Phase, Setup},
    identity::{DataFolder, IdentityError},
    logging,
    net::{self, EndpointError, Parts},
    shutdown::shut_down,
    signals::{self, Signals},
};

/// Why a relay did not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The data folder, certificate or keys could not be used.
    #[error(transparent)]
    Credentials(#[from] IdentityError),
    /// The keys that verify tokens could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be opened.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The network failed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A thread or runtime could not be started.
    #[error("could not start a thread or a runtime: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed. Nothing that was accepted is lost.
    #[error("the relay stops: {0}")]
    Sequencer(#[from] SequencerError),
    /// A thread of the relay panicked.
    #[error("the relay stops because its {0} thread failed; the log says why")]
    Panicked(&'static str),
}

/// Where a relay that has started can be reached.
#[derive(Debug, Clone)]
pub struct Started {
    /// The UDP address.
    pub listen: SocketAddr,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The data folder.
    pub data: PathBuf,
}

/// Runs a relay until SIGTERM or SIGINT, or until the store fails.
///
/// # Errors
/// If it cannot start, or its store fails.
pub fn serve(config: Config, started: impl FnOnce(&Started)) -> Result<(), ServeError> {
    let cluster = config.cluster.clone();
    serve_on(config, started, |log, config| match cluster {
        Some(cluster) => {
            tracing::warn!(
                "[cluster] is experimental: presence is not shared between relays, and the stream grows for ever"
            );
            let (submit, order) = jetstream(cluster, config.limits, config.clock)?;
            Ok((submit as _, order))
        }
        None => {
            let (submit, order) = embedded(log, config)?;
            Ok((submit as _, order))
        }
    })
}

/// The two ends of an order.
pub type Ends = (Arc<dyn Submit>, Box<dyn Order>);

/// As [`serve`], on the order that `order` opens, which gets the folder of the log.
///
/// # Errors
/// As [`serve`].
pub fn serve_on(
    config: Config,
    started: impl FnOnce(&Started),
    order: impl FnOnce(&Path, EmbeddedConfig) -> Result<Ends, OrderError>,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A start may take a while, and a hangup is to end none.
    let hangup = {
        let _inside = runtime.enter();
        signals::hangup()?
    };
    let folder = DataFolder::open(&config.data)?;
    folder.is_whole()?;
    let certificate = folder.certificate(&config.tls)?;
    certificate.warnings(SystemTime::now()).iter().for_each(|warning| tracing::warn!("{warning}"));
    let keys = folder.node_keys()?;
    let authenticator = Authenticator::open(&config.auth, folder.path())?;
    let socket = net::bind(&config)?;
    let watchdog = watchdog(&config)?;
    let clock = system_clock();
    let (submit, order) = order(&folder.log(), order_config(&config, &watchdog, &clock))?;
    let store = Store::open(&folder.store(), store_config(&config), order.generation())?;

    let view = store.view();
    let mailbox = Mailbox::new(config.limits.inbox_bytes);
    let mut sequencer = Sequencer::start(store, order, vec![mailbox.sink()], sequencer_config(&config, &watchdog))?;
    let commands = sequencer.catch_up()?;
    if commands > 0 {
        tracing::info!(commands, "replayed what was accepted since the store's last checkpoint");
    }
    let readers = ReadersConfig { threads: config.store.readers, waiting: config.store.reads_waiting };
    let generation = view.generation();
    let readers = Readers::start(view, readers)?;
    let _inside = runtime.enter();
    let endpoint = net::start(socket, &config, net::Credentials { certificate: &certificate, keys: &keys })?;
    let listen = endpoint.local_addr()?;
    // Before the address is announced: from then on a signal may come.
    let signals = Signals::new(hangup)?;
    folder.write_endpoint(listen)?;

    let (phase, phases) = watch::channel(Phase::Running);
    let sequencing = spawn_sequencer(sequencer, phase.clone())?;
    let setup = Setup {
        config: Arc::new(config),
        authenticator,
        generation,
        clock,
        everyone_left: Notify::new(),
        last_seen_submitted: Notify::new(),
    };
    let parts = Arc::new(Parts { setup: Arc::new(setup), submit, readers: Arc::new(readers) });
    started(&Started { listen, fingerprint: certificate.fingerprint(), data: folder.path().to_owned() });
    let served = runtime.block_on(async {
        // Spawned, so that it takes turns with the other tasks. The future of `block_on` itself is polled more often: a large
        // room would be written to faster than the socket is read.
        let mut serving = tokio::spawn(net::run(Arc::clone(&parts), mailbox, endpoint, phases));
        tokio::select! {
            served = &mut serving => served,
            () = go_down(&parts, &phase, signals) => serving.await,
        }
    });
    served.map_err(|_| ServeError::Panicked("network"))?;
    sequencing.join().map_err(|_| ServeError::Panicked("sequencer"))??;
    Ok(())
}

/// Waits for the end and shuts down. A second signal hurries.
async fn go_down(parts: &Parts, phase: &watch::Sender<Phase>, mut signals: Signals) {
    let mut phases = phase.subscribe();
    tokio::select! {
        signal = signals.end() => {
            let within = parts.setup.config.limits.go_away_within;
            tracing::info!("{signal}: clients have {within:?} to connect elsewhere; a second signal ends the relay at once");
        }
        // The sequencer has ended by itself.
        _ = phases.wait_for(|phase| *phase == Phase::Stopping) => return,
    }
    let hurried = async {
        let signal = signals.end().await;
        tracing::info!("{signal}: answering queued commands, then shutting down");
    };
    shut_down(parts, phase, hurried).await;
}

/// The sequencer's thread. When it ends, the network thread ends too, because nothing can be accepted any more.
fn spawn_sequencer(
    sequencer: Sequencer,
    phase: watch::Sender<Phase>,
) -> Result<JoinHandle<Result<(), SequencerError>>, std::io::Error> {
    let stops = StopsNetwork(phase);
    std::thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
        let _stops = stops;
        let result = sequencer.run();
        if let Err(error) = &result {
            tracing::error!(%error, "the sequencer failed; the relay stops");
        }
        result
    })
}

/// Ends the network thread when dropped, also by a panic.
struct StopsNetwork(watch::Sender<Phase>);

impl Drop for StopsNetwork {
    fn drop(&mut self) {
        self.0.send_replace(Phase::Stopping);
    }
}

pub(crate) fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        cache_bytes: config.store.cache_bytes as u64,
        memtable_bytes: config.store.memtable_bytes as u64,
        worker_threads: config.store.worker_threads,
    }
}

fn order_config(config: &Config, watchdog: &Watchdog, clock: &Clock) -> EmbeddedConfig {
    let limits = OrderLimits {
        conversation_commands: config.limits.waiting_per_conversation,
        conversation_bytes: config.limits.waiting_bytes_per_conversation,
        total_bytes: config.limits.waiting_bytes,
    };
    let log_bytes = config.store.log_bytes as u64;
    EmbeddedConfig { limits, log_bytes, clock: clock.clone(), watch: watchdog.watch() }
}

fn sequencer_config(config: &Config, watchdog: &Watchdog) -> SequencerConfig {
    let cached_records = config.store.cached_records;
    SequencerConfig { cached_records, watch: watchdog.watch(), ..SequencerConfig::default() }
}

/// A commit that hangs (the store sleeps for ever on a full disk) ends the process. Clients learn that the outcome of
/// unanswered commands is unknown, and nothing accepted is lost.
fn watchdog(config: &Config) -> std::io::Result<Watchdog> {
    let timeout = config.store.commit_timeout;
    let on_stuck = move || {
        tracing::error!("a commit takes longer than {timeout:?}: the disk is full, gone or stuck; the relay stops");
        logging::flush();
        std::process::exit(EXIT_STUCK);
    };
    Watchdog::start(timeout, Box::new(on_stuck))
}

/// Exit status after a commit that hung.
pub const EXIT_STUCK: i32 = 74;
