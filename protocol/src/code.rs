//! The table of codes, for refusals, stream resets and connection closes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A code. Unknown codes are kept, since their range tells whether to retry ([`Code::retry`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Code(pub u64);

/// The retry class of a code, given by its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// `0x00..=0x0f`: a normal end.
    Done,
    /// `0x10..=0x3f`: a protocol violation. One side is broken; the connection is closed.
    Never,
    /// `0x40..=0x7f`: the same request fails again; change it first.
    Final,
    /// `0x80..=0xbf`: retry on the same relay, after `retry_after`.
    Later,
    /// `0xc0..`: reconnect with backoff, to another relay if there is one.
    Elsewhere,
}

impl Code {
    /// The retry class.
    pub fn retry(self) -> Retry {
        match self.0 {
            0x00..=0x0f => Retry::Done,
            0x10..=0x3f => Retry::Never,
            0x40..=0x7f => Retry::Final,
            0x80..=0xbf => Retry::Later,
            _ => Retry::Elsewhere,
        }
    }

    /// Whether a refusal with this code uses up the `n` of the command (or of the join in an open), so that the next content
    /// gets the next number. True for every [`Retry::Final`] code, unknown ones included, except for those that are given
    /// before anything is recorded. No code is ever added to these exceptions.
    pub fn decides(self) -> bool {
        const BEFORE: [Code; 7] = [
            Code::MESSAGE_TOO_LARGE,
            Code::MESSAGE_EMPTY,
            Code::NOT_UTF8,
            Code::INVALID_NAME,
            Code::MISSING,
            Code::UNSUPPORTED,
            Code::TOO_MANY_STREAMS,
        ];
        self.retry() == Retry::Final && !BEFORE.contains(&self)
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// Every code with its name and meaning, in order of number.
            pub const TABLE: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$name, stringify!($name), $text),)*];
        }
    };
}

codes! {
    BYE = 0x00, "closed normally";
    ENDED = 0x01, "membership ended; every visible event was delivered";
    DONE = 0x02, "request completed";
    REOPENED = 0x03, "conversation was opened again on this connection";
    MALFORMED = 0x10, "malformed frame or body";
    FRAME_TOO_LARGE = 0x11, "frame exceeds the size limit";
    UNKNOWN_EXTENSION = 0x12, "unknown extension that must be understood";
    UNKNOWN_TYPE = 0x13, "unknown frame type that must be understood";
    UNKNOWN_STREAM = 0x14, "the first frame of a stream does not open it";
    UNEXPECTED = 0x15, "unexpected frame";
    TRUNCATED = 0x16, "stream finished inside a frame";
    NO_HELLO = 0x17, "no Hello in time";
    BUFFERED = 0x18, "too many bytes of unfinished frames on one connection";
    UNAUTHENTICATED = 0x40, "invalid token";
    TOKEN_EXPIRED = 0x41, "token expired; get a new one";
    WRONG_AUDIENCE = 0x42, "token is for another audience";
    FORBIDDEN = 0x43, "not allowed by the token or the role";
    NOT_FOUND = 0x44, "conversation not found, or not visible to you";
    INVALID_NAME = 0x45, "invalid name";
    UNSUPPORTED = 0x46, "command not supported by this relay";
    MESSAGE_TOO_LARGE = 0x47, "content exceeds the size limit";
    MESSAGE_EMPTY = 0x48, "content is empty";
    NOT_UTF8 = 0x49, "text is not valid UTF-8";
    KNOWN = 0x4a, "number decided long ago; its outcome is no longer kept";
    REUSED = 0x4b, "number already used for other content";
    MISSING = 0x4c, "an earlier number is missing; info is the last one decided";
    NOT_A_MEMBER = 0x4d, "not a member of the conversation";
    BANNED = 0x4e, "banned from the conversation";
    NO_TARGET = 0x4f, "target event or user not found";
    REPLACED = 0x50, "another process took over this device; do not reconnect automatically";
    CONVERSATION_FULL = 0x51, "conversation is full";
    LAST_OWNER = 0x52, "the last owner must make another member owner first";
    WRONG_KIND = 0x53, "not supported in this kind of conversation";
    USER_CHANGED = 0x54, "new token is for another user";
    TOO_MANY_STREAMS = 0x55, "too many open conversations on one connection";
    STORED_DAMAGED = 0x56, "stored record is damaged; contact the operator";
    TOO_MANY_EDITS = 0x57, "edit limit of the message reached";
    NOT_TEXT = 0x58, "new content of a text is not valid UTF-8";
    ADDED_TOO_OFTEN = 0x59, "user was added to too many groups lately; try again later";
    FULL = 0x80, "commit queue is full";
    RATE = 0x81, "rate limit exceeded";
    UNANSWERED = 0x82, "too many unanswered commands on this stream";
    BUSY = 0x83, "read queue is full";
    KEY_PENDING = 0x84, "token key not known yet; the relay is fetching its key set";
    LOST = 0x85, "outcome unknown; open the conversation again to learn it";
    TOO_MANY_CONNECTIONS = 0x86, "too many connections of this user";
    TOO_MANY_CREATED = 0x87, "too many conversations created lately";
    BEHIND = 0xc0, "cursor is ahead of this relay; info is its head";
    SHUTDOWN = 0xc1, "relay is shutting down";
    OVERLOADED = 0xc2, "relay is overloaded";
    IDLE = 0xc3, "idle timeout";
    INTERNAL = 0xc4, "relay failed; outcomes of unanswered commands are unknown";
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::TABLE.iter().find(|(code, ..)| code == self) {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "Code({:#x})", self.0),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::TABLE.iter().find(|(code, ..)| code == self) {
            Some((.., text)) => f.write_str(text),
            None => write!(f, "unknown code {:#x}", self.0),
        }
    }
}
