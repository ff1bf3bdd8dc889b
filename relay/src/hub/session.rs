//! The session stream: who a client is, and what it hears besides conversations.

use std::time::{SystemTime, UNIX_EPOCH};

use quip_protocol::{
    Code, ConversationId, Items, Message, UserId, grease, limit,
    session::{GoAway, Hello, Refreshed, Welcome},
};

use super::{
    Hub, Setup,
    authority::Rights,
    intake::Next,
    keys::{ConnectionKey, StreamKey},
    links::Session,
    people::Shown,
    port::Port,
};
use crate::{auth::AuthError, config::MessageRate};

impl<P: Port> Hub<P> {
    /// The first frame of a connection.
    pub(super) fn hello(&mut self, stream: StreamKey, at: ConnectionKey, hello: &Hello<'_>) -> Next {
        if !self.links.begin_session(stream, &mut self.port) {
            return self.violation(stream, Code::UNEXPECTED);
        }
        if hello.token.len() > limit::TOKEN || hello.client.len() > limit::TEXT {
            return self.violation(stream, Code::MALFORMED);
        }
        let identity = match self.setup.authenticator.authenticate(hello.token, self.wall()) {
            Ok(identity) => identity,
            Err(error) => return self.turn_away(at, &error),
        };
        let rights = Rights::new(identity, &self.rules);
        let session = Session::new(rights, hello, &self.setup.config.limits, self.now);
        let user = session.rights.user().clone();
        tracing::debug!(%user, device = %session.device, client = hello.client, "welcome");
        for other in self.people.connections(&user) {
            self.links.give_way(other, &session, self.now, &mut self.port);
        }
        if self.links.is_full(&user) {
            self.links.close(at, Code::TOO_MANY_CONNECTIONS, &mut self.port);
            return Next::Frame;
        }
        let setup = &*self.setup;
        let rights = session.rights.clone();
        let welcome = welcome(setup, &rights, &session, (setup.clock)());
        self.links.welcome(stream, session, &welcome, self.now, &mut self.port);
        for other in self.links.streams_of(at).into_iter().filter(|other| *other != stream) {
            self.release(other);
        }
        let shown = self.people.came(&user, at, self.now);
        self.show(shown);
        Next::Frame
    }

    fn turn_away(&mut self, at: ConnectionKey, error: &AuthError) -> Next {
        tracing::info!(%error, "a client was turned away");
        self.links.close_because(at, auth_code(error), &error.to_string(), &mut self.port);
        Next::Frame
    }

    /// A new token.
    pub(super) fn refresh(&mut self, stream: StreamKey, at: ConnectionKey, token: &str) -> Next {
        if token.len() > limit::TOKEN {
            return self.violation(stream, Code::MALFORMED);
        }
        if !self.links.take_refresh(at, self.now) {
            self.links.close_because(at, Code::RATE, "too many new tokens a minute", &mut self.port);
            return Next::Frame;
        }
        let identity = match self.setup.authenticator.authenticate(token, self.wall()) {
            Ok(identity) => identity,
            Err(error) => return self.turn_away(at, &error),
        };
        if self.links.session(at).is_some_and(|session| *session.rights.user() != identity.user) {
            self.links.close(at, Code::USER_CHANGED, &mut self.port);
            return Next::Frame;
        }
        self.links.say(stream, &Refreshed { expires: identity.expires_at.map_or(0, to_millis) });
        let rights = Rights::new(identity, &self.rules);
        // What the new token allows holds for open streams too.
        for open in self.links.refreshed(at, rights.clone()) {
            if let Err(code) = self.rooms.refreshed(open, &rights) {
                self.end(open, code, 0);
            }
        }
        Next::Frame
    }

    /// Puts a message on a connection's session stream.
    pub(super) fn tell<M: Message>(&mut self, at: ConnectionKey, message: &M) {
        self.links.tell(at, message, &mut self.port);
    }

    /// A user's connections that do not have a conversation open.
    pub(super) fn elsewhere(&self, user: &UserId, id: ConversationId) -> Vec<ConnectionKey> {
        let connections = self.people.connections(user).into_iter();
        connections.filter(|at| self.links.stream_of(*at, id).is_none()).collect()
    }

    /// Tells the watchers of users whose presence changed.
    pub(super) fn show(&mut self, shown: impl IntoIterator<Item = Shown<ConnectionKey>>) {
        for shown in shown {
            for watcher in &shown.watchers {
                self.links.tell(*watcher, &shown.now.message(&shown.user), &mut self.port);
            }
        }
    }

    /// Tells all clients to connect elsewhere. Those that have said no hello yet are closed, so that they do it at once.
    pub(super) fn go_away(&mut self) {
        let within = self.setup.config.limits.go_away_within.as_millis() as u64;
        let all: Vec<_> = self.links.connections().collect();
        for at in all {
            match self.links.session(at) {
                Some(_) => self.tell(at, &GoAway { code: Code::SHUTDOWN, within }),
                None => self.send_away(at),
            }
        }
    }

    /// Closes the connection of a client that is not let in any more.
    pub(super) fn send_away(&mut self, at: ConnectionKey) {
        self.links.close(at, Code::SHUTDOWN, &mut self.port);
    }
}

fn welcome<'a>(setup: &'a Setup, rights: &'a Rights, session: &Session, time: u64) -> Welcome<'a> {
    let config = &setup.config;
    let rate = config.limits.message_rate().unwrap_or(MessageRate { per_second: 0, burst: 0 });
    Welcome {
        user: rights.user().as_str(),
        generation: setup.generation,
        time,
        expires: rights.identity().expires_at.map_or(0, to_millis),
        keepalive: config.presence.keepalive.as_millis() as u64,
        idle_timeout: config.presence.idle_timeout.as_millis() as u64,
        streams: session.streams as u64,
        frame: config.limits.frame_bytes as u64,
        message: config.limits.message_bytes as u64,
        unanswered: config.limits.unanswered_per_stream as u64,
        unanswered_bytes: config.limits.unanswered_bytes_per_connection as u64,
        rate: rate.per_second as u64,
        burst: rate.burst as u64,
        relay: &config.name,
        relays: Items::encode(config.relays.iter().map(String::as_str)),
        features: Items::encode([grease::number(session.grease())]),
    }
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
