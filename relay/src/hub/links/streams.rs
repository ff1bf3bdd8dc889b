//! What arrives on streams and what leaves on them.

use quip_protocol::{Code, ConversationId, Message, limit};

use super::{Links, Over, Role, STREAMS_BEFORE_HELLO, stream::Stream};
use crate::hub::{
    keys::{ConnectionKey, StreamKey},
    out::Out,
    port::{Port, Wrote},
};

/// Requests of one connection that are under way or not yet taken by the client. Each answer may be a page.
const REQUESTS: usize = STREAMS_BEFORE_HELLO as usize;

impl Links {
    /// A client opened a stream, which QUIC knows as `id`.
    pub(in crate::hub) fn stream_opened(&mut self, at: ConnectionKey, key: StreamKey, id: u64, port: &mut impl Port) {
        let Some(connection) = self.connections.get_mut(at).filter(|connection| !connection.over) else {
            return port.forget_stream(key);
        };
        connection.streams.push(key);
        self.streams.insert(key, Stream::new(at, id));
        port.read_again(key);
    }

    /// The connection of a stream.
    pub(in crate::hub) fn connection_of(&self, key: StreamKey) -> Option<ConnectionKey> {
        self.streams.get(key).map(|stream| stream.connection)
    }

    /// What a stream is for; `None` once it is over.
    pub(in crate::hub) fn role(&self, key: StreamKey) -> Option<Role> {
        self.streams.get(key).filter(|stream| !stream.over).map(|stream| stream.role)
    }

    /// True while the input of a stream is to be read: what came before is decided.
    pub(in crate::hub) fn takes_input(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| !stream.held && !stream.over)
    }

    /// A frame of this type is looked at.
    pub(in crate::hub) fn begin_frame(&mut self, key: StreamKey, kind: u64) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.kind = Some(kind);
        }
    }

    /// The frame that was looked at took `length` bytes.
    pub(in crate::hub) fn end_frame(&mut self, key: StreamKey, length: usize) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.offset += length as u64;
            stream.kind = None;
        }
    }

    /// Takes the beginning of a frame that waits for its end, or frames that were held.
    pub(in crate::hub) fn take_partial(&mut self, key: StreamKey) -> Vec<u8> {
        let Some(stream) = self.streams.get_mut(key) else { return Vec::new() };
        let partial = std::mem::take(&mut stream.partial);
        if let Some(connection) = self.connections.get_mut(stream.connection) {
            connection.partial -= partial.len();
        }
        partial
    }

    /// Keeps the beginning of a frame until its end arrives, or frames that are held.
    pub(in crate::hub) fn keep_partial(&mut self, key: StreamKey, partial: &[u8], port: &mut impl Port) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let at = stream.connection;
        let Some(connection) = self.connections.get_mut(at) else { return };
        if connection.partial + partial.len()
            > self.config.limits.unanswered_bytes_per_connection + limit::OTHER_UNFINISHED
        {
            // A client whose commands were refused sends others while those are still on their way.
            return match stream.role {
                Role::Conversation => self.reset(key, Code::UNANSWERED, port),
                _ => self.violated(key, Code::BUFFERED, port),
            };
        }
        connection.partial += partial.len();
        stream.partial = partial.to_vec();
    }

    /// True when the stream's input ended within a frame, or with frames that were held.
    pub(in crate::hub) fn has_partial(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| !stream.partial.is_empty())
    }

    /// Holds the frames of a stream until [`Links::release`].
    pub(in crate::hub) fn hold(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.held = matches!(stream.role, Role::Fresh | Role::Conversation);
        }
    }

    /// Goes on with the frames of a stream. True when some were held.
    pub(in crate::hub) fn release(&mut self, key: StreamKey, port: &mut impl Port) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        stream.held = false;
        port.read_again(key);
        !stream.partial.is_empty()
    }

    /// The stream that gives way when its connection opens a conversation on `key`: the one on which the conversation is
    /// open already.
    ///
    /// # Errors
    /// When that one was opened later.
    pub(in crate::hub) fn older(&self, key: StreamKey, id: ConversationId) -> Result<Option<StreamKey>, Code> {
        let at = self.connection_of(key).and_then(|at| self.stream_of(at, id));
        let number = |key: StreamKey| self.streams.get(key).map(|stream| stream.id);
        match at {
            Some(other) if number(other) > number(key) => Err(Code::REOPENED),
            other => Ok(other),
        }
    }

    /// A stream becomes that of a conversation, which `channel` names in datagrams from now on.
    ///
    /// # Errors
    /// When its connection has as many of them as it may have.
    pub(in crate::hub) fn begin_conversation(
        &mut self,
        key: StreamKey,
        id: ConversationId,
        channel: u64,
        port: &mut impl Port,
    ) -> Result<(), Code> {
        let Some(at) = self.connection_of(key) else { return Err(Code::BUSY) };
        let Some(connection) = self.connections.get_mut(at) else { return Err(Code::BUSY) };
        let most = connection.session.as_ref().map_or(0, |session| session.streams);
        if connection.open.len() >= most {
            return Err(Code::TOO_MANY_STREAMS);
        }
        for (_, other) in &connection.open {
            if let Some(other) = self.streams.get_mut(*other).filter(|other| other.channel == channel) {
                other.channel = 0;
            }
        }
        connection.open.push((id, key));
        if let Some(stream) = self.streams.get_mut(key) {
            (stream.role, stream.channel) = (Role::Conversation, channel);
        }
        port.watch_stop(key);
        Ok(())
    }

    /// A stream becomes the session stream of its connection. False when there is one.
    pub(in crate::hub) fn begin_session(&mut self, key: StreamKey, port: &mut impl Port) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let Some(connection) = self.connections.get_mut(stream.connection) else { return false };
        if connection.session_stream.is_some() {
            return false;
        }
        (stream.role, connection.session_stream) = (Role::Session, Some(key));
        port.watch_stop(key);
        true
    }

    /// A stream becomes that of a request.
    ///
    /// # Errors
    /// When its connection has too many of them.
    pub(in crate::hub) fn begin_request(&mut self, key: StreamKey) -> Result<(), Code> {
        let Some(stream) = self.streams.get_mut(key) else { return Err(Code::BUSY) };
        let Some(connection) = self.connections.get_mut(stream.connection) else { return Err(Code::BUSY) };
        if connection.requests >= REQUESTS {
            return Err(Code::BUSY);
        }
        connection.requests += 1;
        (stream.is_request, stream.role) = (true, Role::Request);
        Ok(())
    }

    /// A stream is finished once what it has to say is written.
    pub(in crate::hub) fn begin_ending(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        (stream.role, stream.held) = (Role::Ending, false);
        let dropped = std::mem::take(&mut stream.partial).len();
        if let Some(connection) = self.connections.get_mut(stream.connection) {
            connection.partial -= dropped;
            connection.open.retain(|(_, open)| *open != key);
            connection.user.into_iter().for_each(|user| self.users.forget_reads(user, stream.connection, key));
        }
    }

    /// Puts a frame on a stream before any further event.
    pub(in crate::hub) fn say<M: Message>(&mut self, key: StreamKey, message: &M) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.out.control(message);
        }
    }

    /// Puts encoded frames on a stream before any further event.
    pub(in crate::hub) fn say_frames(&mut self, key: StreamKey, frames: &[u8]) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.out.control_bytes(frames);
        }
    }

    /// True while a stream takes no more.
    pub(in crate::hub) fn is_blocked(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_none_or(|stream| stream.out.blocked())
    }

    /// A stream takes more again.
    pub(in crate::hub) fn unblock(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.out.unblock();
        }
    }

    /// What a stream has to write.
    pub(in crate::hub) fn out(&mut self, key: StreamKey) -> Option<&mut Out> {
        self.streams.get_mut(key).map(|stream| &mut stream.out)
    }

    /// What a stream has to write, if it takes any more.
    pub(in crate::hub) fn writable(&mut self, key: StreamKey) -> Option<&mut Out> {
        let stream = self.streams.get_mut(key)?;
        (!stream.over && !stream.out.blocked()).then_some(&mut stream.out)
    }

    /// Writes what a stream has to write. True when it takes more. What filled it may have ended it.
    pub(in crate::hub) fn write(&mut self, key: StreamKey, port: &mut impl Port) -> bool {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.over) else { return false };
        let gone = if !stream.out.is_empty() {
            match stream.out.write(key, port) {
                Wrote::All => return true,
                Wrote::Blocked => false,
                // A client that reads no longer is owed a reset. One whose connection is gone is owed nothing.
                Wrote::Gone => {
                    port.reset(key, Code::BYE);
                    true
                }
            }
        } else if stream.role == Role::Ending {
            port.finish(key);
            true
        } else {
            false
        };
        if gone {
            self.given_up(key);
        }
        false
    }

    /// Ends both sides of a stream at once.
    pub(in crate::hub) fn reset(&mut self, key: StreamKey, code: Code, port: &mut impl Port) {
        port.reset(key, code);
        self.given_up(key);
    }

    /// A stream is over.
    pub(in crate::hub) fn given_up(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key)
            && !std::mem::replace(&mut stream.over, true)
        {
            self.over.push(Over::Stream(key));
        }
    }

    /// Forgets a stream that is over. A connection whose session stream is given up is over too.
    pub(in crate::hub) fn remove_stream(&mut self, key: StreamKey, port: &mut impl Port) {
        port.forget_stream(key);
        let Some(stream) = self.streams.remove(key) else { return };
        let at = stream.connection;
        let Some(connection) = self.connections.get_mut(at) else { return };
        connection.partial -= stream.partial.len();
        connection.streams.retain(|other| *other != key);
        connection.requests -= usize::from(stream.is_request);
        if connection.session_stream == Some(key) {
            connection.session_stream = None;
            connection.reason = port.disconnected(at).unwrap_or(super::DisconnectReason::Goodbye);
            self.close(at, Code::BYE, port);
        }
    }
}
