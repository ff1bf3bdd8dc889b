//! Reads of the store: whose turn it is, and what the answers are for.

use quip_protocol::Code;
use quip_store::Busy;

use super::{
    Hub,
    keys::{ConnectionKey, StreamKey},
    links::ReadFor,
    port::Port,
    reads::{Found, Got, Query, Read, ReadDone, Wanted},
};

impl<P: Port> Hub<P> {
    /// Has something read for a stream, which ends if the readers are busy.
    pub(super) fn ask(&mut self, stream: StreamKey, query: Query) {
        let purpose = ReadFor::Stream(stream);
        if self.try_ask(purpose, query).is_err() {
            self.not_read(purpose);
        }
    }

    /// Has something read, unless the readers are busy.
    pub(super) fn try_ask(&mut self, purpose: ReadFor, query: Query) -> Result<(), Busy> {
        let Some((connection, query)) = self.links.begin_read(purpose, query) else { return Ok(()) };
        self.read_for(connection, purpose, query).inspect_err(|Busy| drop(self.links.next_read(connection)))
    }

    fn read_for(&mut self, connection: ConnectionKey, purpose: ReadFor, query: Query) -> Result<(), Busy> {
        self.port.read(Read(Wanted::ForStream { connection, stream: purpose.stream(), query }))
    }

    /// A read is done.
    pub(super) fn read_done(&mut self, done: ReadDone) {
        match done.0 {
            Got::ForStream { connection, stream, found } => {
                self.read_next(connection);
                self.found(stream, found);
            }
            Got::LastSeen(commands) => _ = self.submit_last_seen(commands),
            Got::GroupMembers(pages) => self.notify(pages),
            Got::Silent(page) => self.forgetting.read(page, self.now),
        }
    }

    /// A connection's next read begins.
    fn read_next(&mut self, connection: ConnectionKey) {
        while let Some((purpose, query)) = self.links.next_read(connection)
            && self.read_for(connection, purpose, query).is_err()
        {
            self.not_read(purpose);
        }
    }

    fn found(&mut self, stream: StreamKey, found: Found) {
        match found {
            Found::Warm(command) => self.warmed(stream, *command),
            // Nobody waits for anything else.
            _ if self.links.role(stream).is_none() => {}
            Found::Rows(rows) => {
                let at = self.links.connection_of(stream);
                let Some(session) = at.and_then(|at| self.links.session(at)) else { return };
                let opening = self.rooms.rows(stream, rows, &session.rights);
                self.go_on_opening(stream, opening);
            }
            Found::Page(page) => self.page(stream, page),
            Found::Frames(frames) => self.answer(stream, &frames),
            Found::Present(members) => self.answer_presence(stream, members),
        }
    }

    /// A follower's next events were read.
    fn page(&mut self, stream: StreamKey, page: Result<quip_store::EventPage, quip_store::ReadError>) {
        let Some(out) = self.links.out(stream) else { return };
        match self.rooms.page(stream, page, out) {
            Ok(()) => self.pump(stream),
            Err(code) => self.end(stream, code, 0),
        }
    }

    /// The readers are busy.
    fn not_read(&mut self, purpose: ReadFor) {
        match purpose {
            ReadFor::Stream(stream) if self.links.role(stream).is_some() => self.end(stream, Code::BUSY, 0),
            ReadFor::Stream(_) => {}
            ReadFor::Mark(stream) => self.mark_again(stream),
        }
    }
}
