//! The configuration of a client.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use quip_protocol::UserId;
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use crate::{
    ConnectError, DevError, InvalidName, MemoryStore, Platform, StateStore, TokenSource, dev, name, platform::System,
};

/// Which certificates to trust.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The SHA-256 of the relay's certificate (DER). Name and dates are ignored; the handshake's signature is verified.
    Fingerprint([u8; 32]),
    /// Certificates of authorities. The relay's name must match too, and its certificate must not be that of an authority
    /// (CA:TRUE) itself: that one can only be pinned.
    Ca(Vec<CertificateDer<'static>>),
}

/// A text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a fingerprint: expected the 64 hex digits of a SHA-256, with or without colons")]
pub struct InvalidFingerprint;

impl Trust {
    /// A certificate by its SHA-256 in hex, with or without colons between the bytes, as a relay prints it, leaves it in the
    /// file `fingerprint` of its data folder, and `openssl x509 -noout -sha256 -fingerprint` shows it.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn fingerprint(hex: &str) -> Result<Self, InvalidFingerprint> {
        let digits: Option<Vec<u8>> =
            hex.trim().chars().filter(|c| *c != ':').map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        let digits: [u8; 64] = digits.and_then(|digits| digits.try_into().ok()).ok_or(InvalidFingerprint)?;
        Ok(Self::Fingerprint(std::array::from_fn(|byte| digits[2 * byte] << 4 | digits[2 * byte + 1])))
    }
}

/// The configuration of a [`crate::Client`].
pub struct Config {
    pub(crate) relays: Vec<String>,
    pub(crate) trust: Trust,
    pub(crate) token: Arc<dyn TokenSource>,
    pub(crate) user: Option<UserId>,
    pub(crate) store: Box<dyn StateStore>,
    pub(crate) name: String,
    pub(crate) streams: u64,
    /// Maximum of unanswered commands in a conversation.
    pub(crate) outbox: usize,
    pub(crate) timing: Timing,
    pub(crate) platform: Arc<dyn Platform>,
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
            user: None,
            store: Box::new(MemoryStore::default()),
            name: NAME.into(),
            streams: STREAMS,
            outbox: OUTBOX,
            timing: TIMING,
            platform: Arc::new(System),
        }
    }

    /// A configuration for development: logs in as any user to a relay on this machine that was started without a config, by
    /// what it left in its data folder.
    ///
    /// # Errors
    /// If the folder is not that of such a relay, or `user` cannot be one.
    pub fn dev(data: impl AsRef<Path>, user: &str) -> Result<Self, DevError> {
        let data = data.as_ref();
        let user = name::user(user).map_err(|error| DevError::User { name: user.to_owned(), error })?;
        let trust = dev::trust(data)?;
        let tokens = dev::Tokens::read(data, user.clone())?;
        Ok(Self { user: Some(user), ..Self::new([dev::address(data)], trust, tokens) })
    }

    /// Sets the user that the tokens are for. [`crate::Client::start`] needs it, unless the store has a user from an earlier run.
    ///
    /// # Errors
    /// If `name` cannot be a user.
    pub fn user(mut self, name: &str) -> Result<Self, InvalidName> {
        self.user = Some(name::user(name)?);
        Ok(self)
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

    /// Sets how many commands of a conversation may be queued before the relay has answered them, from 1 to 10,000. More wait
    /// in [`crate::Sender::send`]. Default: 64. Each may be as large as a message, in memory and in the state store.
    #[must_use]
    pub fn outbox(mut self, limit: usize) -> Self {
        self.outbox = limit.clamp(1, OUTBOX_MAX);
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

    /// Sets the silence after which the connection counts as lost. Default: 30 s, and 1 s at least. The client sends a
    /// keepalive every third of it.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        let limit = limit.max(IDLE_LEAST);
        self.timing.idle = limit;
        self.timing.keepalive = limit / 3;
        self
    }

    /// Runs the client on something else than the machine itself, such as a simulation.
    #[must_use]
    pub fn platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platform = platform;
        self
    }

    /// Checks what can be known before a connection.
    ///
    /// # Errors
    /// If there is no relay, or one that has no usable address.
    pub fn check(&self) -> Result<(), ConnectError> {
        if self.relays.is_empty() {
            return Err(ConnectError::NoRelay);
        }
        match self.relays.iter().find_map(|relay| Some((relay, fault(relay)?))) {
            Some((relay, fault)) => Err(ConnectError::Address { relay: relay.clone(), fault }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relays, trust, user, name, streams, outbox, timing, .. } = self;
        f.debug_struct("Config")
            .field("relays", relays)
            .field("trust", trust)
            .field("user", user)
            .field("name", name)
            .field("streams", streams)
            .field("outbox", outbox)
            .field("timing", timing)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the address of a relay.
fn fault(relay: &str) -> Option<&'static str> {
    let ip = relay.parse().ok().map(|address: SocketAddr| address.ip());
    let Some((host, port)) = relay.rsplit_once(':') else { return Some(NOT_HOST_PORT) };
    let is_name = |c: char| !(c.is_whitespace() || c.is_control() || "[]:/@".contains(c));
    let is_host = ip.is_some_and(|ip| ip.is_ipv6()) || (!host.is_empty() && host.chars().all(is_name));
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    match ip {
        _ if !is_host || !is_port => Some(NOT_HOST_PORT),
        Some(IpAddr::V4(ip)) if ip.is_unspecified() => Some(UNSPECIFIED),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => Some(UNSPECIFIED),
        _ => None,
    }
}

const NOT_HOST_PORT: &str = "expected host:port, such as chat.example.org:4433 or [::1]:4433";
const UNSPECIFIED: &str =
    "a relay listens there, but is reached on another address, such as 127.0.0.1 from the same machine";
const NAME: &str = concat!("quip-client/", env!("CARGO_PKG_VERSION"));
const STREAMS: u64 = 64;
const OUTBOX: usize = 64;
const IDLE_LEAST: Duration = Duration::from_secs(1);
const OUTBOX_MAX: usize = 10_000;
const TIMING: Timing = Timing {
    attempt: Duration::from_secs(5),
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(15),
    idle: Duration::from_secs(30),
    keepalive: Duration::from_secs(10),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn config(relay: &str) -> Config {
        Config::new([relay], Trust::Fingerprint([0; 32]), "alice")
    }

    #[test]
    fn an_address_without_host_or_port_is_refused() {
        for good in ["chat.example.org:4433", "localhost:1", "127.0.0.1:4433", "[::1]:4433", "[fe80::1%2]:65535"] {
            assert!(config(good).check().is_ok(), "{good}");
        }
        for bad in [
            "chat.example.org",
            "chat.example.org:0",
            "chat.example.org:",
            "chat.example.org:65536",
            "chat.example.org:4433/",
            "quip://chat.example.org:4433",
            ":4433",
            "",
            "127.0.0.1",
            "::1",
            "::1:4433",
            "[::1]",
            "[::1]:0",
            "[chat]:4433",
            " chat.example.org:4433",
        ] {
            let error = config(bad).check().expect_err(bad);
            assert!(error.to_string().contains("expected host:port"), "{bad}: {error}");
            assert!(!error.may_retry());
        }
        for listening in ["0.0.0.0:4433", "[::]:4433"] {
            let error = config(listening).check().expect_err(listening);
            assert!(error.to_string().contains("such as 127.0.0.1"), "{error}");
        }
        let none = Config::new([""; 0], Trust::Fingerprint([0; 32]), "alice");
        assert!(matches!(none.check(), Err(ConnectError::NoRelay)));
    }

    #[test]
    fn a_fingerprint_is_hex_with_or_without_colons() {
        for good in ["ab".repeat(32), ["AB"; 32].join(":"), format!(" {}\n", "aB".repeat(32))] {
            let trust = Trust::fingerprint(&good).expect("a fingerprint");
            assert!(matches!(trust, Trust::Fingerprint(fingerprint) if fingerprint == [0xab; 32]));
        }
        let order = format!("0123{}", "00".repeat(30));
        assert!(matches!(Trust::fingerprint(&order), Ok(Trust::Fingerprint([0x01, 0x23, 0, ..]))));
        for bad in ["", "ab", &"ab".repeat(33), &"xy".repeat(32), &"é".repeat(32), &"ab".repeat(32)[1..]] {
            assert_eq!(Trust::fingerprint(bad).err(), Some(InvalidFingerprint), "{bad}");
        }
    }

    #[test]
    fn settings_are_kept_within_their_bounds() {
        let outbox = |limit| config("h:1").outbox(limit).outbox;
        assert_eq!([config("h:1").outbox, outbox(0), outbox(500), outbox(usize::MAX)], [64, 1, 500, 10_000]);
        assert_eq!(config("h:1").user("bob ").err(), Some(InvalidName::Blank));
        let shown = format!("{:?}", config("h:1").user("bob").expect("a user"));
        assert!(shown.contains("bob") && !shown.contains("alice"), "a token is not shown: {shown}");
    }
}
