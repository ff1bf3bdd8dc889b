//! What leaves on streams, how they end, and what follows when something is over.

use quip_protocol::{Code, conversation::End};

use super::{
    Hub,
    keys::StreamKey,
    links::Over,
    port::{Port, Priority},
    reads::{Query, encode_end},
    rooms::{Filled, Left},
};

impl<P: Port> Hub<P> {
    /// Writes what a stream has to say, as long as it takes it.
    pub(super) fn pump(&mut self, stream: StreamKey) {
        while let Some(out) = self.links.writable(stream) {
            if out.is_empty() {
                match self.rooms.fill(stream, out) {
                    Filled::Same => {}
                    Filled::Follows(priority) => self.port.set_priority(stream, priority),
                    Filled::Behind(page) => {
                        self.port.set_priority(stream, Priority::CatchingUp);
                        self.ask(stream, Query::Page(page));
                    }
                    Filled::Complete => return self.end(stream, Code::ENDED, 0),
                }
            }
            if !self.links.write(stream, &mut self.port) {
                return;
            }
        }
    }

    /// Goes on with a stream whose frames were held, and says what became of the one that held them.
    pub(super) fn release(&mut self, stream: StreamKey) {
        if self.links.release(stream, &mut self.port) {
            self.take_in(stream, &bytes::Bytes::new());
        }
        self.pump(stream);
    }

    /// Ends a stream with a last frame that says why.
    pub(super) fn end(&mut self, stream: StreamKey, code: Code, info: u64) {
        let mut last = Vec::new();
        encode_end(code, info, &mut last);
        self.links.say_frames(stream, &last);
        self.end_quietly(stream);
    }

    /// Ends a stream and says how many milliseconds to wait before the same again.
    pub(super) fn end_after(&mut self, stream: StreamKey, code: Code, retry_after: u64) {
        self.links.say(stream, &End { code, retry_after, info: 0, text: &code.to_string() });
        self.end_quietly(stream);
    }

    /// Ends a stream after what is to be written.
    pub(super) fn end_quietly(&mut self, stream: StreamKey) {
        self.leave(stream);
        self.links.begin_ending(stream);
        self.pump(stream);
    }

    /// Takes a stream off its conversation. What its user has read stays read.
    fn leave(&mut self, stream: StreamKey) {
        self.submit_mark(stream, true);
        if let Some(Left { connection, watched }) = self.rooms.leave(stream) {
            self.people.unwatch(&watched, connection);
        }
    }

    /// Does what follows from connections and streams that are over.
    pub(super) fn settle(&mut self) {
        while let Some(over) = self.links.next_over() {
            match over {
                Over::Stream(stream) => {
                    self.leave(stream);
                    self.links.begin_ending(stream);
                    self.links.remove_stream(stream, &mut self.port);
                }
                Over::Connection(connection) => {
                    self.links.streams_of(connection).into_iter().for_each(|stream| self.leave(stream));
                    if let Some(gone) = self.links.remove_connection(connection, &mut self.port) {
                        let time = self.time();
                        let shown = self.people.left(&gone.user, connection, gone.reason, gone.heard, self.now, time);
                        self.show(shown);
                    }
                }
            }
        }
    }
}
