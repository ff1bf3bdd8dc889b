//! The one table of codes: in refusals, in stream resets and in connection closes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A code. Unknown ones are kept: their range still tells what to do ([`Code::retry`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Code(pub u64);

/// What the range of a code says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// `0x00..=0x0f`: a normal end.
    Done,
    /// `0x10..=0x3f`: a protocol violation, one side is broken; the connection is closed.
    Never,
    /// `0x40..=0x7f`: this will not succeed as it stands; change it first.
    Final,
    /// `0x80..=0xbf`: the same again on the same relay, after `retry_after`.
    Later,
    /// `0xc0..`: connect again, elsewhere if there is another relay, with a growing pause.
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

    /// Whether a command (or the join of an open) that is refused with this code has used up its `n`, so that the next content gets the
    /// next number. True for every [`Retry::Final`] code, unknown ones too, except for those that are given before
    /// anything is recorded; no code is ever added to these.
    pub fn decides(self) -> bool {
        const BEFORE: [Code; 7] = [
            Code::MESSAGE_TOO_LARGE,
            Code::MESSAGE_EMPTY,
            Code::NOT_UTF8,
            Code::INVALID_NAME,
            Code::MISSING,
            Code::ALREADY_OPEN,
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
    BYE = 0x00, "goodbye: the side that closes is done";
    ENDED = 0x01, "membership ended: the conversation's last visible event was delivered";
    DONE = 0x02, "the request was answered in full";
    MALFORMED = 0x10, "a frame or its body is malformed";
    FRAME_TOO_LARGE = 0x11, "a frame is over the limit";
    TRAILING_BYTES = 0x12, "bytes are left over in a frame's body";
    UNKNOWN_TYPE = 0x13, "a frame type that must be understood is not known";
    UNKNOWN_STREAM = 0x14, "a stream begins with a frame that opens no stream";
    UNEXPECTED = 0x15, "a frame that has no place here";
    TRUNCATED = 0x16, "a stream was finished inside a frame";
    NO_HELLO = 0x17, "no Hello in time";
    BUFFERED = 0x18, "too many bytes of unfinished frames on one connection";
    UNAUTHENTICATED = 0x40, "the token is not valid";
    TOKEN_EXPIRED = 0x41, "the token has expired: get a new one";
    WRONG_AUDIENCE = 0x42, "the token is for another audience";
    FORBIDDEN = 0x43, "the token or the role does not allow this";
    NOT_FOUND = 0x44, "no such conversation, or not one that you may see";
    INVALID_NAME = 0x45, "a name is not well-formed";
    ALREADY_OPEN = 0x46, "the conversation is open on this connection already";
    MESSAGE_TOO_LARGE = 0x47, "the content is over the limit";
    MESSAGE_EMPTY = 0x48, "the content is empty";
    NOT_UTF8 = 0x49, "a text is not UTF-8";
    KNOWN = 0x4a, "this number was decided long ago; its outcome is no longer kept";
    REUSED = 0x4b, "this number was used for other content";
    MISSING = 0x4c, "an earlier number is missing; info is the last one decided";
    NOT_A_MEMBER = 0x4d, "only members may do this";
    BANNED = 0x4e, "banned from the conversation";
    NO_TARGET = 0x4f, "the event or user that this is about is not there";
    REPLACED = 0x50, "another process took over this device; do not reconnect by yourself";
    CONVERSATION_FULL = 0x51, "the conversation has as many members as it may have";
    LAST_OWNER = 0x52, "the last owner must hand over first";
    WRONG_KIND = 0x53, "this kind of conversation knows no such action";
    USER_CHANGED = 0x54, "the new token is for another user";
    TOO_MANY_STREAMS = 0x55, "more open conversations than allowed on one connection";
    STORED_DAMAGED = 0x56, "a stored record is damaged; tell the operator";
    TOO_MANY_EDITS = 0x57, "the message was edited as often as it may be";
    NOT_TEXT = 0x58, "the new content of a text is not UTF-8";
    FULL = 0x80, "too much is waiting to be committed";
    RATE = 0x81, "sent more often than the relay allows";
    UNANSWERED = 0x82, "too many unanswered commands on this stream";
    BLOCKED = 0x83, "an earlier number on this stream was refused; send again from it";
    BUSY = 0x84, "the relay is busy reading";
    KEY_PENDING = 0x85, "the relay does not know the token's key yet and looks for it";
    LOST = 0x86, "a command did not come back; open again to learn what became of it";
    BEHIND = 0xc0, "the cursor is ahead of this relay; info is its head";
    SHUTDOWN = 0xc1, "the relay is going down";
    OVERLOADED = 0xc2, "the relay has as many connections as it may have";
    IDLE = 0xc3, "nothing was heard for the idle timeout";
    INTERNAL = 0xc4, "the relay failed; nothing is known about what was unanswered";
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
