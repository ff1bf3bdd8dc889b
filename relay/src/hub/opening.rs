//! Opening a conversation on a stream.

use quip_protocol::{Code, conversation::Open};

use super::{
    Hub,
    intake::Next,
    keys::{ConnectionKey, StreamKey},
    port::Port,
    rooms::{OpenRequest, Opening, Seat},
};

impl<P: Port> Hub<P> {
    /// The first frame of a conversation stream.
    pub(super) fn open(&mut self, stream: StreamKey, at: ConnectionKey, open: &Open<'_>) -> Next {
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
