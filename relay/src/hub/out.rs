//! What a stream has to write.

use bytes::Bytes;
use quip_protocol::{Message, frame};

use super::keys::StreamKey;

use super::port::{Port, Wrote};

/// Chunks that are being written, and control frames that go before any further event.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// The first one may be the rest of a frame.
    chunks: Vec<Bytes>,
    control: Vec<u8>,
    blocked: bool,
}

/// Chunks that one write hands over.
const CHUNKS: usize = 32;
/// Bytes from which on nothing is added to one write.
const CHUNK_BYTES: usize = 16 << 10;

impl Out {
    /// Puts a frame before any further event.
    pub(super) fn control<M: Message>(&mut self, message: &M) {
        frame::encode(message, &mut self.control);
    }

    /// Puts encoded frames before any further event.
    pub(super) fn control_bytes(&mut self, frames: &[u8]) {
        self.control.extend_from_slice(frames);
    }

    /// How many control bytes wait.
    pub(super) fn control_waiting(&self) -> usize {
        self.control.len()
    }

    /// True while the stream takes no more.
    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    /// The stream takes more again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// True when nothing is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Moves the control frames into what is written next.
    pub(super) fn put_control(&mut self) {
        if !self.control.is_empty() {
            self.chunks.push(std::mem::take(&mut self.control).into());
        }
    }

    /// Appends to what is written next.
    pub(super) fn put(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// True while more may be appended. A stream that its client does not read pins what it was given.
    pub(super) fn has_room(&self) -> bool {
        self.chunks.len() < CHUNKS && self.chunks.iter().map(Bytes::len).sum::<usize>() < CHUNK_BYTES
    }

    /// Writes as much as the stream takes.
    pub(super) fn write(&mut self, stream: StreamKey, port: &mut impl Port) -> Wrote {
        let wrote = port.write(stream, &mut self.chunks);
        self.blocked = wrote == Wrote::Blocked;
        wrote
    }
}
