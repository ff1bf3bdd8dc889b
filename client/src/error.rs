//! Errors, one type for each operation.

use std::{sync::Arc, time::Duration};

use quip_protocol::{Code, Retry};
use thiserror::Error;

use crate::{InvalidName, StateError, TokenError, Untrusted, untrusted::Span};

/// Why a connection to a relay failed or ended.
#[derive(Debug, Clone, Error)]
pub enum ConnectionLost {
    /// The relay closed the connection with a code.
    #[error("closed by the relay: {code}{}", detail(*code, text))]
    Closed {
        /// The code.
        code: Code,
        /// For people; may be empty.
        text: String,
    },
    /// The relay's certificate is not trusted.
    #[error("the relay's certificate is not trusted: {0}")]
    Untrusted(#[from] Untrusted),
    /// The TLS handshake failed: the peer is not a Quip relay, or one of another version.
    #[error("not a Quip relay of the same version: {0}")]
    Handshake(Arc<str>),
    /// The transport failed.
    #[error("connection failed: {0}")]
    Transport(Arc<str>),
    /// The relay did not answer in time.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The relay violated the protocol.
    #[error("protocol violation by the relay: {0}")]
    Protocol(Arc<str>),
    /// The relay's address could not be resolved.
    #[error("could not resolve {relay}: {error}")]
    Address {
        /// The relay, as configured.
        relay: String,
        /// The error of the resolver.
        error: Arc<str>,
    },
    /// The token source failed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl ConnectionLost {
    /// Whether reconnecting, perhaps to another relay, may succeed.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Closed { code, .. } => {
                matches!(code.retry(), Retry::Done | Retry::Later | Retry::Elsewhere) || *code == Code::TOKEN_EXPIRED
            }
            Self::Token(error) => error.may_retry(),
            Self::Untrusted(_) | Self::Handshake(_) => false,
            Self::Transport(_) | Self::Timeout(_) | Self::Protocol(_) | Self::Address { .. } => true,
        }
    }

    /// Whether a relay, or something in its place, has answered.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Untrusted(_) | Self::Handshake(_) | Self::Protocol(_))
    }
}

/// Why [`crate::Client::connect`] failed.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No relay is configured.
    #[error("no relay configured: name at least one as host:port")]
    NoRelay,
    /// The trust settings are invalid.
    #[error("invalid trust settings: {0}")]
    Trust(String),
    /// It was called outside of a tokio runtime, which the connection needs.
    #[error("no tokio runtime: call this inside of one")]
    NoRuntime,
    /// A client that starts offline must know its user.
    #[error("unknown user: name the user of the token with Config::user")]
    NoUser,
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state store belongs to another user than [`crate::Config::user`] names.
    #[error("the state store belongs to {stored}, not to {configured}: use one store for each user")]
    OtherStore {
        /// The owner of the store.
        stored: String,
        /// The user of the configuration.
        configured: String,
    },
    /// The token is for another user than the state store or the configuration.
    #[error("the token is for {token}, and this is a client of {client}: use one state store for each user")]
    OtherUser {
        /// The owner of the store, or the user of the configuration.
        client: String,
        /// The user of the token.
        token: String,
    },
    /// A relay refused for good.
    #[error("refused: {0}")]
    Refused(ConnectionLost),
    /// No relay could be reached in time.
    #[error("no relay let this client in; last error: {0}")]
    Unreachable(ConnectionLost),
    /// A relay's address cannot be used.
    #[error("{relay:?} is not the address of a relay: {fault}")]
    Address {
        /// The relay, as configured.
        relay: String,
        /// What is wrong, and what is expected.
        fault: &'static str,
    },
}

impl ConnectError {
    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Why a client closed for good.
#[derive(Debug, Clone, Error)]
pub enum ClosedReason {
    /// The app closed it, or dropped the last handle.
    #[error("closed by the app")]
    ByApp,
    /// Another process took over this device. Reconnect only when the user asks for it.
    #[error("another process took over this device")]
    Replaced,
    /// A relay refused for good.
    #[error("refused: {0}")]
    Refused(ConnectionLost),
    /// A token was for another user than the client.
    #[error("the token is for {token}, and this is a client of {client}")]
    OtherUser {
        /// The user of the client.
        client: String,
        /// The user of the token.
        token: String,
    },
}

impl ClosedReason {
    /// Whether a new [`crate::Client::connect`] with the same settings may succeed without user action.
    pub fn may_retry(&self) -> bool {
        false
    }
}

/// Why a conversation could not be opened.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// The relay refused. [`Code::NOT_FOUND`] includes conversations that this user may not see. With a code of the range
    /// [`Retry::Later`] or [`Retry::Elsewhere`] it was still refused when the time was over, or would have been.
    #[error("refused by the relay: {code}{}{}", detail(*code, text), again(*code, *retry_after))]
    Refused {
        /// The reason.
        code: Code,
        /// How long to wait before a retry.
        retry_after: Duration,
        /// For people; may be empty.
        text: String,
    },
    /// The conversation is already open in this client: use that handle, or [`crate::Client::conversation`].
    #[error("conversation is already open")]
    AlreadyOpen,
    /// The conversation was dropped a moment ago and is still being closed (only from [`crate::Client::open_now`]).
    #[error("conversation is still being closed; try again in a moment")]
    Closing,
    /// The relay did not answer in time; the client may be reconnecting.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The client is closed.
    #[error("client is closed: {0}")]
    Closed(ClosedReason),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl OpenError {
    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code.retry(), Retry::Later | Retry::Elsewhere),
            Self::Timeout(_) | Self::Closing => true,
            Self::AlreadyOpen | Self::Closed(_) | Self::State(_) => false,
        }
    }
}

/// Why content cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidContent {
    /// The content exceeds the relay's limit.
    #[error("{size} bytes exceed the limit of {limit}")]
    TooLarge {
        /// Size of the content in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The content is empty.
    #[error("content is empty")]
    Empty,
    /// Not the name of a user.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Not one of [`crate::role`].
    #[error("unknown role")]
    Role,
}

/// Why a command was not queued. It is not sent.
#[derive(Debug, Clone, Error)]
pub enum SendError {
    /// The content is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidContent),
    /// The limit of unanswered commands is reached (only from `try_send`).
    #[error("{0} commands are unanswered; wait for receipts")]
    Full(u64),
    /// The conversation is closed.
    #[error("conversation is closed")]
    Closed,
    /// The state store failed to store the command.
    #[error(transparent)]
    State(#[from] StateError),
}

impl SendError {
    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// Why a signal was not sent. Signals may also be lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignalError {
    /// There is no connection, or it cannot carry signals.
    #[error("offline")]
    Offline,
    /// The conversation is not open at the relay now.
    #[error("conversation is not open at the relay")]
    NotOpen,
    /// The content exceeds the limit, or what the network carries in one packet.
    #[error("{size} bytes exceed the limit of {limit}")]
    TooLarge {
        /// Size of the content in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More than 18 at once, or 20 in a second. The relay would drop it.
    #[error("too many signals; try again in {} ms", retry_after.as_millis())]
    TooFast {
        /// When there is room for the next one.
        retry_after: Duration,
    },
}

impl SignalError {
    /// Whether the same signal may be sent later.
    pub fn may_retry(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}

/// Why a queued command is not known to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// The relay refused the command. It had no effect.
    #[error("refused: {0}")]
    Refused(Code),
    /// The outcome is unknown: it was decided too long ago, or the conversation ended first.
    #[error("outcome unknown")]
    Unknown,
    /// The client or the conversation was closed first. The command stays in the state store and is resent when the
    /// conversation is next opened: do not send it again.
    #[error("closed before an answer; resent when the conversation is next opened")]
    Closed,
}

impl ReceiptError {
    /// Whether sending the same content again may succeed without the risk of a duplicate.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Refused(code) if code.retry() != Retry::Final)
    }
}

/// Why a request failed. Requests change nothing and may be repeated.
#[derive(Debug, Clone, Error)]
pub enum RequestError {
    /// The relay refused.
    #[error("refused by the relay: {code}{}{}", detail(*code, text), again(*code, *retry_after))]
    Refused {
        /// The reason.
        code: Code,
        /// How long to wait before a retry.
        retry_after: Duration,
        /// For people; may be empty.
        text: String,
    },
    /// There is no connection; [`crate::Client::state`] says why.
    #[error("offline")]
    Offline,
    /// The connection was lost, or there was no answer in time.
    #[error("no answer: {0}")]
    Lost(#[from] ConnectionLost),
    /// The client is closed.
    #[error("client is closed: {0}")]
    Closed(ClosedReason),
}

impl RequestError {
    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code.retry(), Retry::Later | Retry::Elsewhere),
            Self::Offline | Self::Lost(_) => true,
            Self::Closed(_) => false,
        }
    }
}

/// The relay's text, unless it repeats that of the code.
fn detail(code: Code, text: &str) -> String {
    if text.is_empty() || text == code.to_string() { String::new() } else { format!(" ({text})") }
}

/// When to try again, if that is worth saying.
fn again(code: Code, retry_after: Duration) -> String {
    let is_long = code.retry() == Retry::Later && retry_after >= Duration::from_secs(1);
    if is_long { format!("; try again in {}", Span(retry_after)) } else { String::new() }
}
