//! The sending side of a stream, which only ends between frames.

use bytes::{Buf, Bytes};
use quinn::{SendStream, VarInt, WriteError};

/// What is written to a stream.
///
/// Dropped inside a frame, it resets the stream. quinn would finish it, and to a relay a stream that is finished inside a
/// frame is a protocol violation: it closes the connection for good.
pub(super) struct Outgoing {
    send: SendStream,
    /// Not written yet.
    rest: Bytes,
}

impl Outgoing {
    pub(super) fn new(send: SendStream) -> Self {
        Self { send, rest: Bytes::new() }
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Writes these frames next, after everything before them is written.
    pub(super) fn put(&mut self, frames: Bytes) {
        debug_assert!(self.is_empty(), "frames are written one batch after the other");
        self.rest = frames;
    }

    /// Writes some of it. Cancel-safe.
    pub(super) async fn write(&mut self) -> Result<(), WriteError> {
        let written = self.send.write(&self.rest).await?;
        self.rest.advance(written);
        Ok(())
    }

    /// The relay reads no more.
    pub(super) fn stopped(&mut self) {
        self.rest.clear();
    }

    /// Ends the stream: finishes it, or inside a frame resets it.
    pub(super) fn end(&mut self) {
        // A stream that has ended already is as it should be.
        if std::mem::take(&mut self.rest).is_empty() {
            self.send.finish().ok();
        } else {
            self.send.reset(VarInt::from_u32(0)).ok();
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.end();
        }
    }
}
