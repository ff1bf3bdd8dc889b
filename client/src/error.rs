//! One error for each operation.

use std::{sync::Arc, time::Duration};

use quip_protocol::{Code, Retry};
use thiserror::Error;

use crate::{StateError, TokenError};

/// Why a connection to a relay ended or did not come about.
#[derive(Debug, Clone, Error)]
pub enum ConnectionLost {
    /// The relay said why.
    #[error("the relay closed the connection: {code}{}", detail(*code, text))]
    Closed {
        /// The code.
        code: Code,
        /// For people; may be empty.
        text: String,
    },
    /// The handshake failed: the relay is not the trusted one, or what answers is not a Quip relay.
    #[error("the relay is not the one to trust, or does not speak Quip: {0}")]
    Untrusted(Arc<str>),
    /// The connection broke or could not be made.
    #[error("the connection was lost: {0}")]
    Transport(Arc<str>),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The relay broke the protocol.
    #[error("the relay sent what it must not: {0}")]
    Protocol(Arc<str>),
    /// The relay's address is not to be found.
    #[error("{relay} is not to be found: {error}")]
    Address {
        /// The relay as configured.
        relay: String,
        /// What the resolver says.
        error: Arc<str>,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl ConnectionLost {
    /// Whether connecting again, perhaps elsewhere, may help.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Closed { code, .. } => {
                matches!(code.retry(), Retry::Done | Retry::Later | Retry::Elsewhere) || *code == Code::TOKEN_EXPIRED
            }
            Self::Token(error) => error.may_retry(),
            Self::Untrusted(_) => false,
            Self::Transport(_) | Self::Timeout(_) | Self::Protocol(_) | Self::Address { .. } => true,
        }
    }
}

/// Why [`crate::Client::connect`] failed.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No relay was named.
    #[error("no relay is configured: name at least one as host:port")]
    NoRelay,
    /// The trusted certificates or the system's cryptography cannot be used.
    #[error("the trust settings cannot be used: {0}")]
    Trust(String),
    /// No UDP socket.
    #[error("no UDP socket could be made: {0}")]
    Socket(#[from] std::io::Error),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state store is another user's: use one store for each user.
    #[error("the state store belongs to {stored}, the token to {token}: use one store for each user")]
    OtherUser {
        /// Whose store it is.
        stored: String,
        /// Whose token it is.
        token: String,
    },
    /// A relay refused, and will do so again.
    #[error("refused: {0}")]
    Refused(ConnectionLost),
    /// No relay was reached in time.
    #[error("no relay was reached; the last attempt: {0}")]
    Unreachable(ConnectionLost),
}

impl ConnectError {
    /// Whether the same may work later.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Why a client is closed for good.
#[derive(Debug, Clone, Error)]
pub enum ClosedReason {
    /// The app closed it, or dropped the last handle.
    #[error("closed by the app")]
    ByApp,
    /// Another process took over this device. Connect again only when the user asks for it.
    #[error("another process took over this device")]
    Replaced,
    /// The relay will not have this client as it stands.
    #[error("refused: {0}")]
    Refused(ConnectionLost),
    /// The state store failed, or belongs to another user than the new token.
    #[error("the state store cannot be used: {0}")]
    State(Arc<str>),
}

impl ClosedReason {
    /// Whether a new [`crate::Client::connect`] with the same settings may work without anyone doing anything.
    pub fn may_retry(&self) -> bool {
        false
    }
}

/// Why a conversation was not opened.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// The relay refused. [`Code::NOT_FOUND`] also stands for what this user may not see.
    #[error("the relay refused: {code}{}", detail(*code, text))]
    Refused {
        /// Why.
        code: Code,
        /// For people; may be empty.
        text: String,
    },
    /// This client has it open already: use that handle.
    #[error("the conversation is open already: use that handle")]
    AlreadyOpen,
    /// No answer in time; the client may be reconnecting.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The client is closed.
    #[error("the client is closed: {0}")]
    Closed(ClosedReason),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl OpenError {
    /// Whether the same may work later.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code.retry(), Retry::Later | Retry::Elsewhere),
            Self::Timeout(_) => true,
            Self::AlreadyOpen | Self::Closed(_) | Self::State(_) => false,
        }
    }
}

/// Why content cannot be sent at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidContent {
    /// Over the relay's limit.
    #[error("{size} bytes are over the limit of {limit}")]
    TooLarge {
        /// What was given.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Nothing in it.
    #[error("the content is empty")]
    Empty,
    /// Not a user id.
    #[error("not a user id: 1 to 64 bytes without control characters")]
    User,
    /// Not one of [`crate::role`].
    #[error("no such role")]
    Role,
}

/// Why a command was not taken. It is not on its way.
#[derive(Debug, Clone, Error)]
pub enum SendError {
    /// It can never be sent.
    #[error(transparent)]
    Invalid(#[from] InvalidContent),
    /// As many commands as allowed are unanswered (only from `try_send`).
    #[error("{0} commands are unanswered: wait for receipts")]
    Full(u64),
    /// The conversation is over.
    #[error("the conversation is closed")]
    Closed,
    /// The state store failed, so that the command could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

impl SendError {
    /// Whether the same may work later.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// Why a command that was on its way is not known to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// The relay refused it; it had no effect.
    #[error("refused: {0}")]
    Refused(Code),
    /// It was decided, but so long ago that the relay no longer knows how; or the conversation ended first.
    #[error("nobody knows any more whether it was accepted")]
    Unknown,
    /// The client or the conversation was closed first. It stays in the state store and is sent again when the conversation is
    /// opened next: do not send it anew.
    #[error("closed before there was an answer; it is sent again when the conversation is opened next")]
    Closed,
}

impl ReceiptError {
    /// Whether sending the same content anew may work, without the risk of having it twice.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Refused(code) if code.retry() != Retry::Final)
    }
}

/// Why a request has no answer. A request changes nothing, so that it may be repeated.
#[derive(Debug, Clone, Error)]
pub enum RequestError {
    /// The relay refused.
    #[error("the relay refused: {code}{}", detail(*code, text))]
    Refused {
        /// Why.
        code: Code,
        /// How long to wait before trying again.
        retry_after: Duration,
        /// For people; may be empty.
        text: String,
    },
    /// The connection was lost, or there was none in time.
    #[error("no answer: {0}")]
    Lost(#[from] ConnectionLost),
    /// The client is closed.
    #[error("the client is closed: {0}")]
    Closed(ClosedReason),
}

impl RequestError {
    /// Whether the same may work later.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code.retry(), Retry::Later | Retry::Elsewhere),
            Self::Lost(_) => true,
            Self::Closed(_) => false,
        }
    }
}

/// What the relay adds to the code's own text.
fn detail(code: Code, text: &str) -> String {
    if text.is_empty() || text == code.to_string() { String::new() } else { format!(" ({text})") }
}
