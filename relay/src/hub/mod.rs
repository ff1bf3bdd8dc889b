//! The hub decides what happens with what arrives: frames, datagrams, committed batches, reads and time.
//!
//! Four machines with state of their own: `links` (connections and streams), `rooms` (open conversations and their
//! followers), `people` (who is here, last seen, notifications) and `deadlines`. They do not know each other. Their
//! owner [`Hub`] gives each what is for it and passes on what it answers.
//!
//! Whatever the hub does to the world goes through a [`Port`]. It has no socket, no clock and no randomness of its own,
//! and nothing in it waits.

mod about;
mod authority;
mod commands;
mod commits;
mod deadlines;
mod forgetting;
mod intake;
mod keys;
mod last_seen;
mod links;
mod mailbox;
mod opening;
mod out;
mod people;
mod port;
mod reading;
mod reads;
mod requests;
mod rooms;
mod session;
mod sight;
mod signals;
mod streams;
#[cfg(test)]
mod tests;
mod ticks;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use quip_core::Timestamp;
use quip_protocol::Code;
use tokio::{sync::Notify, time::Instant};

pub use keys::{ConnectionKey, StreamKey};
pub(crate) use links::STREAMS_BEFORE_HELLO;
pub use mailbox::{Mail, Mailbox};
pub use port::{DisconnectReason, Port, Priority, Wrote};
pub use reads::{Read, ReadDone};

use crate::{auth::Authenticator, config::Config};
use authority::Rules;
use deadlines::{Deadlines, TICK};
use forgetting::Forgetting;
use links::Links;
use people::People;
use rooms::Rooms;

/// A wall clock, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a hub is made with.
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Decides tokens.
    pub authenticator: Authenticator,
    /// Identity of the log.
    pub generation: u64,
    /// The wall clock.
    pub clock: Clock,
    /// Notified while going away, when no client is connected.
    pub everyone_left: Notify,
    /// Notified while draining, when every user's last-seen time was submitted.
    pub last_seen_submitted: Notify,
}

/// What a relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Running,
    /// It serves, and has told its clients to connect elsewhere. New connections are refused.
    GoingAway,
    /// It takes no more commands. What was taken is still answered.
    Draining,
    /// It says goodbye and ends.
    Stopping,
}

impl Phase {
    /// Whether clients that are connected are served.
    fn serves(self) -> bool {
        matches!(self, Self::Running | Self::GoingAway)
    }
}

/// The owner of the four machines; see the module.
pub struct Hub<P> {
    port: P,
    links: Links,
    rooms: Rooms,
    people: People,
    deadlines: Deadlines,
    forgetting: Forgetting,
    rules: Arc<Rules>,
    setup: Arc<Setup>,
    phase: Phase,
    /// Of this turn.
    now: Instant,
}

impl<P: Port> Hub<P> {
    /// A hub without connections.
    pub fn new(setup: Arc<Setup>, port: P, now: Instant) -> Self {
        let config = &setup.config;
        Self {
            port,
            links: Links::new(Arc::clone(config)),
            rooms: Rooms::new(Arc::clone(config), setup.generation),
            people: People::new(config, TICK),
            deadlines: Deadlines::new(config, now),
            forgetting: Forgetting::new(config.store.send_numbers_kept, now),
            rules: Arc::new(Rules::new(config)),
            setup,
            phase: Phase::Running,
            now,
        }
    }

    /// The way out that it was made with.
    pub fn port(&mut self) -> &mut P {
        &mut self.port
    }

    /// What the relay is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Instant {
        self.deadlines.next()
    }

    /// Everything up to the next call happens at `now`.
    pub fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// A client connected.
    pub fn connected(&mut self, connection: ConnectionKey) {
        self.links.connected(connection, self.now);
        if self.phase != Phase::Running {
            self.send_away(connection);
            self.settle();
        }
    }

    /// A connection is over.
    pub fn disconnected(&mut self, connection: ConnectionKey, reason: DisconnectReason) {
        self.links.disconnected(connection, reason);
        self.settle();
    }

    /// A client opened a stream, which QUIC knows as `id`.
    pub fn stream_opened(&mut self, connection: ConnectionKey, stream: StreamKey, id: u64) {
        self.links.stream_opened(connection, stream, id, &mut self.port);
    }

    /// A datagram arrived.
    pub fn datagram(&mut self, connection: ConnectionKey, datagram: &[u8]) {
        self.signal(connection, datagram);
    }

    /// True while the input of a stream is to be read.
    pub fn takes_input(&self, stream: StreamKey) -> bool {
        self.phase.serves() && self.links.takes_input(stream)
    }

    /// Bytes arrived on a stream.
    pub fn received(&mut self, stream: StreamKey, bytes: &Bytes) {
        self.take_in(stream, bytes);
        self.settle();
    }

    /// The client finished its side of a stream.
    pub fn finished(&mut self, stream: StreamKey) {
        self.input_ended(stream);
        self.settle();
    }

    /// The client gave up its side of a stream, or the connection is gone.
    pub fn given_up(&mut self, stream: StreamKey) {
        match self.links.role(stream) {
            // That cancels it: no answer is wanted any more.
            Some(links::Role::Request) => self.links.reset(stream, Code::BYE, &mut self.port),
            _ => self.links.given_up(stream),
        }
        self.settle();
    }

    /// The client reads a stream no longer: it is over, on both sides.
    pub fn stopped(&mut self, stream: StreamKey) {
        match (self.links.role(stream), self.links.connection_of(stream)) {
            (Some(links::Role::Session), Some(at)) => self.links.goodbye(at, &mut self.port),
            (Some(_), _) => self.links.reset(stream, Code::BYE, &mut self.port),
            (None, _) => {}
        }
        self.settle();
    }

    /// A stream takes more again.
    pub fn writable(&mut self, stream: StreamKey) {
        self.links.unblock(stream);
        self.pump(stream);
        self.settle();
    }

    /// Mail arrived.
    pub fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Committed(batch) => self.committed(&batch),
            Mail::Read(done) => self.read_done(done),
        }
        self.settle();
    }

    /// Gives some of the followers that may be behind their turn. True when there are more.
    pub fn advance(&mut self) -> bool {
        for stream in self.rooms.next_turns() {
            self.pump(stream);
        }
        self.settle();
        self.rooms.has_turns()
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        if let Some(tick) = self.deadlines.tick(self.now) {
            self.do_tick(tick);
        }
        match self.phase {
            Phase::GoingAway if self.links.is_empty() => self.setup.everyone_left.notify_one(),
            Phase::Draining => self.submit_all_last_seen(),
            _ => {}
        }
        self.settle();
    }

    /// The relay goes on to another phase.
    pub fn enter(&mut self, phase: Phase) {
        // The first of these may be left out when both come at once.
        if self.phase == Phase::Running && phase != Phase::Stopping {
            self.go_away();
        }
        if phase == Phase::Draining {
            self.people.all_due(self.now);
        }
        self.phase = phase;
        self.settle();
    }

    /// The time on the wall clock.
    fn time(&self) -> Timestamp {
        (self.setup.clock)()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time())
    }
}
