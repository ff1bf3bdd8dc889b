//! Request streams: one request, its answer, finish.

use quip_protocol::{Code, ToRelay, frame};
use quip_store::PageLimit;

use super::{
    Hub,
    intake::Next,
    keys::{ConnectionKey, StreamKey},
    links::Cost,
    port::Port,
    reads::{MembersOf, Query, UserSeen, encode_end},
};

/// Bytes of events in one page of history.
const HISTORY_BYTES: usize = 256 << 10;

impl<P: Port> Hub<P> {
    /// The only frame of a request stream.
    pub(super) fn request(&mut self, stream: StreamKey, at: ConnectionKey, request: &ToRelay<'_>) -> Next {
        if let Err(wait) = self.links.charge(stream, Cost::Request, self.now) {
            return self.refuse_for_now(stream, wait);
        }
        let Some(session) = self.links.session(at) else { return Next::Frame };
        let rights = session.rights.clone();
        let limits = &self.setup.config.limits;
        let capped = |limit: u64, most: usize| (limit as usize).clamp(1, most);
        let members =
            |id, after: &str, limit| MembersOf { id, after: after.to_owned(), limit: capped(limit, limits.list_page) };
        let query = match request {
            ToRelay::History(ask) => {
                let limit = PageLimit { events: capped(ask.limit, limits.history_page), bytes: HISTORY_BYTES };
                Query::History { rights, ask: *ask, limit }
            }
            ToRelay::List(ask) => {
                Query::List { user: rights.user().clone(), ask: *ask, limit: capped(ask.limit, limits.list_page) }
            }
            ToRelay::Members(ask) => Query::Members { rights, of: members(ask.conversation, ask.after, ask.limit) },
            ToRelay::PresenceIn(ask) => Query::Present { rights, of: members(ask.conversation, ask.after, ask.limit) },
            _ => return self.violation(stream, Code::UNEXPECTED),
        };
        match self.links.begin_request(stream) {
            Ok(()) => self.ask(stream, query),
            Err(code) => return self.refuse(stream, code),
        }
        Next::Frame
    }

    /// A request's answer was read.
    pub(super) fn answer(&mut self, stream: StreamKey, frames: &[u8]) {
        self.links.say_frames(stream, frames);
        self.end_quietly(stream);
    }

    /// The members whose presence was asked for were read.
    pub(super) fn answer_presence(&mut self, stream: StreamKey, members: Result<(Vec<UserSeen>, bool), Code>) {
        let mut frames = Vec::new();
        match members {
            Err(code) => encode_end(code, 0, &mut frames),
            Ok((members, more)) => {
                let time = self.time();
                for (user, stored) in &members {
                    frame::encode(&self.people.state(user, *stored, time).message(user), &mut frames);
                }
                encode_end(Code::DONE, u64::from(more), &mut frames);
            }
        }
        self.answer(stream, &frames);
    }
}
