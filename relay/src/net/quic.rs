//! What the hub does to the world, with QUIC.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ConnectionError, ConnectionStats, RecvStream, SendStream, VarInt};
use quip_core::Command;
use quip_order::{Submit, SubmitError};
use quip_protocol::Code;
use quip_store::Busy;
use slotmap::SlotMap;

use super::{
    RunReads,
    live_first::Unsent,
    ready::{Ready, StreamWaker},
    stream::{Arrived, Stream, varint},
};
use crate::hub::{ConnectionKey, DisconnectReason, Mailbox, Port, Priority, Read, StreamKey, Wrote};

/// Connections and streams as QUIC has them, the order and the readers.
pub(super) struct Quic {
    connections: SlotMap<ConnectionKey, Connection>,
    streams: SlotMap<StreamKey, Stream>,
    ready: Arc<Ready>,
    /// Streams to read though no waker says so.
    unread: Vec<StreamKey>,
    submit: Arc<dyn Submit>,
    readers: Arc<dyn RunReads>,
    mailbox: Mailbox,
}

struct Connection {
    quic: quinn::Connection,
    unsent: Unsent,
}

impl Quic {
    pub(super) fn new(submit: Arc<dyn Submit>, readers: Arc<dyn RunReads>, mailbox: Mailbox) -> Self {
        Self {
            connections: SlotMap::with_key(),
            streams: SlotMap::with_key(),
            ready: Ready::new(Arc::clone(mailbox.wake())),
            unread: Vec::new(),
            submit,
            readers,
            mailbox,
        }
    }

    /// A handshake was completed.
    pub(super) fn connected(&mut self, quic: quinn::Connection) -> ConnectionKey {
        self.connections.insert(Connection { unsent: Unsent::of(&quic), quic })
    }

    /// A client opened a stream.
    pub(super) fn stream_opened(&mut self, at: ConnectionKey, send: SendStream, recv: RecvStream) -> StreamKey {
        self.streams.insert_with_key(|key| Stream::new(key, at, send, recv, &self.ready))
    }

    /// Takes what has arrived on a stream. After `Nothing`, its waker says when there is more.
    pub(super) fn read(&mut self, stream: StreamKey) -> Arrived {
        self.streams.get_mut(stream).map_or(Arrived::Nothing, Stream::read)
    }

    /// True when the client reads a stream no longer.
    pub(super) fn is_stopped(&mut self, stream: StreamKey) -> bool {
        self.streams.get_mut(stream).is_some_and(Stream::is_stopped)
    }

    /// Has a stream read in the next turn.
    pub(super) fn read_later(&mut self, stream: StreamKey) {
        self.unread.push(stream);
    }

    /// The streams to read though no waker says so.
    pub(super) fn take_unread(&mut self) -> Vec<StreamKey> {
        std::mem::take(&mut self.unread)
    }

    /// True when there are streams to read though no waker says so.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Moves the streams whose wakers were woken into `into`, which must be empty.
    pub(super) fn take_ready(&self, into: &mut Vec<Arc<StreamWaker>>) {
        self.ready.take(into);
    }
}

impl Port for Quic {
    fn write(&mut self, stream: StreamKey, chunks: &mut Vec<Bytes>) -> Wrote {
        let Some(stream) = self.streams.get_mut(stream) else { return Wrote::Gone };
        let connection = self.connections.get_mut(stream.connection).filter(|_| stream.is_live());
        stream.write(chunks, &self.ready, connection.map(Connection::unsent))
    }

    fn set_priority(&mut self, stream: StreamKey, priority: Priority) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.set_priority(priority);
        }
    }

    fn read_again(&mut self, stream: StreamKey) {
        self.unread.push(stream);
    }

    fn watch_stop(&mut self, stream: StreamKey) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.watch_stop(&self.ready);
        }
    }

    fn finish(&mut self, stream: StreamKey) {
        if let Some(stream) = self.streams.remove(stream) {
            stream.finish();
        }
    }

    fn reset(&mut self, stream: StreamKey, code: Code) {
        if let Some(stream) = self.streams.remove(stream) {
            stream.reset(code);
        }
    }

    fn forget_stream(&mut self, stream: StreamKey) {
        self.streams.remove(stream);
    }

    fn close(&mut self, connection: ConnectionKey, code: Code, reason: &str) {
        if let Some(connection) = self.connections.get(connection) {
            connection.quic.close(varint(code), reason.as_bytes());
        }
    }

    fn forget_connection(&mut self, connection: ConnectionKey) {
        self.connections.remove(connection);
    }

    fn disconnected(&self, connection: ConnectionKey) -> Option<DisconnectReason> {
        let error = self.connections.get(connection)?.quic.close_reason()?;
        Some(disconnect_reason(&error))
    }

    fn allow_streams(&mut self, connection: ConnectionKey, count: u32) {
        if let Some(connection) = self.connections.get(connection) {
            connection.quic.set_max_concurrent_bi_streams(VarInt::from_u32(count));
        }
    }

    fn set_send_window(&mut self, connection: ConnectionKey, bytes: u64) {
        if let Some(connection) = self.connections.get(connection) {
            connection.quic.set_send_window(bytes);
        }
    }

    fn send_datagram(&mut self, connection: ConnectionKey, datagram: Bytes) {
        if let Some(connection) = self.connections.get(connection) {
            // A peer without room for datagrams, or without support for them, gets none.
            let _ = connection.quic.send_datagram(datagram);
        }
    }

    fn frames_received(&self, connection: ConnectionKey) -> u64 {
        self.connections.get(connection).map_or(0, |connection| frames_received(&connection.quic.stats()))
    }

    fn submit(&mut self, command: Command) -> Result<(), SubmitError> {
        self.submit.submit(command)
    }

    fn read(&mut self, read: Read) -> Result<(), Busy> {
        self.readers.run(self.mailbox.job(read))
    }
}

impl Connection {
    /// Counts the live bytes that are written to its streams.
    fn unsent(&mut self) -> &Unsent {
        if self.unsent.is_stale() {
            self.unsent = Unsent::of(&self.quic);
        }
        &self.unsent
    }
}

/// How a connection ended.
pub(super) fn disconnect_reason(error: &ConnectionError) -> DisconnectReason {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == Code::BYE.0 => {
            DisconnectReason::Goodbye
        }
        ConnectionError::TimedOut => DisconnectReason::Silent,
        _ => DisconnectReason::Broken,
    }
}

/// Frames that were decrypted and read. Any of them is a sign of life. quinn's own idle timer is also restarted by what
/// the relay sends, so it proves nothing.
fn frames_received(stats: &ConnectionStats) -> u64 {
    let rx = &stats.frame_rx;
    rx.acks
        + rx.ping
        + rx.stream
        + rx.datagram
        + rx.crypto
        + rx.max_data
        + rx.max_stream_data
        + rx.reset_stream
        + rx.stop_sending
        + rx.new_connection_id
        + rx.retire_connection_id
        + rx.path_challenge
        + rx.path_response
        + rx.data_blocked
        + rx.stream_data_blocked
        + rx.streams_blocked_bidi
        + rx.immediate_ack
        + rx.ack_frequency
}
