//! IO: one task for the connection, one for each open conversation.
//!
//! * [`dial`] makes a connection and says Hello ([`tls`], [`transport`]);
//! * [`session`] runs it: the session stream, tokens, and moving to another relay;
//! * [`driver`] runs one session after another, reconnecting with pauses ([`backoff`]);
//! * [`stream`] runs one conversation over the current connection, which [`links`] has;
//! * [`allowance`] is what all of them together may send;
//! * [`ask`] makes requests; [`buffer`] splits streams into frames.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::{Connection, ConnectionError, VarInt};
use quip_protocol::{Code, ConversationId, DecodeError, FrameError, cost, limit};
use tokio::{sync::mpsc, time::Instant};

use crate::{ClientEvent, ClosedReason, ConnectionLost, Platform, core::Violation, keeper::Keeper, lock::lock};

mod allowance;
mod ask;
mod backoff;
mod buffer;
mod dial;
mod driver;
mod links;
mod outgoing;
mod session;
mod stream;
mod tls;
mod transport;

use allowance::{Allowance, Rate};
pub(crate) use ask::ask;
pub(crate) use dial::{Dialer, Session};
pub(crate) use driver::Driver;
pub(crate) use links::{LinkState, Links};
pub(crate) use session::{Base, Order};
pub(crate) use stream::{Shared, run};

/// The state shared by the tasks and handles of a client.
pub(crate) struct Hub {
    /// The connection, for conversations and requests.
    pub(crate) links: Arc<Links>,
    pub(crate) keeper: Keeper,
    pub(crate) platform: Arc<dyn Platform>,
    conversations: Mutex<BTreeMap<ConversationId, Arc<Shared>>>,
    subscribers: Mutex<Vec<Subscriber>>,
}

/// A connection past `Welcome`.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) limits: Limits,
    allowance: Allowance,
    /// The conversation of each channel, for signals.
    channels: Mutex<BTreeMap<u64, ConversationId>>,
    signals: Mutex<Rate>,
}

/// The parts of `Welcome` that conversations need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Generation of the log.
    pub(crate) generation: u64,
    /// Maximum bytes of a message's content.
    pub(crate) message: usize,
    /// Maximum unanswered commands in a conversation.
    pub(crate) unanswered: usize,
}

struct Subscriber {
    outbox: mpsc::Sender<ClientEvent>,
    missed: u64,
}

/// A protocol violation by the relay.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Broken {
    code: Code,
    text: String,
}

impl Hub {
    pub(crate) fn new(keeper: Keeper, link: LinkState, platform: Arc<dyn Platform>) -> Self {
        Self {
            links: Links::new(link),
            keeper,
            platform,
            conversations: Mutex::default(),
            subscribers: Mutex::default(),
        }
    }

    /// Subscribes to events.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<ClientEvent> {
        let (outbox, inbox) = mpsc::channel(SUBSCRIBER);
        let mut subscribers = lock(&self.subscribers);
        if !matches!(self.links.now(), LinkState::Closed(_)) {
            subscribers.push(Subscriber { outbox, missed: 0 });
        }
        inbox
    }

    /// Maximum bytes of a message's content, as far as it is known.
    pub(crate) fn message_limit(&self) -> usize {
        match self.links.now() {
            LinkState::Up(link) => link.limits.message,
            LinkState::Down | LinkState::Closed(_) => limit::MESSAGE,
        }
    }

    /// Sends an event to every subscriber.
    pub(crate) fn tell(&self, event: &ClientEvent) {
        lock(&self.subscribers).retain_mut(|subscriber| subscriber.tell(event));
    }

    /// Ends all conversations and subscriptions, and lets go of the state store, though handles may live on.
    pub(crate) fn close(&self, reason: ClosedReason) {
        self.links.set(LinkState::Closed(reason.clone()));
        for conversation in self.conversations() {
            conversation.close(reason.clone());
        }
        lock(&self.subscribers).clear();
        self.keeper.close();
    }

    /// Registers a conversation.
    ///
    /// # Errors
    /// The conversation already registered under this id.
    pub(crate) fn register(
        &self,
        id: ConversationId,
        make: impl FnOnce() -> Arc<Shared>,
    ) -> Result<Arc<Shared>, Arc<Shared>> {
        match lock(&self.conversations).entry(id) {
            Entry::Occupied(present) => Err(present.get().clone()),
            Entry::Vacant(place) => Ok(place.insert(make()).clone()),
        }
    }

    /// The conversation with this id, if it has a task.
    pub(crate) fn conversation(&self, id: ConversationId) -> Option<Arc<Shared>> {
        lock(&self.conversations).get(&id).cloned()
    }

    pub(crate) fn unregister(&self, id: ConversationId) {
        lock(&self.conversations).remove(&id);
    }

    /// Every conversation that still has a task.
    pub(crate) fn conversations(&self) -> Vec<Arc<Shared>> {
        lock(&self.conversations).values().cloned().collect()
    }
}

impl Link {
    fn new(connection: Connection, limits: Limits, allowance: Allowance) -> Self {
        let signals = Mutex::new(Rate::new(SIGNALS, SIGNALS, Instant::now()));
        Self { connection, limits, allowance, channels: Mutex::default(), signals }
    }

    /// Takes a turn to send a signal.
    ///
    /// # Errors
    /// How long it is until then.
    pub(crate) fn signal_turn(&self) -> Result<(), Duration> {
        let now = Instant::now();
        lock(&self.signals).take(cost::COMMAND, now).map_err(|at| at.duration_since(now))
    }

    fn name(&self, channel: u64, id: Option<ConversationId>) {
        let mut channels = lock(&self.channels);
        match id {
            Some(id) => channels.insert(channel, id),
            None => channels.remove(&channel),
        };
    }

    fn conversation(&self, channel: u64) -> Option<ConversationId> {
        lock(&self.channels).get(&channel).copied()
    }

    /// The channel of an open conversation.
    pub(crate) fn channel(&self, id: ConversationId) -> Option<u64> {
        lock(&self.channels).iter().find(|(_, of)| **of == id).map(|(channel, _)| *channel)
    }

    fn close(&self, code: Code, text: &str) {
        self.connection.close(VarInt::from_u64(code.0).unwrap_or(VarInt::MAX), text.as_bytes());
    }

    fn close_broken(&self, broken: &Broken) {
        tracing::warn!(error = %broken, "protocol violation by the relay");
        self.close(broken.code, &broken.text);
    }
}

impl Subscriber {
    /// Sends an event; returns false if the subscription was dropped.
    fn tell(&mut self, event: &ClientEvent) -> bool {
        if self.missed > 0 && self.outbox.try_send(ClientEvent::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
        let full =
            self.missed > 0 || matches!(self.outbox.try_send(event.clone()), Err(mpsc::error::TrySendError::Full(_)));
        self.missed += u64::from(full);
        !self.outbox.is_closed()
    }
}

impl Broken {
    fn unexpected(text: &str) -> Self {
        Self { code: Code::UNEXPECTED, text: text.to_owned() }
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::unexpected(violation.0)
    }
}

impl From<Broken> for ConnectionLost {
    fn from(broken: Broken) -> Self {
        Self::Protocol(broken.text.into())
    }
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: Code(close.error_code.into_inner()),
                text: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TransportError(error) if is_tls(error.code) => Self::Handshake(error.to_string().into()),
            ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => {
                Self::Handshake(close.to_string().into())
            }
            other => Self::Transport(other.to_string().into()),
        }
    }
}

/// Whether a code is a TLS alert (RFC 9001, section 4.8).
fn is_tls(code: quinn::TransportErrorCode) -> bool {
    (0x100..=0x1ff).contains(&u64::from(code))
}

/// Signals in a second that a relay passes on by default.
const SIGNALS: u64 = 20;
/// Maximum queued events of a subscriber.
const SUBSCRIBER: usize = 1024;
