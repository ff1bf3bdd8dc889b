//! Connections and their streams: who each client is, what arrives and leaves, and how much of it.
//!
//! A connection or stream that is over stays here, and does nothing any more, until its owner has settled what follows
//! from it: see [`Links::next_over`].

mod connection;
mod numbered;
mod rate;
mod read_queue;
mod silence;
mod stream;
mod streams;
mod users;

use std::sync::Arc;

use quip_core::Timestamp;
use quip_protocol::{
    Code, ConversationId, Message, UserId, frame, grease,
    session::{Signal, Welcome},
};
use slotmap::SecondaryMap;
use tokio::time::Instant;

pub(super) use connection::Session;
pub(super) use numbered::{Numbered, numbered};
pub(super) use rate::Cost;
pub(super) use read_queue::ReadFor;
pub(super) use stream::Role;
pub(super) use users::UserKey;

use super::{
    authority::Rights,
    keys::{ConnectionKey, StreamKey},
    out::Out,
    port::{DisconnectReason, Port, Priority},
};
use crate::config::Config;
use connection::Connection;
use stream::Stream;
use users::Users;

/// Connections, streams and users.
pub(super) struct Links {
    connections: SecondaryMap<ConnectionKey, Connection>,
    streams: SecondaryMap<StreamKey, Stream>,
    users: Users,
    /// Bytes that each connection may have in flight.
    send_window: u64,
    /// What is over and still to be settled.
    over: Vec<Over>,
    config: Arc<Config>,
}

/// What is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// A connection and all of its streams.
    Connection(ConnectionKey),
    /// A stream.
    Stream(StreamKey),
}

/// What is to be known of a connection that is gone.
pub(super) struct Departure {
    pub(super) user: UserId,
    pub(super) reason: DisconnectReason,
    /// When the client was last heard.
    pub(super) heard: Timestamp,
}

/// Bytes that may wait on a session stream. A client that does not read it has to connect again.
const SESSION_BYTES: usize = 256 << 10;
/// Streams that a client may open before the relay knows how many it wants, and beside its conversations after that.
/// quinn allocates their slots up front, so the credit is raised once, by `Welcome`.
pub(crate) const STREAMS_BEFORE_HELLO: u32 = 8;

impl Links {
    /// No connections.
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            connections: SecondaryMap::new(),
            streams: SecondaryMap::new(),
            users: Users::new(Arc::clone(&config)),
            send_window: config.limits.send_window_bytes as u64,
            over: Vec::new(),
            config,
        }
    }

    /// A client connected.
    pub(super) fn connected(&mut self, key: ConnectionKey, now: Instant) {
        self.connections.insert(key, Connection::new(now));
    }

    /// All connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.connections.keys()
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Who a client is, once it said so.
    pub(super) fn session(&self, key: ConnectionKey) -> Option<&Session> {
        self.connections.get(key)?.session.as_ref()
    }

    /// When a client was last heard; 0 for one that is gone.
    pub(super) fn heard(&self, key: ConnectionKey) -> Timestamp {
        self.connections.get(key).map_or(0, |connection| connection.heard.time)
    }

    /// The stream on which a connection has a conversation open.
    pub(super) fn stream_of(&self, key: ConnectionKey, id: ConversationId) -> Option<StreamKey> {
        self.connections.get(key)?.stream_of(id)
    }

    /// Lets a client in: its session stream says so.
    pub(super) fn welcome(
        &mut self,
        stream: StreamKey,
        session: Session,
        welcome: &Welcome<'_>,
        now: Instant,
        port: &mut impl Port,
    ) {
        let Some(Stream { connection: key, out, .. }) = self.streams.get_mut(stream) else { return };
        let key = *key;
        out.control_bytes(&greased(welcome, &session));
        port.set_priority(stream, Priority::Session);
        port.allow_streams(key, stream_credit(session.streams));
        port.set_send_window(key, self.send_window);
        let Some(connection) = self.connections.get_mut(key) else { return };
        (connection.heard.at, connection.heard.time) = (now, welcome.time);
        connection.user = Some(self.users.came(session.rights.user(), now));
        connection.session = Some(session);
    }

    /// True when a user has as many connections as they may have.
    pub(super) fn is_full(&self, user: &UserId) -> bool {
        self.users.is_full(user)
    }

    /// A newer connection of the same user is to be let in as `newer`. If it is the same device, this one gives way: after a
    /// while if it is the same process, which is moving between networks or relays, and otherwise at once. It is at once
    /// too if the user has as many connections as allowed.
    pub(super) fn give_way(&mut self, key: ConnectionKey, newer: &Session, now: Instant, port: &mut impl Port) {
        let Some(older) = self.connections.get_mut(key).and_then(|connection| connection.session.as_mut()) else {
            return;
        };
        if older.device != newer.device {
            return;
        }
        if older.instance != newer.instance {
            self.close(key, Code::REPLACED, port);
        } else if self.users.is_full(newer.rights.user()) {
            // Not REPLACED, which is for good: the client may not know that it moved.
            self.close(key, Code::BYE, port);
        } else {
            // Connecting again and again does not keep the older ones open.
            older.overlap_until.get_or_insert(now + self.config.limits.device_overlap);
        }
    }

    /// Takes one of the new tokens that a connection may bring. False when there are too many.
    pub(super) fn take_refresh(&mut self, key: ConnectionKey, now: Instant) -> bool {
        let session = self.connections.get_mut(key).and_then(|connection| connection.session.as_mut());
        session.is_some_and(|session| session.refreshes.take(now).is_ok())
    }

    /// A connection brought a new token. Gives the conversations that it has open.
    pub(super) fn refreshed(&mut self, key: ConnectionKey, rights: Rights) -> Vec<StreamKey> {
        let Some(connection) = self.connections.get_mut(key) else { return Vec::new() };
        if let Some(session) = &mut connection.session {
            session.rights = rights;
        }
        connection.open.iter().map(|(_, stream)| *stream).collect()
    }

    /// Puts a message on a connection's session stream and writes it.
    pub(super) fn tell<M: Message>(&mut self, key: ConnectionKey, message: &M, port: &mut impl Port) {
        self.put(key, port, |out| out.control(message));
    }

    /// Puts an encoded frame on a connection's session stream and writes it.
    pub(super) fn tell_frame(&mut self, key: ConnectionKey, frame: &[u8], port: &mut impl Port) {
        self.put(key, port, |out| out.control_bytes(frame));
    }

    fn put(&mut self, key: ConnectionKey, port: &mut impl Port, put: impl FnOnce(&mut Out)) {
        let Some(stream) = self.connections.get(key).and_then(|connection| connection.session_stream) else { return };
        let Some(out) = self.streams.get_mut(stream).filter(|stream| !stream.over).map(|stream| &mut stream.out) else {
            return;
        };
        put(out);
        if out.control_waiting() > SESSION_BYTES {
            return self.close(key, Code::OVERLOADED, port);
        }
        while let Some(out) = self.writable(stream) {
            if out.is_empty() {
                out.put_control();
            }
            if !self.write(stream, port) {
                return;
            }
        }
    }

    /// A client sent a signal on a channel. Gives the stream of its conversation, unless there were too many signals.
    pub(super) fn take_signal(&mut self, key: ConnectionKey, channel: u64, now: Instant) -> Option<StreamKey> {
        let connection = self.connections.get(key)?;
        if !self.users.take_signal(connection.user?, now) {
            return None;
        }
        let theirs = |key: &StreamKey| self.streams.get(*key).is_some_and(|its| its.channel == channel && channel > 0);
        connection.open.iter().map(|(_, key)| *key).find(theirs)
    }

    /// Sends a signal to the client of a stream, unless it was sent too many.
    pub(super) fn signal(&mut self, stream: StreamKey, signal: Signal<'_>, now: Instant, port: &mut impl Port) {
        let Some(Stream { connection, channel, .. }) = self.streams.get(stream).filter(|stream| stream.channel > 0)
        else {
            return;
        };
        let session = self.connections.get_mut(*connection).and_then(|connection| connection.session.as_mut());
        if session.is_some_and(|session| session.signals_out.take(now).is_ok()) {
            port.send_datagram(*connection, frame::to_datagram(&Signal { channel: *channel, ..signal }));
        }
    }

    /// A client said goodbye.
    pub(super) fn goodbye(&mut self, key: ConnectionKey, port: &mut impl Port) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.reason = DisconnectReason::Goodbye;
        }
        self.close(key, Code::BYE, port);
    }

    /// Closes a connection with a code and its text.
    pub(super) fn close(&mut self, key: ConnectionKey, code: Code, port: &mut impl Port) {
        self.close_because(key, code, &code.to_string(), port);
    }

    /// Closes a connection with a code and a text of its own.
    pub(super) fn close_because(&mut self, key: ConnectionKey, code: Code, reason: &str, port: &mut impl Port) {
        let Some(connection) = self.connections.get(key).filter(|connection| !connection.over) else { return };
        let user = connection.session.as_ref().map(|session| session.rights.user());
        tracing::debug!(?user, ?code, "closing a connection");
        port.close(key, code, reason);
        self.begin_over(key);
    }

    /// Closes the connection of a stream on which the protocol was broken. The text says where.
    pub(super) fn violated(&mut self, key: StreamKey, code: Code, port: &mut impl Port) {
        let Some(stream) = self.streams.get(key) else { return };
        let (at, reason) = (stream.connection, stream.complaint(code));
        self.close_because(at, code, &reason, port);
    }

    /// A connection is over by itself.
    pub(super) fn disconnected(&mut self, key: ConnectionKey, reason: DisconnectReason) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.reason = reason;
        }
        self.begin_over(key);
    }

    fn begin_over(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.over, true) {
            for stream in &connection.streams {
                if let Some(stream) = self.streams.get_mut(*stream) {
                    stream.over = true;
                }
            }
            connection.user.into_iter().for_each(|user| self.users.left(user));
            self.over.push(Over::Connection(key));
        }
    }

    /// Something that is over and still to be settled: [`Links::remove_stream`] and [`Links::remove_connection`] end that.
    pub(super) fn next_over(&mut self) -> Option<Over> {
        self.over.pop()
    }

    /// The streams of a connection.
    pub(super) fn streams_of(&self, key: ConnectionKey) -> Vec<StreamKey> {
        self.connections.get(key).map_or_else(Vec::new, |connection| connection.streams.clone())
    }

    /// No user is kept.
    #[cfg(test)]
    pub(super) fn assert_nobody_known(&self) {
        assert!(self.users.is_empty());
    }

    /// Forgets a connection that is over.
    pub(super) fn remove_connection(&mut self, key: ConnectionKey, port: &mut impl Port) -> Option<Departure> {
        let connection = self.connections.remove(key)?;
        for stream in connection.streams {
            self.streams.remove(stream);
            port.forget_stream(stream);
        }
        connection.user.into_iter().for_each(|user| self.users.forget_all_reads(user, key));
        port.forget_connection(key);
        let user = connection.session?.rights.user().clone();
        Some(Departure { user, reason: connection.reason, heard: connection.heard.time })
    }
}

/// `Welcome` with an extension and a frame behind it that mean nothing.
fn greased(welcome: &Welcome<'_>, session: &Session) -> Vec<u8> {
    let (mut out, random) = (Vec::with_capacity(160), session.grease());
    frame::encode_extended(welcome, &[grease::extension(&random.to_le_bytes())], &mut out);
    grease::frame(random, &mut out);
    out
}

/// Streams that a client may have at once, so that it can always ask something with all its conversations open: quinn
/// gives credit back only once more than an eighth of it is used up.
fn stream_credit(conversations: usize) -> u32 {
    (conversations as u32 + 1 + STREAMS_BEFORE_HELLO) * 8 / 7 + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quip_protocol::{
        DeviceId, InstanceId, Items,
        session::{GoAway, Hello},
    };

    use super::*;
    use crate::{
        auth::{Grants, Identity},
        hub::{authority::Rules, reads::Query, tests::lists::Lists},
    };

    fn links() -> (Links, Lists, Instant) {
        (Links::new(Arc::new(Config::development(None, None))), Lists::default(), Instant::now())
    }

    /// A connection with its session stream.
    fn connect(links: &mut Links, port: &mut Lists, now: Instant) -> (ConnectionKey, StreamKey) {
        let (key, stream) = (port.connect(), port.open());
        links.connected(key, now);
        links.stream_opened(key, stream, 0, port);
        assert!(links.begin_session(stream, port));
        (key, stream)
    }

    fn session(links: &Links, device: u8, instance: u8, now: Instant) -> Session {
        let user = UserId::parse("ann").unwrap();
        let identity = Identity { user, expires_at: None, grants: Grants::default() };
        let rights = Rights::new(identity, &Arc::new(Rules::new(&links.config)));
        let (device, instance) = (DeviceId([device; 16]), InstanceId([instance; 16]));
        let hello = Hello { token: "", device, instance, client: "", streams: 4, features: Items::default() };
        Session::new(rights, &hello, &links.config.limits, now)
    }

    fn welcome(links: &mut Links, port: &mut Lists, stream: StreamKey, now: Instant) {
        let session = session(links, 1, 1, now);
        let welcome = Welcome {
            user: "ann",
            generation: 1,
            time: 5,
            expires: 0,
            keepalive: 1,
            idle_timeout: 1,
            streams: 4,
            frame: 1,
            message: 1,
            unanswered: 1,
            unanswered_bytes: 1,
            rate: 1,
            burst: 1,
            relay: "",
            relays: Items::default(),
            features: Items::default(),
        };
        links.welcome(stream, session, &welcome, now, port);
    }

    #[test]
    fn what_is_over_is_settled_once_and_does_nothing_before_that() {
        let (mut links, mut port, now) = links();
        let (key, stream) = connect(&mut links, &mut port, now);
        links.close(key, Code::IDLE, &mut port);
        links.close(key, Code::BYE, &mut port);
        links.given_up(stream);
        links.disconnected(key, DisconnectReason::Broken);
        assert_eq!(port.connections[key].closed, Some(Code::IDLE));
        assert!(links.role(stream).is_none() && !links.takes_input(stream) && links.writable(stream).is_none());
        assert_eq!((links.next_over(), links.next_over()), (Some(Over::Connection(key)), None));
        assert!(links.remove_connection(key, &mut port).is_none(), "nobody had come");
        assert!(port.connections[key].forgotten && port.streams[stream].forgotten);
        let late = port.open();
        links.stream_opened(key, late, 4, &mut port);
        assert!(port.streams[late].forgotten, "a stream that arrives after that");
    }

    #[test]
    fn a_departure_says_who_and_when_they_were_last_heard() {
        let (mut links, mut port, now) = links();
        let (key, stream) = connect(&mut links, &mut port, now);
        welcome(&mut links, &mut port, stream, now);
        port.connections[key].frames = 9;
        assert_eq!(links.look_at(key, now, 77, &mut port), None);
        links.given_up(stream);
        assert_eq!(links.next_over(), Some(Over::Stream(stream)));
        port.connections[key].over = Some(DisconnectReason::Silent);
        links.remove_stream(stream, &mut port);
        assert_eq!(links.next_over(), Some(Over::Connection(key)), "a session stream takes its connection with it");
        let gone = links.remove_connection(key, &mut port).unwrap();
        assert_eq!((gone.user.as_str(), gone.reason, gone.heard), ("ann", DisconnectReason::Silent, 77));
    }

    #[test]
    fn silence_is_noticed_in_steps() {
        let (mut links, mut port, start) = links();
        let (key, stream) = connect(&mut links, &mut port, start);
        welcome(&mut links, &mut port, stream, start);
        let presence = links.config.presence.clone();
        let mut look = |after: Duration| links.look_at(key, start + after, 9, &mut port).map(|change| change.reachable);
        assert_eq!(look(presence.keepalive * 2 - Duration::from_millis(1)), None);
        assert_eq!(look(presence.keepalive * 2), Some(false));
        assert_eq!(look(presence.keepalive * 2), None, "said already");
        assert_eq!(look(presence.idle_timeout), None);
        assert_eq!(port.connections[key].closed, Some(Code::IDLE));
    }

    #[test]
    fn all_connections_share_what_may_be_in_flight() {
        let (mut links, mut port, now) = links();
        let keys: Vec<_> = (0..1000).map(|_| connect(&mut links, &mut port, now).0).collect();
        links.share_send_window(&mut port);
        let limits = &links.config.limits;
        let share = (limits.send_window_total_bytes / 1000) as u64;
        assert!(keys.iter().all(|key| port.connections[*key].send_window == share));
        assert!(share < limits.send_window_bytes as u64);
    }

    #[test]
    fn reads_of_a_user_take_turns() {
        let (mut links, mut port, now) = links();
        let (_, stream) = connect(&mut links, &mut port, now);
        welcome(&mut links, &mut port, stream, now);
        let query = || Query::List {
            user: UserId::parse("ann").unwrap(),
            ask: quip_protocol::request::List { after: ConversationId([0; 16]), limit: 1 },
            limit: 1,
        };
        let most = links.config.limits.reads_per_user;
        let purpose = ReadFor::Stream(stream);
        let begun: Vec<_> = (0..most + 3).filter_map(|_| links.begin_read(purpose, query())).collect();
        assert_eq!(begun.len(), most);
        let user = begun[0].0;
        assert!(links.next_read(user).is_some(), "one is done and the next one begins");
        links.begin_ending(stream);
        assert!(links.next_read(user).is_none(), "a stream that ends takes what waits with it");
    }

    #[test]
    fn a_session_stream_that_is_not_read_ends_its_connection() {
        let (mut links, mut port, now) = links();
        let (key, stream) = connect(&mut links, &mut port, now);
        welcome(&mut links, &mut port, stream, now);
        port.streams[stream].room = 0;
        let message = GoAway { code: Code::SHUTDOWN, within: 1 };
        let told = (0..1_000_000).take_while(|_| {
            links.tell(key, &message, &mut port);
            port.connections[key].closed.is_none()
        });
        assert!((1000..=SESSION_BYTES).contains(&told.count()));
        assert_eq!(port.connections[key].closed, Some(Code::OVERLOADED));
    }
}
