//! One turn of the network thread: everything that arrived goes to the hub.

use std::{collections::HashMap, sync::Arc};

use quinn::VarInt;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Parts,
    endpoint::Arrival,
    quic::{Quic, disconnect_reason},
    ready::{Side, StreamWaker},
    stream::Arrived,
};
use crate::hub::{ConnectionKey, Hub, Mailbox, Phase, StreamKey};

/// Feeds a hub.
pub(super) struct Driver {
    hub: Hub<Quic>,
    mailbox: Mailbox,
    arrivals: mpsc::Receiver<Arrival>,
    /// Connections by the number that their arrivals carry.
    numbers: HashMap<u64, ConnectionKey>,
}

/// Arrivals and pieces of mail taken in one turn.
const TAKEN_A_TURN: usize = 256;
/// Chunks taken from one stream in one turn.
const READS_A_TURN: usize = 8;

impl Driver {
    pub(super) fn new(parts: &Parts, mailbox: Mailbox, arrivals: mpsc::Receiver<Arrival>) -> Self {
        let quic = Quic::new(Arc::clone(&parts.submit), Arc::clone(&parts.readers), mailbox.clone());
        let hub = Hub::new(Arc::clone(&parts.setup), quic, Instant::now());
        Self { hub, mailbox, arrivals, numbers: HashMap::new() }
    }

    pub(super) fn phase(&self) -> Phase {
        self.hub.phase()
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.hub.enter(phase);
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.hub.next_deadline()
    }

    /// Does what there is to do, in bounded pieces. True when there is more.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        self.hub.begin_turn(now);
        let arrived = self.take_arrivals();
        let mail = self.take_mail();
        self.take_ready();
        let behind = self.hub.advance();
        self.hub.tick();
        arrived || mail || behind || self.hub.port().has_unread()
    }

    fn take_arrivals(&mut self) -> bool {
        for _ in 0..TAKEN_A_TURN {
            let Ok(arrival) = self.arrivals.try_recv() else { return false };
            self.arrived(arrival);
        }
        true
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connected { number, quic } => {
                let key = self.hub.port().connected(quic);
                self.numbers.insert(number, key);
                self.hub.connected(key);
            }
            Arrival::Stream { number, send, recv } => {
                let Some(connection) = self.numbers.get(&number).copied() else { return };
                let id = VarInt::from(recv.id()).into_inner();
                let stream = self.hub.port().stream_opened(connection, send, recv);
                self.hub.stream_opened(connection, stream, id);
            }
            Arrival::Datagram { number, data } => {
                if let Some(connection) = self.numbers.get(&number) {
                    self.hub.datagram(*connection, &data);
                }
            }
            Arrival::Closed { number, error } => {
                if let Some(connection) = self.numbers.remove(&number) {
                    self.hub.disconnected(connection, disconnect_reason(&error));
                }
            }
        }
    }

    fn take_mail(&mut self) -> bool {
        for _ in 0..TAKEN_A_TURN {
            let Some(mail) = self.mailbox.take() else { return false };
            self.hub.mail(mail);
        }
        true
    }

    fn take_ready(&mut self) {
        for stream in self.hub.port().take_unread() {
            self.readable(stream);
        }
        let mut woken: Vec<Arc<StreamWaker>> = Vec::new();
        self.hub.port().take_ready(&mut woken);
        for waker in &woken {
            match waker.side {
                Side::Read => self.readable(waker.key),
                Side::Write => self.hub.writable(waker.key),
                Side::Stop if self.hub.port().is_stopped(waker.key) => self.hub.stopped(waker.key),
                Side::Stop => {}
            }
        }
    }

    /// Reads what a stream has, as long as the hub takes it.
    fn readable(&mut self, stream: StreamKey) {
        for _ in 0..READS_A_TURN {
            if !self.hub.takes_input(stream) {
                return;
            }
            match self.hub.port().read(stream) {
                Arrived::Bytes(chunk) => self.hub.received(stream, &chunk),
                Arrived::Nothing => return,
                Arrived::Finished => return self.hub.finished(stream),
                Arrived::Gone => return self.hub.given_up(stream),
            }
        }
        self.hub.port().read_later(stream);
    }
}
