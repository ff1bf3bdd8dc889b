//! The configuration of a client.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;

use crate::{MemoryStore, Platform, StateStore, TokenSource, platform::System};

/// Which certificates to trust.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The SHA-256 of the relay's certificate (DER). Name and dates are ignored; the handshake's signature is verified.
    Fingerprint([u8; 32]),
    /// Certificates of authorities. The relay's name must match too, and its certificate must not be that of an authority
    /// (CA:TRUE) itself: that one can only be pinned.
    Ca(Vec<CertificateDer<'static>>),
}

/// The configuration of a [`crate::Client`].
pub struct Config {
    pub(crate) relays: Vec<String>,
    pub(crate) trust: Trust,
    pub(crate) token: Arc<dyn TokenSource>,
    pub(crate) store: Box<dyn StateStore>,
    pub(crate) name: String,
    pub(crate) streams: u64,
    pub(crate) timing: Timing,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) user: Option<quip_protocol::UserId>,
    pub(crate) outbox: usize,
}

/// Timeouts of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the first packet to `Welcome`.
    pub(crate) attempt: Duration,
    /// How long the first connect tries.
    pub(crate) connect: Duration,
    /// How long a request or an open may take.
    pub(crate) answer: Duration,
    /// Silence after which the connection is lost.
    pub(crate) idle: Duration,
    /// Silence after which the client sends a PING.
    pub(crate) keepalive: Duration,
}

impl Config {
    /// A configuration for these relays, each `host:port`, tried in this order. The token is a string or a function that
    /// fetches one.
    pub fn new(relays: impl IntoIterator<Item = impl Into<String>>, trust: Trust, token: impl TokenSource) -> Self {
        Self {
            relays: relays.into_iter().map(Into::into).collect(),
            trust,
            token: Arc::new(token),
            store: Box::new(MemoryStore::default()),
            name: NAME.into(),
            streams: STREAMS,
            timing: TIMING,
            platform: Arc::new(System),
            user: None,
            outbox: 64,
        }
    }

    /// Sets the store of device id, cursors and unanswered commands. Default: [`MemoryStore`]. A store is for one user.
    #[must_use]
    pub fn state(mut self, store: impl StateStore) -> Self {
        self.store = Box::new(store);
        self
    }

    /// Sets the app's name and version for the relay's logs; truncated to 256 bytes.
    #[must_use]
    pub fn client_name(mut self, name: &str) -> Self {
        self.name = name[..name.floor_char_boundary(quip_protocol::limit::TEXT)].to_owned();
        self
    }

    /// Sets the maximum number of open conversations; the relay may grant fewer. Default: 64. Each may hold up to 256 KiB of
    /// events that the app has not taken.
    #[must_use]
    pub fn streams(mut self, streams: u64) -> Self {
        self.streams = streams;
        self
    }

    /// Sets the timeout of one attempt to connect, until the relay has accepted the token. Default: 5 s.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.timing.attempt = limit;
        self
    }

    /// Sets the timeout of [`crate::Client::connect`]. Default: 10 s. A connected client reconnects without a limit.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.timing.connect = limit;
        self
    }

    /// Sets the timeout of requests and of opening a conversation, reconnects included. Default: 15 s.
    #[must_use]
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.timing.answer = limit;
        self
    }

    /// Sets the silence after which the connection counts as lost. Default: 30 s. The client sends a keepalive every third of
    /// it.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.timing.idle = limit;
        self.timing.keepalive = limit / 3;
        self
    }

    /// STANDIN
    pub fn user(mut self, user: &str) -> Result<Self, crate::InvalidUser> {
        self.user = Some(quip_protocol::UserId::parse(user)?);
        Ok(self)
    }

    /// STANDIN
    #[must_use]
    pub fn outbox(mut self, outbox: usize) -> Self {
        self.outbox = outbox;
        self
    }

    pub(crate) fn check(&self) -> Result<(), crate::ConnectError> {
        Ok(())
    }

    /// Runs the client on something else than the machine itself, such as a simulation.
    #[must_use]
    pub fn platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platform = platform;
        self
    }
}

const NAME: &str = concat!("quip-client/", env!("CARGO_PKG_VERSION"));
const STREAMS: u64 = 64;
const TIMING: Timing = Timing {
    attempt: Duration::from_secs(5),
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(15),
    idle: Duration::from_secs(30),
    keepalive: Duration::from_secs(10),
};
