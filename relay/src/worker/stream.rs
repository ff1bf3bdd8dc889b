//! One QUIC stream, read and written without a task of its own.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use quip_protocol::{Code, Message, frame};

use super::{
    ConnectionKey, StreamKey,
    follower::Follower,
    live_first::Unsent,
    ready::{Ready, Side},
};

/// A stream that a client opened.
pub(super) struct Stream {
    pub(super) connection: ConnectionKey,
    pub(super) role: Role,
    /// The beginning of a frame whose end has not arrived, or frames that wait while `held`.
    pub(super) partial: Vec<u8>,
    /// Began with a request.
    pub(super) is_request: bool,
    /// Frames are not looked at until what came before them is decided.
    pub(super) held: bool,
    priority: i32,
    send: SendStream,
    recv: Option<RecvStream>,
    pub(super) out: Out,
    read_waker: Waker,
}

/// What a stream is for, told by its first frame.
pub(super) enum Role {
    /// Nothing arrived yet.
    Fresh,
    /// QUIC stream 0.
    Session,
    /// Its request is being answered.
    Request,
    /// A conversation.
    Conversation(Box<Follower>),
    /// Finished once everything is written.
    Ending,
}

/// What there is to write.
#[derive(Default)]
pub(super) struct Out {
    /// Being written; the first may be the rest of a frame.
    chunks: Vec<Bytes>,
    /// Frames to write before any further event.
    control: Vec<u8>,
    /// Made when the stream first cannot take more.
    waker: Option<Waker>,
    blocked: bool,
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

/// What writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is written.
    All,
    /// The stream cannot take more; its waker tells when.
    Blocked,
    /// The client gave the stream up, or the connection is gone.
    Gone,
}

/// Priorities among a connection's streams. A new stream, such as a request, has 0, the lowest.
pub(super) mod priority {
    /// Events that are not new.
    pub(in super::super) const CATCHING_UP: i32 = 1;
    /// Events as they happen, to a stream that has all before them.
    pub(in super::super) const LIVE: i32 = 2;
    /// The session stream.
    pub(in super::super) const SESSION: i32 = 3;
}

/// Chunks that one write hands to QUIC.
pub(super) const CHUNKS: usize = 32;
/// Bytes from which on nothing is added to one write.
const CHUNK_BYTES: usize = 16 << 10;

impl Stream {
    pub(super) fn new(
        connection: ConnectionKey,
        key: StreamKey,
        send: SendStream,
        recv: RecvStream,
        ready: &Arc<Ready>,
    ) -> Self {
        let role = if recv.id().index() == 0 { Role::Session } else { Role::Fresh };
        let read_waker = ready.waker(key, Side::Read);
        Self {
            connection,
            role,
            partial: Vec::new(),
            is_request: false,
            held: false,
            priority: 0,
            send,
            recv: Some(recv),
            out: Out::default(),
            read_waker,
        }
    }

    /// What is written here should leave at once.
    pub(super) fn is_live(&self) -> bool {
        self.priority >= priority::LIVE
    }

    /// The QUIC stream id.
    pub(super) fn id(&self) -> u64 {
        VarInt::from(self.send.id()).into_inner()
    }

    /// The follower, on a conversation stream.
    pub(super) fn follower(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            Role::Conversation(follower) => Some(follower),
            _ => None,
        }
    }

    /// Takes what has arrived. After `Nothing`, the waker tells when there is more.
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

    /// Writes what the stream takes; `unsent` is the connection's, if it is live data.
    pub(super) fn flush(&mut self, key: StreamKey, ready: &Arc<Ready>, unsent: Option<&Unsent>) -> Flushed {
        while !self.out.chunks.is_empty() {
            let waker = self.out.waker.as_ref().unwrap_or(Waker::noop());
            let mut context = Context::from_waker(waker);
            let wrote = pin!(self.send.write_chunks(&mut self.out.chunks)).poll(&mut context);
            match wrote {
                Poll::Ready(Ok(written)) => {
                    drop(self.out.chunks.drain(..written.chunks));
                    unsent.inspect(|unsent| unsent.add(written.bytes));
                }
                Poll::Ready(Err(_)) => return Flushed::Gone,
                Poll::Pending if self.out.waker.is_none() => self.out.waker = Some(ready.waker(key, Side::Write)),
                Poll::Pending => {
                    self.out.blocked = true;
                    return Flushed::Blocked;
                }
            }
        }
        Flushed::All
    }

    /// Sets the priority among the connection's streams; higher goes first.
    pub(super) fn set_priority(&mut self, priority: i32) {
        if self.priority != priority {
            self.priority = priority;
            // A stream that is gone already needs no priority.
            let _ = self.send.set_priority(priority);
        }
    }

    /// Ends the relay's side after what was written, and the client's with it.
    pub(super) fn finish(&mut self) {
        // The client may have given the stream up already; then there is nothing left to end.
        let _ = self.send.finish();
        self.stop(Code::BYE);
    }

    /// Ends both sides at once.
    pub(super) fn reset(&mut self, code: Code) {
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

impl Out {
    /// Puts a frame before any further event.
    pub(super) fn control<M: Message>(&mut self, message: &M) {
        frame::encode(message, &mut self.control);
    }

    /// Puts frames that are encoded already before any further event.
    pub(super) fn control_bytes(&mut self, frames: &[u8]) {
        self.control.extend_from_slice(frames);
    }

    /// How many control bytes wait.
    pub(super) fn control_waiting(&self) -> usize {
        self.control.len()
    }

    /// True while the stream cannot take more.
    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    /// The stream can take more again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// True when nothing is being written: the place for what comes next.
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

    /// True while more may be appended: a stream that is not read pins what it was given.
    pub(super) fn has_room(&self) -> bool {
        self.chunks.len() < CHUNKS && self.chunks.iter().map(Bytes::len).sum::<usize>() < CHUNK_BYTES
    }
}

/// A code as QUIC's application error code.
pub(super) fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
