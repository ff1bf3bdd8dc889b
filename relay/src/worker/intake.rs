//! What comes from the network: connections, streams, bytes, frames.

use bytes::Bytes;
use quinn::ConnectionError;
use quip_protocol::{
    Code, Frame, Message, ToRelay,
    conversation::Open,
    frame::split,
    request::{History, List, Members, PresenceIn},
    session::Hello,
};

use super::{
    ConnectionKey, Phase, StreamKey, Worker,
    connection::Connection,
    endpoint::Arrival,
    stream::{Arrived, Role, Stream, varint},
};
use crate::presence::Gone;

/// What follows from a frame for those behind it.
pub(super) enum Next {
    /// Look at the next one.
    Frame,
    /// Keep them until this one is decided.
    Hold,
    /// The stream or its connection is gone.
    Nothing,
}

/// Chunks taken from one stream in one turn.
const READS_A_TURN: usize = 8;

impl Worker {
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connected { number, quic } => {
                let key = self.connections.insert(Connection::new(quic, number, self.now));
                self.numbers.insert(number, key);
            }
            Arrival::Stream { number, send, recv } => {
                let Some(connection) = self.numbers.get(&number).copied() else { return };
                let ready = &self.ready;
                let key = self.streams.insert_with_key(|key| Stream::new(connection, key, send, recv, ready));
                self.stream_opened(connection, key);
            }
            Arrival::Datagram { number, data } => {
                if let Some(connection) = self.numbers.get(&number).copied() {
                    self.signal(connection, &data);
                }
            }
            Arrival::Closed { number, error } => {
                let Some(key) = self.numbers.get(&number).copied() else { return };
                self.connections[key].gone = how_gone(&error);
                self.drop_connection(key);
            }
        }
    }

    fn stream_opened(&mut self, at: ConnectionKey, key: StreamKey) {
        let connection = &mut self.connections[at];
        connection.streams.push(key);
        if matches!(self.streams[key].role, Role::Session) {
            connection.session_stream = Some(key);
            self.readable(key);
        } else if connection.session.is_some() {
            self.readable(key);
        }
    }

    /// Reads what a stream has, unless what came before must be decided first.
    pub(super) fn readable(&mut self, key: StreamKey) {
        let most = self.shared.config.limits.control_bytes_per_stream;
        for _ in 0..READS_A_TURN {
            let Some(stream) = self.streams.get_mut(key) else { return };
            if stream.held || stream.out.control_waiting() > most || self.phase != Phase::Running {
                return;
            }
            match stream.read() {
                Arrived::Bytes(chunk) => self.received(key, &chunk),
                Arrived::Nothing => return,
                Arrived::Finished => return self.finished(key),
                // What was asked for is read all the same, and counts until then.
                Arrived::Gone if matches!(stream.role, Role::Request) => return,
                Arrived::Gone => return self.drop_stream(key),
            }
        }
        self.unread.push(key);
    }

    /// Goes on with a stream whose frames were held back, and says what became of the one that held them.
    pub(super) fn release(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.held = false;
        if !stream.partial.is_empty() {
            self.received(key, &Bytes::new());
        }
        self.pump(key);
        self.unread.push(key);
        self.wake.notify_one();
    }

    fn received(&mut self, key: StreamKey, chunk: &Bytes) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let mut kept = std::mem::take(&mut stream.partial);
        let at = stream.connection;
        self.connections[at].partial -= kept.len();
        let buffer = if kept.is_empty() {
            &chunk[..]
        } else {
            kept.extend_from_slice(chunk);
            &kept[..]
        };
        let Some(used) = self.frames(key, buffer) else { return };
        self.keep(key, at, buffer[used..].to_vec());
        self.pump(key);
    }

    /// Keeps the beginning of a frame until the rest arrives.
    fn keep(&mut self, key: StreamKey, at: ConnectionKey, rest: Vec<u8>) {
        let most = self.shared.config.limits.partial_frame_bytes_per_connection;
        let connection = &mut self.connections[at];
        if connection.partial + rest.len() > most {
            return self.close(at, Code::BUFFERED);
        }
        connection.partial += rest.len();
        self.streams[key].partial = rest;
    }

    /// Handles the whole frames in `buffer` and says how many bytes they took; `None` if the stream is gone.
    fn frames(&mut self, key: StreamKey, buffer: &[u8]) -> Option<usize> {
        let mut used = 0;
        loop {
            let connection = self.streams.get(key)?.connection;
            match split(&buffer[used..], self.shared.config.limits.frame_bytes) {
                Ok(None) => return Some(used),
                Ok(Some((frame, length))) => {
                    used += length;
                    match self.frame(key, frame) {
                        Next::Frame => {}
                        Next::Hold => {
                            self.streams.get_mut(key)?.held = true;
                            return Some(used);
                        }
                        Next::Nothing => return None,
                    }
                }
                Err(error) => {
                    self.close(connection, error.code());
                    return None;
                }
            }
        }
    }

    fn frame(&mut self, key: StreamKey, frame: Frame<'_>) -> Next {
        let stream = &self.streams[key];
        let connection = stream.connection;
        let welcome = self.connections[connection].session.is_some();
        match stream.role {
            Role::Session if !welcome && frame.kind != Hello::TYPE => {
                return self.violation(connection, Code::UNEXPECTED);
            }
            Role::Fresh if frame.kind == Hello::TYPE => return self.violation(connection, Code::UNEXPECTED),
            Role::Fresh if !opens_a_stream(frame.kind) => return self.reset(key, Code::UNKNOWN_STREAM),
            _ => {}
        }
        let message = match ToRelay::decode(frame) {
            Ok(Some(message)) => message,
            Ok(None) => return Next::Frame,
            Err(error) => return self.violation(connection, error.code()),
        };
        match (&stream.role, message) {
            (Role::Session, ToRelay::Hello(hello)) => self.hello(key, &hello),
            (Role::Session, ToRelay::Refresh(refresh)) => self.refresh(key, refresh.token),
            (Role::Fresh, ToRelay::Open(open)) => self.open(key, &open),
            (Role::Fresh, request) => self.request(key, &request),
            (Role::Conversation(_), ToRelay::Mark(mark)) => self.mark(key, mark),
            (Role::Conversation(_), command) => self.command(key, &command),
            (Role::Ending, _) => Next::Frame,
            _ => self.violation(connection, Code::UNEXPECTED),
        }
    }

    /// The client finished its side.
    fn finished(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else { return };
        let connection = stream.connection;
        match &stream.role {
            _ if !stream.partial.is_empty() => {
                self.violation(connection, Code::TRUNCATED);
            }
            Role::Request | Role::Ending => {}
            Role::Session => {
                self.connections[connection].gone = Gone::Goodbye;
                self.close(connection, Code::BYE);
            }
            Role::Fresh | Role::Conversation(_) => self.end_quietly(key),
        }
    }

    /// Closes a connection that broke the protocol.
    pub(super) fn violation(&mut self, connection: ConnectionKey, code: Code) -> Next {
        self.close(connection, code);
        Next::Nothing
    }

    /// Closes a connection with a code and its text.
    pub(super) fn close(&mut self, key: ConnectionKey, code: Code) {
        self.close_because(key, code, &code.to_string());
    }

    /// Closes a connection with a code and a reason of its own.
    pub(super) fn close_because(&mut self, key: ConnectionKey, code: Code, reason: &str) {
        let Some(connection) = self.connections.get(key) else { return };
        tracing::debug!(user = ?connection.user(), ?code, "closing a connection");
        connection.quic.close(varint(code), reason.as_bytes());
        self.drop_connection(key);
    }

    fn reset(&mut self, key: StreamKey, code: Code) -> Next {
        self.streams[key].reset(code);
        self.drop_stream(key);
        Next::Nothing
    }

    /// Forgets a stream that is over on both sides.
    pub(super) fn drop_stream(&mut self, key: StreamKey) {
        self.detach(key);
        let Some(stream) = self.streams.remove(key) else { return };
        let Some(connection) = self.connections.get_mut(stream.connection) else { return };
        connection.partial -= stream.partial.len();
        connection.streams.retain(|other| *other != key);
        connection.requests -= usize::from(stream.is_request);
        if connection.session_stream == Some(key) {
            // Given up by the client, unless the whole connection is over.
            connection.gone = connection.quic.close_reason().map_or(Gone::Goodbye, |error| how_gone(&error));
            self.close(stream.connection, Code::BYE);
        }
    }

    fn drop_connection(&mut self, key: ConnectionKey) {
        for stream in std::mem::take(&mut self.connections[key].streams) {
            self.detach(stream);
            self.streams.remove(stream);
        }
        let Some(connection) = self.connections.remove(key) else { return };
        self.numbers.remove(&connection.number);
        self.left(key, &connection);
    }
}

fn how_gone(error: &ConnectionError) -> Gone {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == Code::BYE.0 => Gone::Goodbye,
        ConnectionError::TimedOut => Gone::Silent,
        _ => Gone::Broken,
    }
}

fn opens_a_stream(kind: u64) -> bool {
    [Open::TYPE, History::TYPE, List::TYPE, Members::TYPE, PresenceIn::TYPE].contains(&kind)
}
