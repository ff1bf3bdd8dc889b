//! Opening a conversation on a stream.

use std::time::Duration;

use quip_protocol::{Code, conversation::Open};

use super::{
    Hub,
    intake::Next,
    keys::{ConnectionKey, StreamKey},
    links::Cost,
    port::Port,
    reads::in_millis,
    rooms::{OpenRequest, Opening, Seat},
};

impl<P: Port> Hub<P> {
    /// The first frame of a conversation stream.
    pub(super) fn open(&mut self, stream: StreamKey, at: ConnectionKey, open: &Open<'_>) -> Next {
        if let Err(wait) = self.links.charge(stream, Cost::Open { joins: open.join > 0 }, self.now) {
            return self.refuse_for_now(stream, wait);
        }
        let Some(session) = self.links.session(at) else { return Next::Frame };
        let (Ok(target), Ok(start)) = (open.target(), open.start()) else {
            return self.refuse(stream, Code::INVALID_NAME);
        };
        let request = OpenRequest { target, start, join: open.join, digest: open.digest };
        let rights = session.rights.clone();
        let seat = Seat { connection: at, user: rights.user().clone(), device: session.device };
        let id = request.id(&seat.user);
        match self.links.older(stream, id) {
            Ok(None) => {}
            Ok(Some(older)) => self.end(older, Code::REOPENED, 0),
            Err(code) => return self.refuse(stream, code),
        }
        if let Err(code) = self.links.begin_conversation(stream, id, open.channel, &mut self.port) {
            return self.refuse(stream, code);
        }
        let opening = self.rooms.open(stream, &request, seat, &rights);
        self.go_on_opening(stream, opening);
        Next::Hold
    }

    /// Ends a stream with its first frame.
    pub(super) fn refuse(&mut self, stream: StreamKey, code: Code) -> Next {
        self.end(stream, code, 0);
        Next::Frame
    }

    /// Ends a stream with its first frame, because its user did too much lately.
    pub(super) fn refuse_for_now(&mut self, stream: StreamKey, wait: Duration) -> Next {
        self.end_after(stream, Code::RATE, in_millis(wait));
        Next::Frame
    }

    /// Does what an opening needs next.
    pub(super) fn go_on_opening(&mut self, stream: StreamKey, opening: Opening) {
        match opening {
            Opening::Nothing => {}
            Opening::Read(query) => self.ask(stream, query),
            Opening::Join { n, action } => _ = self.submit(stream, n, action),
            Opening::Later => self.deadlines.look_again(stream),
            Opening::End { code, info } => self.end(stream, code, info),
            Opening::Open { frames, companions } => {
                self.links.say_frames(stream, &frames);
                if let Some(at) = self.links.connection_of(stream) {
                    let time = self.time();
                    for (user, stored) in &companions {
                        let now = self.people.watch(user, at, *stored, time);
                        self.tell(at, &now.message(user));
                    }
                }
                self.release(stream);
            }
        }
    }
}
