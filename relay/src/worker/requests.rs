//! Request streams: one request, its answer, finish.

use quip_protocol::{Code, ToRelay, frame};

use super::{
    StreamKey, Worker,
    endpoint::STREAMS_BEFORE_HELLO,
    intake::Next,
    reads::{self, Known, Read, encode_end},
    session::presence,
    stream::Role,
};

/// Requests of one connection that are under way or not yet taken by the client: each answer may be a page.
const REQUESTS: usize = STREAMS_BEFORE_HELLO as usize;
/// Bytes of events in one page of history.
const HISTORY_BYTES: usize = 256 << 10;

impl Worker {
    /// The only frame of a request stream.
    pub(super) fn request(&mut self, key: StreamKey, request: &ToRelay<'_>) -> Next {
        let at = self.streams[key].connection;
        let Some(user) = self.connections[at].user().cloned() else { return Next::Nothing };
        let limits = &self.shared.config.limits;
        let (page, list) = (limits.history_page, limits.list_page);
        if self.connections[at].requests >= REQUESTS {
            return self.refuse_open(key, Code::BUSY);
        }
        self.connections[at].requests += 1;
        self.streams[key].is_request = true;
        self.streams[key].role = Role::Request;
        match request {
            ToRelay::History(ask) => {
                let ask = *ask;
                self.ask(key, move |view| Read::Answer(reads::history(view, &user, &ask, page, HISTORY_BYTES)));
            }
            ToRelay::List(ask) => {
                let ask = *ask;
                self.ask(key, move |view| Read::Answer(reads::list(view, &user, &ask, list)));
            }
            ToRelay::Members(ask) => {
                let (id, after, limit) = (ask.conversation, ask.after.to_owned(), ask.limit);
                self.ask(key, move |view| Read::Answer(reads::members(view, &user, id, &after, limit, list)));
            }
            ToRelay::PresenceIn(ask) => {
                let (id, after) = (ask.conversation, ask.after.to_owned());
                let limit = (ask.limit as usize).clamp(1, list);
                self.ask(key, move |view| Read::Members(reads::present(view, &user, id, &after, limit)));
            }
            _ => return self.violation(at, Code::UNEXPECTED),
        }
        if self.streams.contains_key(key) { Next::Frame } else { Next::Nothing }
    }

    /// A request's answer was read.
    pub(super) fn answer(&mut self, key: StreamKey, answer: &[u8]) {
        self.streams[key].out.control_bytes(answer);
        self.end_quietly(key);
    }

    /// The members whose presence was asked for were read.
    pub(super) fn answer_presence(&mut self, key: StreamKey, members: Result<(Vec<Known>, bool), Code>) {
        let mut answer = Vec::new();
        match members {
            Err(code) => encode_end(code, 0, &mut answer),
            Ok((members, more)) => {
                for (user, stored) in &members {
                    frame::encode(&presence(user, self.presence_of(user, *stored)), &mut answer);
                }
                encode_end(Code::DONE, u64::from(more), &mut answer);
            }
        }
        self.answer(key, &answer);
    }
}
