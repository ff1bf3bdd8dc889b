//! Datagrams: what may be lost and is never stored.

use quip_protocol::{Message, frame, grease, limit, session::Signal};

use super::{Hub, keys::ConnectionKey, port::Port};

/// Kinds of signal that may be sent. The others are reserved.
const TYPING: u64 = 1;
const OWN: u64 = 16;

impl<P: Port> Hub<P> {
    /// Passes a client's signal on to everyone else who has the conversation open. What is malformed, too large or too
    /// frequent is dropped: a datagram may be lost anyway.
    pub(super) fn signal(&mut self, at: ConnectionKey, datagram: &[u8]) {
        let Some(signal) = decode(datagram) else { return };
        let Some(stream) = self.links.take_signal(at, signal.channel, self.now) else { return };
        let Some((user, listeners)) = self.rooms.listeners(stream) else { return };
        let signal = Signal { user: user.as_str(), ..signal };
        for stream in listeners {
            self.links.signal(stream, signal, self.now, &mut self.port);
        }
    }
}

fn decode(data: &[u8]) -> Option<Signal<'_>> {
    let frame = frame::from_datagram(data).ok()?;
    let signal = (frame.kind == Signal::TYPE).then(|| frame::decode::<Signal<'_>>(frame.body).ok()).flatten()?;
    let kind_is_free = signal.kind == TYPING || (signal.kind >= OWN && !grease::is_reserved(signal.kind));
    (kind_is_free && signal.body.0.len() <= limit::SIGNAL).then_some(signal)
}
