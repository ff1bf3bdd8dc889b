//! What the hub asks of the world around it: the network, the order and the store's readers.
//!
//! `net` implements [`Port`] with QUIC. The unit tests implement it with lists.

use bytes::Bytes;
use quip_core::Command;
use quip_order::SubmitError;
use quip_protocol::Code;
use quip_store::Busy;

use super::{
    keys::{ConnectionKey, StreamKey},
    reads::Read,
};

/// The hub's way out. No call waits.
pub trait Port {
    /// Writes as much as the stream takes and removes it from `chunks`, which is not empty.
    fn write(&mut self, stream: StreamKey, chunks: &mut Vec<Bytes>) -> Wrote;

    /// Sets the priority of a stream among those of its connection. Cheap if nothing changes.
    fn set_priority(&mut self, stream: StreamKey, priority: Priority);

    /// The stream's input is wanted again, though nothing new may have arrived.
    fn read_again(&mut self, stream: StreamKey);

    /// The hub is to hear it at once when the client reads a stream no longer, even if nothing is being written.
    fn watch_stop(&mut self, stream: StreamKey);

    /// Ends the relay's side after what was written, and the client's with it. The stream is forgotten.
    fn finish(&mut self, stream: StreamKey);

    /// Ends both sides at once. The stream is forgotten.
    fn reset(&mut self, stream: StreamKey, code: Code);

    /// Forgets a stream that is over.
    fn forget_stream(&mut self, stream: StreamKey);

    /// Closes a connection with a code and a text. It stays known until [`Port::forget_connection`].
    fn close(&mut self, connection: ConnectionKey, code: Code, reason: &str);

    /// Forgets a connection that is over. Its streams were forgotten before.
    fn forget_connection(&mut self, connection: ConnectionKey);

    /// Why a connection is over, if it is.
    fn disconnected(&self, connection: ConnectionKey) -> Option<DisconnectReason>;

    /// Lets a client have this many streams at once.
    fn allow_streams(&mut self, connection: ConnectionKey, count: u32);

    /// Bounds the bytes that a connection may have sent and not acknowledged.
    fn set_send_window(&mut self, connection: ConnectionKey, bytes: u64);

    /// Sends a datagram, if the client takes any and there is room.
    fn send_datagram(&mut self, connection: ConnectionKey, datagram: Bytes);

    /// How many QUIC frames were received on a connection. Any of them is a sign of life.
    fn frames_received(&self, connection: ConnectionKey) -> u64;

    /// Queues a command.
    ///
    /// # Errors
    /// When the order did not take it.
    fn submit(&mut self, command: Command) -> Result<(), SubmitError>;

    /// Queues a read of the store. Its answer comes as mail.
    ///
    /// # Errors
    /// When too many reads are waiting.
    fn read(&mut self, read: Read) -> Result<(), Busy>;
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// Everything was taken.
    All,
    /// The stream takes no more for now.
    Blocked,
    /// The client gave the stream up, or the connection is gone.
    Gone,
}

/// Priorities among a connection's streams, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// What every stream begins with, such as a request.
    Request,
    /// Events that are not new.
    CatchingUp,
    /// Events as they happen, on a stream that has everything before them.
    Live,
    /// The session stream.
    Session,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The client said goodbye.
    Goodbye,
    /// The client was silent for the idle timeout.
    Silent,
    /// Anything else. The client may be back in a moment.
    Broken,
}
