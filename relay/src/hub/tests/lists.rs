//! A port of lists: what the hub did is there to be looked at, and a test says what the world does.

use std::collections::VecDeque;

use bytes::Bytes;
use quip_core::Command;
use quip_order::SubmitError;
use quip_protocol::Code;
use quip_store::Busy;
use slotmap::{SecondaryMap, SlotMap};

use crate::hub::{
    keys::{ConnectionKey, StreamKey},
    links::UserKey,
    port::{DisconnectReason, Port, Priority, Wrote},
    reads::{Query, Read, Wanted},
};

/// The world.
#[derive(Default)]
pub(in crate::hub) struct Lists {
    connection_keys: SlotMap<ConnectionKey, ()>,
    stream_keys: SlotMap<StreamKey, ()>,
    pub(in crate::hub) connections: SecondaryMap<ConnectionKey, Connection>,
    pub(in crate::hub) streams: SecondaryMap<StreamKey, Stream>,
    /// Streams whose input is wanted again.
    pub(in crate::hub) read_again: Vec<StreamKey>,
    pub(in crate::hub) submitted: Vec<Command>,
    /// Reads of streams that are under way.
    pub(in crate::hub) reads: VecDeque<(UserKey, StreamKey, Query)>,
    /// Reads of the relay's own.
    pub(in crate::hub) own_reads: VecDeque<Wanted>,
    /// What the order says to the next commands.
    pub(in crate::hub) refusal: Option<SubmitError>,
    /// The readers take nothing.
    pub(in crate::hub) busy: bool,
}

/// One connection.
#[derive(Default)]
pub(in crate::hub) struct Connection {
    pub(in crate::hub) closed: Option<Code>,
    /// What was said of that.
    pub(in crate::hub) reason: String,
    pub(in crate::hub) over: Option<DisconnectReason>,
    pub(in crate::hub) forgotten: bool,
    pub(in crate::hub) frames: u64,
    pub(in crate::hub) streams: u32,
    pub(in crate::hub) send_window: u64,
    pub(in crate::hub) datagrams: Vec<Bytes>,
}

/// One stream.
pub(in crate::hub) struct Stream {
    pub(in crate::hub) written: Vec<u8>,
    /// Bytes that it takes until it is blocked.
    pub(in crate::hub) room: usize,
    pub(in crate::hub) gone: bool,
    pub(in crate::hub) priority: Priority,
    /// The hub hears of a client that reads it no longer.
    pub(in crate::hub) watched: bool,
    pub(in crate::hub) finished: bool,
    pub(in crate::hub) reset: Option<Code>,
    pub(in crate::hub) forgotten: bool,
}

impl Lists {
    pub(in crate::hub) fn connect(&mut self) -> ConnectionKey {
        let key = self.connection_keys.insert(());
        self.connections.insert(key, Connection::default());
        key
    }

    pub(in crate::hub) fn open(&mut self) -> StreamKey {
        let key = self.stream_keys.insert(());
        let stream = Stream {
            written: Vec::new(),
            room: usize::MAX,
            gone: false,
            priority: Priority::Request,
            watched: false,
            finished: false,
            reset: None,
            forgotten: false,
        };
        self.streams.insert(key, stream);
        key
    }
}

impl Port for Lists {
    fn write(&mut self, stream: StreamKey, chunks: &mut Vec<Bytes>) -> Wrote {
        assert!(!chunks.is_empty(), "nothing to write");
        let stream = &mut self.streams[stream];
        assert!(!stream.forgotten, "written to after the end");
        if stream.gone {
            return Wrote::Gone;
        }
        while let Some(chunk) = chunks.first_mut() {
            let taken = chunk.split_to(chunk.len().min(stream.room));
            stream.room -= taken.len();
            stream.written.extend_from_slice(&taken);
            if !chunk.is_empty() {
                return Wrote::Blocked;
            }
            chunks.remove(0);
        }
        Wrote::All
    }

    fn set_priority(&mut self, stream: StreamKey, priority: Priority) {
        self.streams[stream].priority = priority;
    }

    fn read_again(&mut self, stream: StreamKey) {
        self.read_again.push(stream);
    }

    fn watch_stop(&mut self, stream: StreamKey) {
        self.streams[stream].watched = true;
    }

    fn finish(&mut self, stream: StreamKey) {
        let stream = &mut self.streams[stream];
        assert!(!stream.forgotten, "finished after the end");
        (stream.finished, stream.forgotten) = (true, true);
    }

    fn reset(&mut self, stream: StreamKey, code: Code) {
        let stream = &mut self.streams[stream];
        assert!(!stream.forgotten, "reset after the end");
        (stream.reset, stream.forgotten) = (Some(code), true);
    }

    fn forget_stream(&mut self, stream: StreamKey) {
        self.streams[stream].forgotten = true;
    }

    fn close(&mut self, connection: ConnectionKey, code: Code, reason: &str) {
        let connection = &mut self.connections[connection];
        assert_eq!(connection.closed, None, "closed twice");
        (connection.closed, connection.reason) = (Some(code), reason.to_owned());
    }

    fn forget_connection(&mut self, connection: ConnectionKey) {
        self.connections[connection].forgotten = true;
    }

    fn disconnected(&self, connection: ConnectionKey) -> Option<DisconnectReason> {
        self.connections[connection].over
    }

    fn allow_streams(&mut self, connection: ConnectionKey, count: u32) {
        self.connections[connection].streams = count;
    }

    fn set_send_window(&mut self, connection: ConnectionKey, bytes: u64) {
        self.connections[connection].send_window = bytes;
    }

    fn send_datagram(&mut self, connection: ConnectionKey, datagram: Bytes) {
        self.connections[connection].datagrams.push(datagram);
    }

    fn frames_received(&self, connection: ConnectionKey) -> u64 {
        self.connections[connection].frames
    }

    fn submit(&mut self, command: Command) -> Result<(), SubmitError> {
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => {
                self.submitted.push(command);
                Ok(())
            }
        }
    }

    fn read(&mut self, read: Read) -> Result<(), Busy> {
        if self.busy {
            return Err(Busy);
        }
        match read.0 {
            Wanted::ForStream { user, stream, query } => self.reads.push_back((user, stream, query)),
            own => self.own_reads.push_back(own),
        }
        Ok(())
    }
}
