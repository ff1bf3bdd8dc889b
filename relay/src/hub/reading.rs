//! Reads of the store: whose turn it is, and what the answers are for.

use quip_protocol::Code;
use quip_store::{Busy, EventPage, ReadError};

use super::{
    Hub,
    keys::StreamKey,
    links::{ReadFor, UserKey},
    port::Port,
    reads::{Found, Got, PageOf, Query, Read, ReadDone, Wanted, read_code},
};

impl<P: Port> Hub<P> {
    /// Has something read for a stream, which ends if the readers are busy.
    pub(super) fn ask(&mut self, stream: StreamKey, query: Query) {
        if self.try_ask(ReadFor::Stream(stream), query).is_err() {
            self.end(stream, Code::BUSY, 0);
        }
    }

    /// Has something read, unless the readers are busy.
    pub(super) fn try_ask(&mut self, purpose: ReadFor, query: Query) -> Result<(), Busy> {
        if self.shares(purpose, &query) {
            return Ok(());
        }
        let Some((user, query)) = self.links.begin_read(purpose, query) else { return Ok(()) };
        self.read_for(user, purpose, query).inspect_err(|Busy| self.links.cancel_read(user))
    }

    fn read_for(&mut self, user: UserKey, purpose: ReadFor, query: Query) -> Result<(), Busy> {
        let stream = purpose.stream();
        let page = if let Query::Page(page) = query { Some(page) } else { None };
        self.port.read(Read(Wanted::ForStream { user, stream, query }))?;
        page.into_iter().for_each(|page| self.rooms.begin_page(stream, page));
        Ok(())
    }

    /// True when what a stream wants is being read for another one. Only a read that has begun is shared: nobody waits for
    /// another's turn.
    fn shares(&mut self, purpose: ReadFor, query: &Query) -> bool {
        matches!(query, Query::Page(page) if self.rooms.share_page(purpose.stream(), *page))
    }

    /// A read is done.
    pub(super) fn read_done(&mut self, done: ReadDone) {
        match done.0 {
            Got::ForStream { user, stream, found } => {
                self.read_next(user);
                self.found(user, stream, found);
            }
            Got::LastSeen(commands) => _ = self.submit_last_seen(commands),
            Got::GroupMembers(pages) => self.notify(pages),
            Got::Expired(page) => self.forgetting.read(page, self.now),
        }
    }

    /// A user's next read begins.
    fn read_next(&mut self, user: UserKey) {
        while let Some((purpose, query)) = self.links.next_read(user) {
            if self.shares(purpose, &query) {
                continue;
            }
            let command = if let Query::Warm(command) = &query { command.number() } else { None };
            match self.read_for(user, purpose, query) {
                Ok(()) => return,
                Err(Busy) => self.not_read(user, purpose, command),
            }
        }
    }

    fn found(&mut self, user: UserKey, stream: StreamKey, found: Found) {
        match found {
            Found::Warm { command, creates } => self.warmed(user, stream, *command, creates),
            Found::Page(of, page) => self.page(stream, of, page),
            // Nobody waits for anything else.
            _ if self.links.role(stream).is_none() => {}
            Found::Rows(rows) => {
                let at = self.links.connection_of(stream);
                let Some(session) = at.and_then(|at| self.links.session(at)) else { return };
                let opening = self.rooms.rows(stream, rows, &session.rights);
                self.go_on_opening(stream, opening);
            }
            Found::Frames(frames) => self.answer(stream, &frames),
            Found::Present(members) => self.answer_presence(stream, members),
        }
    }

    /// A page was read for a stream, and for others that wait for the same.
    fn page(&mut self, stream: StreamKey, of: PageOf, page: Result<EventPage, ReadError>) {
        let page = page.map_err(|error| {
            tracing::error!(%error, "followers cannot catch up");
            read_code(&error)
        });
        for waiting in self.rooms.end_page(stream, of) {
            let Some(out) = self.links.out(waiting) else { continue };
            if let Err(code) = self.rooms.page(waiting, page.as_ref().map_err(|code| *code), out) {
                self.end(waiting, code, 0);
            }
        }
    }

    /// The readers are busy when the turn of a read comes, which may be for command `n`.
    fn not_read(&mut self, user: UserKey, purpose: ReadFor, n: Option<u64>) {
        match (purpose, n) {
            (ReadFor::Mark(stream), _) => self.not_submitted(user, stream),
            (ReadFor::Stream(stream), _) if self.links.role(stream).is_none() => {}
            (ReadFor::Stream(stream), Some(n)) => self.not_warmed(stream, n),
            (ReadFor::Stream(stream), None) => self.end(stream, Code::BUSY, 0),
        }
    }
}
