//! Datagrams: what may be lost and is never stored.

use quip_protocol::{Message, frame, limit, session::Signal};

use super::{
    ConnectionKey, Worker,
    stream::{Role, Stream},
};

impl Worker {
    /// Passes a client's signal on to everyone else who has the conversation open. What is malformed, too
    /// large or too much is dropped: a datagram may be lost anyway.
    pub(super) fn signal(&mut self, at: ConnectionKey, data: &[u8]) {
        let Some(signal) = decode(data) else { return };
        let now = self.now;
        let Some(connection) = self.connections.get_mut(at) else { return };
        let Some(session) = connection.session.as_mut() else { return };
        if session.signals.take(now).is_err() {
            return;
        }
        let user = session.identity.user.clone();
        let theirs =
            |(_, key): &&(_, super::StreamKey)| self.streams.get(*key).is_some_and(|s| s.id() == signal.stream);
        let Some((id, key)) = connection.open.iter().find(theirs).copied() else { return };
        if !self.streams.get(key).is_some_and(is_member) {
            return;
        }
        let Some(conversation) = self.conversations.get(&id) else { return };
        for key in &conversation.followers {
            let Some(stream) = self.streams.get(*key).filter(|stream| stream.connection != at) else { continue };
            if !is_member(stream) {
                continue;
            }
            let signal = Signal { stream: stream.id(), user: user.as_str(), ..signal };
            if let Some(session) = self.connections[stream.connection].session.as_mut()
                && session.signals_out.take(now).is_ok()
            {
                // A peer without room for datagrams, or without support for them, gets none.
                let _ = self.connections[stream.connection].quic.send_datagram(frame::to_datagram(&signal));
            }
        }
    }
}

/// Signals are for members: not for who is still opening, nor for who reads what was said until they left.
fn is_member(stream: &Stream) -> bool {
    matches!(&stream.role, Role::Conversation(follower) if follower.following() && follower.until == u64::MAX)
}

fn decode(data: &[u8]) -> Option<Signal<'_>> {
    let frame = frame::from_datagram(data).ok()?;
    let signal = (frame.kind == Signal::TYPE).then(|| frame::decode::<Signal<'_>>(frame.body).ok()).flatten()?;
    let kind_is_free = signal.kind == TYPING || signal.kind >= OWN;
    (kind_is_free && signal.body.0.len() <= limit::SIGNAL).then_some(signal)
}

/// Kinds of signal that may be sent: the others are reserved.
const TYPING: u64 = 1;
const OWN: u64 = 16;
