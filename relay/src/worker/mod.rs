//! A worker: one thread that owns an endpoint, its connections, their streams and the followers on them.
//!
//! It shares nothing with other workers and waits for nothing but the network: commands go to the
//! order, reads to the reader threads, and both answer through its [`Mailbox`].
//!
//! One turn of [`Worker::run`] takes what arrived, what was committed or read, what became readable or
//! writable, and a share of the followers that are behind; then everything else on the thread has its turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quip_core::Timestamp;
use quip_order::Submit;
use quip_protocol::{ConversationId, DeviceId, UserId};
use quip_store::{Readers, Sink};
use slotmap::SlotMap;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    auth::Authenticator,
    config::{Config, Limits},
    presence::{Ledger, LedgerConfig, Roster, RosterConfig},
};

mod commands;
mod connection;
mod conversation;
pub mod endpoint;
mod fanout;
mod follower;
mod inbox;
mod intake;
mod live_first;
mod news;
mod opening;
mod rate;
mod reads;
mod ready;
mod requests;
mod ring;
mod round;
mod seen;
mod session;
mod signals;
mod stream;
mod sweep;
mod turns;
mod warmth;

use connection::Connection;
use conversation::Conversation;
use endpoint::{Arrival, Arrivals};
use inbox::{Inbox, InboxSink, Mail};
use news::{News, NewsConfig};
use rate::UserRates;
use ready::{Ready, Side, StreamWaker};
use round::Round;
use stream::Stream;

slotmap::new_key_type! {
    struct ConnectionKey;
    struct StreamKey;
}

/// What all workers of a relay share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Decides tokens.
    pub authenticator: Authenticator,
    /// Takes commands.
    pub submit: Arc<dyn Submit>,
    /// Read the store.
    pub readers: Readers,
    /// Identity of the log.
    pub generation: u64,
    /// Notified when, at the end, every user's last-seen time was submitted.
    pub all_seen: Notify,
}

/// What a worker is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Serve.
    Running,
    /// Take no more commands; what was taken is still answered.
    Draining,
    /// Say goodbye and end.
    Stopping,
}

/// Owns connections, streams and followers; see the module.
pub struct Worker {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    ready: Arc<Ready>,
    inbox: Arc<Inbox>,
    arrivals: mpsc::Receiver<Arrival>,
    connections: SlotMap<ConnectionKey, Connection>,
    numbers: HashMap<u64, ConnectionKey>,
    streams: SlotMap<StreamKey, Stream>,
    conversations: HashMap<ConversationId, Conversation>,
    /// Which stream carries a device's commands in a conversation.
    senders: HashMap<SenderKey, StreamKey>,
    roster: Roster<ConnectionKey>,
    ledger: Ledger,
    /// How often the sequencer's memory has turned over, as far as is known here.
    turnovers: u64,
    /// How fast each user may send.
    rates: UserRates,
    /// New messages of groups, for those who do not have them open.
    news: News,
    /// Conversations with followers that may be behind.
    behind: VecDeque<ConversationId>,
    /// Streams with more to read than one turn takes.
    unread: Vec<StreamKey>,
    /// Streams with a read mark to submit.
    marked: Vec<StreamKey>,
    /// Streams that wait for outcomes, each once, and when they were last looked at.
    unanswered: VecDeque<(Instant, StreamKey)>,
    /// Streams whose cursor is ahead of this relay.
    ahead: Vec<StreamKey>,
    ring_bytes: usize,
    /// Bytes that each connection may have in flight.
    send_window: u64,
    phase: Phase,
    now: Instant,
    next_tick: Instant,
    next_sweep: Instant,
    /// Connections that are still to be looked at before the next sweep.
    unswept: Round<ConnectionKey>,
}

type SenderKey = (ConversationId, UserId, DeviceId);

/// Arrivals and messages taken in one turn.
const TAKEN_A_TURN: usize = 256;
/// Time between looks at deadlines.
const TICK: Duration = Duration::from_millis(100);
/// Turns before the end, however much there is still to do.
const LAST_TURNS: usize = 10_000;
/// Time for the last answers to leave.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Users who left whose last-seen time may wait to be written.
const GONE: usize = 100_000;

/// Where the sequencer and the readers leave what is for a worker; made before the worker.
pub struct Mailbox {
    wake: Arc<Notify>,
    inbox: Arc<Inbox>,
}

impl Mailbox {
    /// A mailbox that keeps about `bytes` of event frames.
    pub fn new(bytes: usize) -> Self {
        let wake = Arc::new(Notify::new());
        Self { inbox: Inbox::new(Arc::clone(&wake), bytes), wake }
    }

    /// The end that the sequencer gets.
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(InboxSink(Arc::clone(&self.inbox)))
    }
}

impl Worker {
    /// Serves `endpoint` until told to stop. Runs on a current-thread runtime of its own.
    pub async fn run(
        shared: Arc<Shared>,
        mailbox: Mailbox,
        endpoint: quinn::Endpoint,
        mut phase: watch::Receiver<Phase>,
    ) {
        let (arrivals, queue) = Arrivals::new(Arc::clone(&mailbox.wake));
        let accept = tokio::spawn(endpoint::accept(endpoint.clone(), arrivals, shared.config.limits.clone()));
        let mut worker = Self::new(shared, mailbox, queue);
        let wake = Arc::clone(&worker.wake);
        while worker.phase != Phase::Stopping {
            if worker.turn() {
                tokio::task::yield_now().await;
            } else {
                let tick = tokio::time::sleep_until(worker.next_tick.into());
                tokio::select! {
                    () = wake.notified() => {}
                    () = tick => {}
                    _ = phase.changed() => {}
                }
            }
            if phase.has_changed().is_ok_and(|changed| changed) || worker.phase != *phase.borrow() {
                let next = *phase.borrow_and_update();
                worker.enter(next);
            }
        }
        accept.abort();
        worker.flush().await;
        endpoint.close(stream::varint(quip_protocol::Code::SHUTDOWN), b"the relay is going down");
        // Whoever is still sending learns of the end from this packet; a client that is gone must not hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    }

    /// Hands the last answers to QUIC and lets it send them. Who misses them asks again elsewhere.
    async fn flush(&mut self) {
        for _ in 0..LAST_TURNS {
            if !self.turn() {
                break;
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(LAST_WORDS).await;
    }

    fn new(shared: Arc<Shared>, mailbox: Mailbox, arrivals: mpsc::Receiver<Arrival>) -> Self {
        let roster = RosterConfig { offline_after: shared.config.presence.offline_after };
        let ledger = LedgerConfig { every: shared.config.presence.last_seen_every, gone: GONE };
        let now = Instant::now();
        let send_window = shared.config.limits.send_window_bytes as u64;
        let next_sweep = now + shared.config.presence.sweep;
        let rates = UserRates::new(shared.config.limits.message_rate());
        let news = News::new(news_config(&shared.config.limits));
        Self {
            shared,
            ready: Ready::new(Arc::clone(&mailbox.wake)),
            wake: mailbox.wake,
            inbox: mailbox.inbox,
            arrivals,
            connections: SlotMap::with_key(),
            numbers: HashMap::new(),
            streams: SlotMap::with_key(),
            conversations: HashMap::new(),
            senders: HashMap::new(),
            roster: Roster::new(roster),
            ledger: Ledger::new(ledger),
            turnovers: 0,
            rates,
            news,
            behind: VecDeque::new(),
            unread: Vec::new(),
            marked: Vec::new(),
            unanswered: VecDeque::new(),
            ahead: Vec::new(),
            ring_bytes: 0,
            send_window,
            phase: Phase::Running,
            now,
            next_tick: now + TICK,
            next_sweep,
            unswept: Round::new(),
        }
    }

    /// Does what there is to do, in bounded pieces. True when there is more.
    fn turn(&mut self) -> bool {
        self.now = Instant::now();
        let arrived = self.take_arrivals();
        let mail = self.take_mail();
        let ready = self.take_ready();
        let behind = self.go_round();
        if self.now >= self.next_tick {
            self.tick();
        }
        if self.phase == Phase::Draining {
            self.write_all_seen();
        }
        arrived || mail || ready || behind
    }

    fn take_arrivals(&mut self) -> bool {
        for _ in 0..TAKEN_A_TURN {
            let Ok(arrival) = self.arrivals.try_recv() else { return false };
            self.arrived(arrival);
        }
        true
    }

    fn take_mail(&mut self) -> bool {
        for _ in 0..TAKEN_A_TURN {
            match self.inbox.take() {
                None => return false,
                Some(Mail::Committed(batch)) => self.committed(&batch),
                Some(Mail::Read(reply)) => self.read(reply),
                Some(Mail::Seen(commands)) => _ = self.submit_seen(commands),
                Some(Mail::News(pages)) => self.tell_news(pages),
            }
        }
        true
    }

    fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.unread).into_iter().for_each(|key| self.readable(key));
        let mut woken: Vec<Arc<StreamWaker>> = Vec::new();
        self.ready.take(&mut woken);
        for waker in &woken {
            match waker.side {
                Side::Read => self.readable(waker.key),
                Side::Write => self.writable(waker.key),
            }
        }
        !self.unread.is_empty()
    }
}

fn news_config(limits: &Limits) -> NewsConfig {
    let members = limits.changed_members_per_second;
    NewsConfig {
        interval: limits.changed_interval,
        members_a_tick: (members as f64 * TICK.as_secs_f64()).ceil() as usize,
        // Each costs at least one look: more of them would wait for longer than a second.
        groups: members,
    }
}

/// The clock, in milliseconds since the Unix epoch.
fn unix_time() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
