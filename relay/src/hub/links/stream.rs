//! One stream that a client opened.

use quip_protocol::Code;

use crate::hub::{keys::ConnectionKey, out::Out};

/// One stream.
pub(super) struct Stream {
    pub(super) connection: ConnectionKey,
    /// QUIC's number for it. A stream that was opened later has a higher one.
    pub(super) id: u64,
    /// Names its conversation in datagrams; 0 = none.
    pub(super) channel: u64,
    pub(super) role: Role,
    /// Where the frame that is looked at begins: bytes before it on the stream.
    pub(super) offset: u64,
    /// Its type, once that was read.
    pub(super) kind: Option<u64>,
    /// The beginning of a frame whose end has not arrived, or frames that wait while `held`.
    pub(super) partial: Vec<u8>,
    /// It began with a request.
    pub(super) is_request: bool,
    /// Frames wait until what came before them is decided.
    pub(super) held: bool,
    pub(super) out: Out,
    /// It is over and still to be settled.
    pub(super) over: bool,
}

/// What a stream is for, as its first frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum Role {
    /// No whole frame has been looked at yet.
    Fresh,
    /// It began with `Hello`.
    Session,
    /// Its request is being answered.
    Request,
    /// A conversation.
    Conversation,
    /// Finished once everything is written.
    Ending,
}

impl Stream {
    pub(super) fn new(connection: ConnectionKey, id: u64) -> Self {
        Self {
            connection,
            id,
            channel: 0,
            role: Role::Fresh,
            offset: 0,
            kind: None,
            partial: Vec::new(),
            is_request: false,
            held: false,
            out: Out::default(),
            over: false,
        }
    }
    /// What is said to the people who mend a client that broke the protocol here.
    pub(super) fn complaint(&self, code: Code) -> String {
        let Self { id, offset, .. } = self;
        match self.kind {
            Some(kind) => format!("stream {id}, type {kind:#x}, offset {offset}: {code}"),
            None => format!("stream {id}, offset {offset}: {code}"),
        }
    }
}
