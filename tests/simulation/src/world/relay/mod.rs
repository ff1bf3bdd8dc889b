//! The relay, with what survives its death: the log, the last checkpoint, its identity and its clock.

mod config;
mod order;
mod parts;
mod volatile;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use quip_core::{Action, Authority, By, Command};
use quip_order::{Clock, EmbeddedConfig, Faults, MemoryLog, Order, Submit, embedded_in_memory, faulty, steady_clock};
use quip_protocol::ConversationId;
use quip_relay::{
    auth::Authenticator,
    config::Config,
    hub::{Mailbox, Phase, Setup},
    net::{self as relay_net, Parts},
    shutdown::shut_down,
};
use quip_store::{MemoryDisk, Sequencer, SequencerConfig, Store};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::{
    order::{Tap, Waking},
    parts::{Pace, Reads, sequence},
    volatile::Volatile,
};
use super::{
    chaos::RELAY,
    issuer::BEGIN,
    shared::{Shared, lock},
};
use crate::{
    crypto,
    history::Entry,
    host::Host,
    identity::Identity,
    net::{Net, Quality},
    plant::Plant,
};

/// The relay's host and what is on its disk.
pub(super) struct Relay {
    net: Net,
    shared: Arc<Shared>,
    identity: Identity,
    config: Config,
    log: MemoryLog,
    disk: MemoryDisk,
    /// Instead of the log, where that is to lose what it has called durable.
    volatile: Option<Volatile>,
    /// Where it is, one of the addresses that clients know.
    address: SocketAddr,
    /// How far its wall clock is off, in milliseconds.
    clock: Arc<AtomicI64>,
    /// What its order does wrong.
    faults: Option<Faults>,
    rng: StdRng,
    running: Option<Running>,
    /// When it is started again, if it is not running or about to stop.
    pub(super) again: Instant,
}

struct Running {
    host: Host,
    phase: watch::Sender<Phase>,
    parts: Arc<Parts>,
    stopping: bool,
}

impl Relay {
    /// A relay that has not started yet.
    pub(super) fn new(seed: u64, net: Net, shared: Arc<Shared>, identity: Identity) -> Self {
        net.add(RELAY, Quality::GOOD);
        let mut rng = StdRng::seed_from_u64(seed);
        let faults = rng.random::<bool>().then(Faults::default);
        let volatile = (shared.plant == Some(Plant::AckBeforeDurability)).then(Volatile::default);
        let (config, generation) = (config::draw(&mut rng, shared.issuer.as_ref()), rng.random_range(1..1 << 53));
        shared.begin_log(if volatile.is_some() { volatile::GENERATION } else { generation }, 0);
        Self {
            address: shared.relays[0],
            net,
            shared,
            identity,
            config,
            log: MemoryLog::new(generation),
            disk: MemoryDisk::default(),
            volatile,
            clock: Arc::default(),
            faults,
            rng,
            running: None,
            again: Instant::now(),
        }
    }

    /// Whether it serves.
    pub(super) fn is_up(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.stopping)
    }

    /// Starts it from what its disk has.
    pub(super) fn start(&mut self) {
        self.crash();
        let here = self.shared.relays.iter().filter(|address| address.ip() == RELAY.ip()).count();
        self.address = self.shared.relays[self.rng.random_range(0..here)];
        let host = Host::start(&self.net, RELAY, self.rng.random());
        let wake = Arc::new(Notify::new());
        // A computer that starts has asked for the time.
        self.turn_clock(0);
        let clock = self.clock();
        let (submit, order) = self.ends(&host, &wake, &clock);
        let generation = order.generation();
        let store = Store::open_in_memory(&self.disk, generation).expect("it follows this log");
        let view = store.view();
        let mailbox = Mailbox::new(self.config.limits.inbox_bytes);
        let config = SequencerConfig::default();
        let mut sequencer =
            Sequencer::start(store, order, vec![mailbox.sink()], config).expect("the log goes on there");
        sequencer.catch_up().expect("what was accepted is decided again");

        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let identity = relay_net::Credentials { certificate: &self.identity.certificate(), keys: &self.identity.keys };
        let (runtime, socket) = (Arc::new(host.clone()), host.bind(self.address.port()));
        let endpoint = relay_net::start_on(
            runtime,
            socket,
            Some(relay_net::Randomness { seed, ids: crypto::ids(self.rng.random()), crypto: crypto::provider() }),
            &self.config,
            identity,
        )
        .expect("a good identity");
        let setup = Setup {
            config: Arc::new(self.config.clone()),
            authenticator: Authenticator::open(&self.config.auth, "nowhere".as_ref()).expect("it needs no keys"),
            generation,
            clock,
            everyone_left: Notify::new(),
            last_seen_submitted: Notify::new(),
        };
        let reads = Reads::start(&host, view, self.config.store.reads_waiting, Pace::draw(&host));
        let parts = Arc::new(Parts { setup: Arc::new(setup), submit, readers: Arc::new(reads) });
        let (phase, phases) = watch::channel(Phase::Running);
        host.spawn(sequence(sequencer, wake, phase.clone(), host.clone(), Pace::draw(&host)));
        host.spawn(relay_net::run(parts.clone(), mailbox, endpoint, phases));
        self.shared.recorder.note(Entry::RelayStarted);
        self.running = Some(Running { host, phase, parts, stopping: false });
    }

    /// The two ends of its order.
    fn ends(&self, host: &Host, wake: &Arc<Notify>, clock: &Clock) -> (Arc<dyn Submit>, Box<dyn Order>) {
        let mut ends = match &self.volatile {
            Some(volatile) => volatile.ends(clock.clone()),
            None => {
                let limits = &self.config.limits;
                let limits = quip_order::Limits {
                    conversation_commands: limits.waiting_per_conversation,
                    conversation_bytes: limits.waiting_bytes_per_conversation,
                    total_bytes: limits.waiting_bytes,
                };
                let config = EmbeddedConfig { limits, clock: clock.clone(), ..EmbeddedConfig::default() };
                let (submit, order) = embedded_in_memory(self.log.clone(), config);
                (submit as Arc<dyn Submit>, order)
            }
        };
        if let Some(faults) = self.faults {
            let (submit, order) = faulty(ends, host.draw(u64::MAX), faults);
            ends = (submit as _, order);
        }
        let submit = Waking { inner: ends.0, wake: wake.clone() };
        (Arc::new(submit), Box::new(Tap { inner: ends.1, shared: self.shared.clone(), host: host.clone() }))
    }

    /// The clock of a process.
    fn clock(&self) -> Clock {
        let (turned, [on_the_wall, since_the_start]) =
            (self.clock.clone(), [(); 2].map(|()| self.shared.recorder.clone()));
        let wall = move || {
            let right = (BEGIN + on_the_wall.elapsed()).as_millis() as u64;
            right.saturating_add_signed(turned.load(Ordering::Relaxed))
        };
        match self.shared.plant {
            Some(Plant::ClockBelieved) => Arc::new(wall),
            _ => steady_clock(wall, move || since_the_start.elapsed()),
        }
    }

    /// Ends it in the middle of whatever it does.
    pub(super) fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.host.kill();
            if let Some(volatile) = &self.volatile {
                volatile.lose(self.rng.random_range(0..5));
            }
            self.shared.recorder.note(Entry::RelayCrashed);
        }
    }

    /// Ends it, and puts another log in the place of its own: one that begins as that did, as a backup does, or an empty one.
    pub(super) fn restore(&mut self) {
        self.crash();
        // What loses its log by itself keeps it otherwise.
        if self.volatile.is_none() {
            let generation = self.rng.random_range(1..1 << 53);
            let all = lock(&self.shared.logs).current().len();
            let kept = if self.rng.random_range(0..4) == 0 { 0 } else { self.rng.random_range(0..=all) };
            self.log = MemoryLog::restored(generation, self.shared.begin_log(generation, kept));
            self.disk = MemoryDisk::default();
        }
    }

    /// Gives up the oldest events of a conversation, as one who runs the relay may.
    pub(super) fn trim(&mut self, conversation: ConversationId) {
        let Some(running) = &self.running else { return };
        let logs = lock(&self.shared.logs);
        let Some(known) = logs.current().truth.conversations.get(&conversation) else { return };
        let first_kept = self.rng.random_range(1..=known.events.len() as u64 + 1);
        drop(logs);
        let (by, authority, action) = (By::Relay, Authority::default(), Action::Trim { first_kept });
        // A full queue loses it.
        _ = running.parts.submit.submit(Command { conversation, by, authority, action });
    }

    /// Asks it to stop, as a signal does.
    pub(super) fn stop(&mut self) {
        let Some(running) = self.running.as_mut().filter(|running| !running.stopping) else { return };
        running.stopping = true;
        let (phase, parts) = (running.phase.clone(), running.parts.clone());
        running.host.spawn(async move {
            shut_down(&parts, &phase, std::future::pending()).await;
        });
    }

    /// Its order does nothing wrong any more, which takes a restart.
    pub(super) fn heal(&mut self) {
        if self.faults.take().is_some() {
            self.crash();
        }
    }

    /// Turns the wall clock, so that it is off by some milliseconds.
    pub(super) fn turn_clock(&self, off: i64) {
        self.clock.store(off, Ordering::Relaxed);
    }

    /// Whether tokens expire by its clock.
    pub(super) fn judges_tokens(&self) -> bool {
        self.shared.issuer.is_some()
    }
}
