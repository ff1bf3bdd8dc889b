//! The session stream: who the client is, and what it is told besides conversations.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use quinn::VarInt;
use quip_protocol::{
    Code, ConversationId, Items, Kind, LEVEL, Message, UserId,
    event::kind,
    limit,
    session::{Changed, Hello, Marked, Presence, Refreshed, Welcome},
};
use quip_store::{Change, Members, ReadError, View};

use super::{
    ConnectionKey, StreamKey, Worker,
    connection::{Connection, Session, room_of},
    endpoint::STREAMS_BEFORE_HELLO,
    intake::Next,
    rate::Rate,
    reads,
    stream::priority,
    unix_time,
};
use crate::{
    auth::{AuthError, Identity},
    presence::{Shown, State},
};

/// Bytes that may wait on a session stream; a client that does not read it is told to come back.
const SESSION_BYTES: usize = 256 << 10;

impl Worker {
    pub(super) fn hello(&mut self, key: StreamKey, hello: &Hello<'_>) -> Next {
        let at = self.streams[key].connection;
        if self.connections[at].session.is_some() {
            return self.violation(at, Code::UNEXPECTED);
        }
        if hello.token.len() > limit::TOKEN || hello.client.len() > limit::TEXT {
            return self.violation(at, Code::MALFORMED);
        }
        let identity = match self.shared.authenticator.authenticate(hello.token, SystemTime::now()) {
            Ok(identity) => identity,
            Err(error) => return self.turn_away(at, &error),
        };
        let session = self.session(identity, hello);
        tracing::debug!(user = %session.identity.user, device = %session.device, client = hello.client, "welcome");
        self.replace_older(at, &session);
        self.welcome(key, at, session);
        for stream in self.connections[at].streams.clone() {
            if stream != key {
                self.unread.push(stream);
            }
        }
        Next::Frame
    }

    fn session(&self, identity: Identity, hello: &Hello<'_>) -> Session {
        let limits = &self.shared.config.limits;
        Session {
            identity,
            device: hello.device,
            instance: hello.instance,
            streams: (hello.streams as usize).clamp(1, limits.streams_per_connection),
            signals: Rate::new(Some(limits.signal_rate()), self.now),
            signals_out: Rate::new(Some(limits.signal_rate()), self.now),
            refreshes: Rate::per_minute(limits.refreshes_per_minute, self.now),
            level: hello.level.clamp(1, LEVEL),
            overlap_until: None,
        }
    }

    fn turn_away(&mut self, at: ConnectionKey, error: &AuthError) -> Next {
        tracing::info!(%error, "a client was turned away");
        self.close_because(at, auth_code(error), &error.to_string());
        Next::Nothing
    }

    fn replace_older(&mut self, at: ConnectionKey, session: &Session) {
        let others: Vec<_> = self.roster.connections(&session.identity.user).filter(|key| *key != at).collect();
        for other in others {
            let Some(older) = self.connections[other].session.as_mut() else { continue };
            if older.device != session.device {
                continue;
            }
            if older.instance == session.instance {
                // Whoever connects again and again does not keep the older ones open.
                older.overlap_until.get_or_insert(self.now + self.shared.config.limits.device_overlap);
            } else {
                self.close(other, Code::REPLACED);
            }
        }
    }

    fn welcome(&mut self, key: StreamKey, at: ConnectionKey, session: Session) {
        let config = &self.shared.config;
        let credit = stream_credit(session.streams);
        let user = session.identity.user.clone();
        let welcome = Welcome {
            user: user.as_str(),
            level: session.level,
            generation: self.shared.generation,
            time: unix_time(),
            expires: session.identity.expires_at.map_or(0, to_millis),
            keepalive: config.presence.keepalive.as_millis() as u64,
            idle_timeout: config.presence.idle_timeout.as_millis() as u64,
            streams: session.streams as u64,
            frame: config.limits.frame_bytes as u64,
            message: config.limits.message_bytes as u64,
            unanswered: config.limits.unanswered_per_stream as u64,
            relay: &config.name,
            relays: Items::encode(config.relays.iter().map(String::as_str)),
        };
        self.streams[key].out.control(&welcome);
        self.streams[key].set_priority(priority::SESSION);
        let connection = &mut self.connections[at];
        connection.quic.set_max_concurrent_bi_streams(VarInt::from_u32(credit));
        connection.quic.set_send_window(self.send_window);
        connection.heard.at = self.now;
        connection.heard.time = unix_time();
        connection.session = Some(session);
        self.ledger.came(&user, self.now);
        let shown = self.roster.connected(&user, at);
        self.show(shown);
    }

    pub(super) fn refresh(&mut self, key: StreamKey, token: &str) -> Next {
        let at = self.streams[key].connection;
        if token.len() > limit::TOKEN {
            return self.violation(at, Code::MALFORMED);
        }
        let Some(session) = self.connections[at].session.as_mut() else {
            return self.violation(at, Code::UNEXPECTED);
        };
        if session.refreshes.take(self.now).is_err() {
            self.close_because(at, Code::RATE, "too many new tokens a minute");
            return Next::Nothing;
        }
        let identity = match self.shared.authenticator.authenticate(token, SystemTime::now()) {
            Ok(identity) => identity,
            Err(error) => return self.turn_away(at, &error),
        };
        if session.identity.user != identity.user {
            return self.violation(at, Code::USER_CHANGED);
        }
        let expires = identity.expires_at.map_or(0, to_millis);
        session.identity = identity;
        self.streams[key].out.control(&Refreshed { expires });
        self.check_grants(at);
        Next::Frame
    }

    /// What the new token allows holds for open streams too.
    fn check_grants(&mut self, at: ConnectionKey) {
        for (id, stream) in self.connections[at].open.clone() {
            let Some(session) = &self.connections[at].session else { return };
            let naming = self.conversations.get(&id).and_then(|conversation| conversation.naming.as_ref());
            let room = naming.and_then(room_of);
            let authority = session.authority(id.kind(), room.as_ref(), &self.shared.config);
            if let Some(follower) = self.streams.get_mut(stream).and_then(|stream| stream.follower()) {
                follower.authority = authority;
                if !authority.join {
                    self.end(stream, Code::FORBIDDEN, 0);
                }
            }
        }
    }

    /// Puts a message on a connection's session stream.
    pub(super) fn tell<M: Message>(&mut self, at: ConnectionKey, message: &M) {
        let Some(key) = self.connections.get(at).and_then(|connection| connection.session_stream) else { return };
        let out = &mut self.streams[key].out;
        out.control(message);
        if out.control_waiting() > SESSION_BYTES {
            return self.close(at, Code::OVERLOADED);
        }
        self.pump(key);
    }

    /// Tells a user's connections that do not have a conversation open that it changed.
    pub(super) fn tell_changed(&mut self, user: &UserId, changed: &Changed) {
        let unopened = |at: &ConnectionKey| {
            self.connections.get(*at).is_some_and(|connection| !connection.has_open(changed.conversation))
        };
        let at: Vec<_> = self.roster.connections(user).filter(unopened).collect();
        at.into_iter().for_each(|at| self.tell(at, changed));
    }

    /// Takes note of a group's event, to be told to members who do not have it open.
    pub(super) fn note(&mut self, change: &Change) {
        if let Some(event) = change.event.as_ref().filter(|_| change.conversation.kind() == Some(Kind::Group)) {
            self.news.event(change.conversation, event.seq, event.number, kind::counts(event.kind), self.now);
        }
    }

    /// Has members of groups with new messages read, if it is time for some.
    pub(super) fn read_news(&mut self) {
        let places = self.news.next(self.now);
        if places.is_empty() {
            return;
        }
        let (inbox, most) = (Arc::clone(&self.inbox), self.shared.config.limits.changed_group_members);
        let job = Box::new(move |view: &View| inbox.news(reads::news(view, &places, most)));
        if self.shared.readers.run(job).is_err() {
            self.news.put_off();
        }
    }

    /// Members of groups with new messages were read.
    pub(super) fn tell_news(&mut self, pages: Vec<Result<Members, ReadError>>) {
        for told in self.news.told(pages, self.now) {
            for (user, role) in &told.members {
                let (conversation, head, number) = (told.id, told.head, told.number);
                self.tell_changed(user, &Changed { conversation, head, number, role: *role });
            }
        }
        self.read_news();
    }

    /// Tells all of a user's connections that a read mark moved.
    pub(super) fn tell_marked(&mut self, user: &UserId, marked: &Marked) {
        let at: Vec<_> = self.roster.connections(user).collect();
        at.into_iter().for_each(|at| self.tell(at, marked));
    }

    /// Tells the watchers of a user whose presence changed.
    pub(super) fn show(&mut self, shown: impl IntoIterator<Item = Shown<ConnectionKey>>) {
        for shown in shown {
            for watcher in &shown.watchers {
                self.tell(*watcher, &presence(&shown.user, shown.now));
            }
        }
    }

    /// A connection is over.
    pub(super) fn left(&mut self, key: ConnectionKey, connection: &Connection) {
        let Some(user) = connection.user() else { return };
        let shown = self.roster.disconnected(user, key, connection.gone, connection.heard.time, self.now);
        if self.roster.connections(user).next().is_none() {
            self.ledger.left(user, connection.heard.time);
        }
        self.show(shown);
    }
}

impl Connection {
    /// True when the conversation is open on this connection.
    pub(super) fn has_open(&self, id: ConversationId) -> bool {
        self.stream_of(id).is_some()
    }

    /// The stream on which the conversation is open.
    pub(super) fn stream_of(&self, id: ConversationId) -> Option<StreamKey> {
        self.open.iter().find(|(open, _)| *open == id).map(|(_, key)| *key)
    }
}

/// The message that shows a user's presence.
pub(super) fn presence(user: &UserId, now: State) -> Presence<'_> {
    Presence { user: user.as_str(), state: now.state, last_seen: now.last_seen }
}

/// Streams that a client may have at once, so that with all its conversations open it can always ask something:
/// quinn gives credit back only once more than an eighth of it is used up.
fn stream_credit(conversations: usize) -> u32 {
    (conversations as u32 + 1 + STREAMS_BEFORE_HELLO) * 8 / 7 + 1
}

fn auth_code(error: &AuthError) -> Code {
    match error {
        AuthError::Expired => Code::TOKEN_EXPIRED,
        AuthError::WrongAudience { .. } => Code::WRONG_AUDIENCE,
        AuthError::KeyPending => Code::KEY_PENDING,
        _ => Code::UNAUTHENTICATED,
    }
}

fn to_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
