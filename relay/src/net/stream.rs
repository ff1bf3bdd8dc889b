//! One QUIC stream, read and written without a task of its own.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use quip_protocol::Code;

use super::{
    live_first::Unsent,
    ready::{Ready, Side},
};
use crate::hub::{ConnectionKey, Priority, StreamKey, Wrote};

/// A stream that a client opened.
pub(super) struct Stream {
    key: StreamKey,
    pub(super) connection: ConnectionKey,
    priority: Priority,
    send: SendStream,
    /// Until the client has finished its side, or given it up.
    recv: Option<RecvStream>,
    read_waker: Waker,
    /// Made when the stream first takes no more.
    write_waker: Option<Waker>,
    /// If the hub wants to hear when the client reads the stream no longer.
    stop: Option<Stop>,
}

/// Waits for the client to read a stream no longer.
struct Stop {
    /// False when the stream ended in another way, as with its connection, which says so itself.
    stopped: Pin<Box<dyn Future<Output = bool> + Send>>,
    waker: Waker,
}

/// What reading gave.
pub(super) enum Arrived {
    Bytes(Bytes),
    Nothing,
    /// The client finished its side.
    Finished,
    /// The client gave the stream up, or the connection is gone.
    Gone,
}

impl Stream {
    pub(super) fn new(
        key: StreamKey,
        connection: ConnectionKey,
        send: SendStream,
        recv: RecvStream,
        ready: &Arc<Ready>,
    ) -> Self {
        let read_waker = ready.waker(key, Side::Read);
        let priority = Priority::Request;
        Self { key, connection, priority, send, recv: Some(recv), read_waker, write_waker: None, stop: None }
    }

    /// Has [`Stream::is_stopped`] asked when the client reads the stream no longer.
    pub(super) fn watch_stop(&mut self, ready: &Arc<Ready>) {
        let stopped = self.send.stopped();
        let waker = ready.waker(self.key, Side::Stop);
        // The first look is the one that has it woken.
        waker.wake_by_ref();
        self.stop = Some(Stop { stopped: Box::pin(async move { matches!(stopped.await, Ok(Some(_))) }), waker });
    }

    /// True when the client reads the stream no longer.
    pub(super) fn is_stopped(&mut self) -> bool {
        let Some(Stop { stopped, waker }) = &mut self.stop else { return false };
        match stopped.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(stopped) => {
                self.stop = None;
                stopped
            }
            Poll::Pending => false,
        }
    }

    /// What is written here should leave at once.
    pub(super) fn is_live(&self) -> bool {
        self.priority >= Priority::Live
    }

    /// Takes what has arrived. After `Nothing`, the waker says when there is more.
    pub(super) fn read(&mut self) -> Arrived {
        let Some(recv) = &mut self.recv else { return Arrived::Nothing };
        let mut context = Context::from_waker(&self.read_waker);
        let read = pin!(recv.read_chunk(usize::MAX, true)).poll(&mut context);
        match read {
            Poll::Pending => Arrived::Nothing,
            Poll::Ready(Ok(Some(chunk))) => Arrived::Bytes(chunk.bytes),
            Poll::Ready(Ok(None)) => {
                self.recv = None;
                Arrived::Finished
            }
            Poll::Ready(Err(ReadError::Reset(_) | ReadError::ConnectionLost(_) | ReadError::ClosedStream)) => {
                self.recv = None;
                Arrived::Gone
            }
            Poll::Ready(Err(ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected)) => Arrived::Gone,
        }
    }

    /// Writes what the stream takes; `unsent` is the connection's, if this is live data.
    pub(super) fn write(&mut self, chunks: &mut Vec<Bytes>, ready: &Arc<Ready>, unsent: Option<&Unsent>) -> Wrote {
        while !chunks.is_empty() {
            let waker = self.write_waker.as_ref().unwrap_or(Waker::noop());
            let mut context = Context::from_waker(waker);
            let wrote = pin!(self.send.write_chunks(chunks)).poll(&mut context);
            match wrote {
                Poll::Ready(Ok(written)) => {
                    drop(chunks.drain(..written.chunks));
                    unsent.inspect(|unsent| unsent.add(written.bytes));
                }
                Poll::Ready(Err(_)) => return Wrote::Gone,
                Poll::Pending if self.write_waker.is_none() => {
                    self.write_waker = Some(ready.waker(self.key, Side::Write));
                }
                Poll::Pending => return Wrote::Blocked,
            }
        }
        Wrote::All
    }

    /// Sets the priority among the connection's streams.
    pub(super) fn set_priority(&mut self, priority: Priority) {
        if self.priority != priority {
            self.priority = priority;
            // A stream that is gone already needs no priority.
            let _ = self.send.set_priority(priority as i32);
        }
    }

    /// Ends the relay's side after what was written, and the client's with it.
    pub(super) fn finish(mut self) {
        // The client may have given the stream up already. Then there is nothing left to end.
        let _ = self.send.finish();
        self.stop(Code::BYE);
    }

    /// Ends both sides at once.
    pub(super) fn reset(mut self, code: Code) {
        // As above.
        let _ = self.send.reset(varint(code));
        self.stop(code);
    }

    fn stop(&mut self, code: Code) {
        if let Some(mut recv) = self.recv.take() {
            // As above.
            let _ = recv.stop(varint(code));
        }
    }
}

/// A code as QUIC's application error code.
pub(super) fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
