//! From the bytes of a stream to the frames that the hub acts on.

use bytes::Bytes;
use quip_protocol::{
    Code, DecodeError, Frame, Message, ToRelay,
    conversation::{Open, is_numbered},
    frame::{first_varint, split},
    request::{History, List, Members, PresenceIn},
    session::Hello,
};

use super::{
    Hub,
    keys::{ConnectionKey, StreamKey},
    links::Role,
    port::Port,
};

/// What follows from a frame for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// They are looked at.
    Frame,
    /// They wait until this one is decided.
    Hold,
}

impl<P: Port> Hub<P> {
    /// Handles the whole frames among the bytes of a stream and keeps the rest.
    pub(super) fn take_in(&mut self, stream: StreamKey, bytes: &Bytes) {
        // What comes behind the end of a stream is discarded, whatever it is.
        if self.links.role(stream) == Some(Role::Ending) {
            return;
        }
        let mut kept = self.links.take_partial(stream);
        let buffer = if kept.is_empty() {
            &bytes[..]
        } else {
            kept.extend_from_slice(bytes);
            &kept[..]
        };
        let Some(used) = self.frames(stream, buffer) else { return };
        self.links.keep_partial(stream, &buffer[used..], &mut self.port);
        self.pump(stream);
        if self.rooms.is_unread(stream) {
            self.links.reset(stream, Code::UNANSWERED, &mut self.port);
        }
    }

    /// Says how many bytes the whole frames in `buffer` took; `None` if the stream is over.
    fn frames(&mut self, stream: StreamKey, buffer: &[u8]) -> Option<usize> {
        let mut used = 0;
        while let (Some(role), Some(at)) = (self.links.role(stream), self.links.connection_of(stream)) {
            match split(&buffer[used..], self.setup.config.limits.frame_bytes) {
                Ok(None) => return Some(used),
                // Everything else waits until the client is known.
                Ok(Some((frame, _))) if frame.kind != Hello::TYPE && self.links.session(at).is_none() => {
                    self.links.hold(stream);
                    return Some(used);
                }
                Ok(Some((frame, length))) => {
                    used += length;
                    self.links.begin_frame(stream, frame.kind);
                    let next = self.frame(stream, at, role, frame);
                    self.links.end_frame(stream, length);
                    if next == Next::Hold {
                        self.links.hold(stream);
                        return Some(used);
                    }
                }
                Err(error) => _ = self.violation(stream, error.code()),
            }
        }
        None
    }

    fn frame(&mut self, stream: StreamKey, at: ConnectionKey, role: Role, frame: Frame<'_>) -> Next {
        if role == Role::Fresh && !opens_a_stream(frame.kind) {
            self.links.reset(stream, Code::UNKNOWN_STREAM, &mut self.port);
            return Next::Frame;
        }
        let message = match (role, ToRelay::decode(frame)) {
            (_, Ok(Some(message))) => message,
            (_, Ok(None)) => return Next::Frame,
            (Role::Conversation, Err(error)) if is_command(error) => return self.unsupported(stream, frame.body),
            (_, Err(error)) => return self.violation(stream, error.code()),
        };
        match (role, message) {
            (Role::Fresh, ToRelay::Hello(hello)) => self.hello(stream, at, &hello),
            (Role::Session, ToRelay::Refresh(refresh)) => self.refresh(stream, at, refresh.token),
            (Role::Fresh, ToRelay::Open(open)) => self.open(stream, at, &open),
            (Role::Fresh, request) => self.request(stream, at, &request),
            (Role::Conversation, ToRelay::Mark(mark)) => self.mark(stream, mark),
            (Role::Conversation, command) => self.command(stream, &command),
            (Role::Ending, _) => Next::Frame,
            (Role::Session | Role::Request, _) => self.violation(stream, Code::UNEXPECTED),
        }
    }

    /// A command that this relay does not know, or not in this form.
    fn unsupported(&mut self, stream: StreamKey, body: &[u8]) -> Next {
        match first_varint(body) {
            None | Some(0) => self.violation(stream, Code::MALFORMED),
            Some(n) => self.refuse_unsupported(stream, n),
        }
    }

    /// The client finished its side.
    pub(super) fn input_ended(&mut self, stream: StreamKey) {
        let (Some(role), Some(at)) = (self.links.role(stream), self.links.connection_of(stream)) else { return };
        if role != Role::Ending && self.links.has_partial(stream) {
            self.violation(stream, Code::TRUNCATED);
            return;
        }
        match role {
            Role::Request | Role::Ending => {}
            Role::Session => self.links.goodbye(at, &mut self.port),
            Role::Fresh | Role::Conversation => self.end_quietly(stream),
        }
    }

    /// Closes a connection that broke the protocol on a stream.
    pub(super) fn violation(&mut self, stream: StreamKey, code: Code) -> Next {
        self.links.violated(stream, code, &mut self.port);
        Next::Frame
    }
}

/// Whether what could not be read is a command with a number of its own.
fn is_command(error: DecodeError) -> bool {
    match error {
        DecodeError::UnknownType(_) => true,
        DecodeError::UnknownExtension(kind) => is_numbered(kind),
        DecodeError::Malformed(_) | DecodeError::Unexpected(_) => false,
    }
}

fn opens_a_stream(kind: u64) -> bool {
    [Hello::TYPE, Open::TYPE, History::TYPE, List::TYPE, Members::TYPE, PresenceIn::TYPE].contains(&kind)
}
