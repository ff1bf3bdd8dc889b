//! A session: its stream, tokens, signals, and moving to another relay.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{FrameStats, ReadError, WriteError};
use quip_protocol::{
    ToClient, UserId, frame,
    session::{GoAway, Refresh, Signal},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Broken, Dialer, Hub,
    backoff::Backoff,
    dial::{self, CHUNK, Session},
};
use crate::{ClientEvent, ClosedReason, ConnectionLost, ConnectionState, Presence, TokenError};

/// Orders of handles and conversations for the connection's task.
pub(crate) enum Order {
    /// The connection with this stable id cannot serve a conversation: try another relay.
    Elsewhere(usize),
    /// Use a new socket.
    Rebind,
    /// Close the connection, then answer.
    Close(oneshot::Sender<()>),
}

/// State that outlives a session.
pub(crate) struct Base {
    pub(crate) hub: Arc<Hub>,
    pub(crate) dialer: Dialer,
    /// Ends when the last handle is dropped.
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) user: UserId,
    /// What the app sees.
    pub(crate) state: watch::Sender<ConnectionState>,
}

/// Why a session ended.
pub(super) enum Exit {
    Lost(ConnectionLost),
    /// A new session replaces it.
    Moved(Box<Session>),
    End(End),
}

/// Why no further session is made.
pub(super) enum End {
    /// The app closed the client.
    Close(Option<oneshot::Sender<()>>),
    Stop(ClosedReason),
}

pub(super) type Dialing = Pin<Box<dyn Future<Output = Result<Session, ConnectionLost>> + Send>>;
type Token = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// A session in use.
pub(super) struct Keeping<'a> {
    base: &'a mut Base,
    session: &'a mut Session,
    begun: Instant,
    out: Bytes,
    token: Option<Token>,
    dialing: Option<Dialing>,
    /// When to dial another relay.
    dial_at: Option<Instant>,
    backoff: Backoff,
    /// Whether to move even if this relay answers again.
    leaving: bool,
    check: Interval,
    silence: Silence,
    /// Since when the relay does not answer, if that is worth saying.
    unresponsive: Option<Instant>,
    /// Why there is no new token.
    token_failed: Option<TokenError>,
    /// `None` if it is to be shown in any case.
    shown: Option<Shown>,
}

/// Which state the app sees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Online,
    Unresponsive,
    TokenFailing,
}

impl<'a> Keeping<'a> {
    pub(super) fn new(base: &'a mut Base, session: &'a mut Session) -> Self {
        let mut check = interval(session.check());
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            base,
            session,
            begun: Instant::now(),
            out: Bytes::new(),
            token: None,
            dialing: None,
            dial_at: None,
            backoff: Backoff::default(),
            leaving: false,
            check,
            silence: Silence::default(),
            unresponsive: None,
            token_failed: None,
            shown: Some(Shown::Online),
        }
    }

    pub(super) async fn run(mut self) -> Exit {
        // Frames that arrived with Welcome.
        if let Err(exit) = self.drain() {
            return exit;
        }
        loop {
            if let Err(exit) = self.step().await {
                return exit;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Exit> {
        let refresh = self.session.greeting.refresh.filter(|_| self.token.is_none());
        // In a fixed order, so that a run in a simulation can be repeated: what is rare goes first and keeps nobody waiting.
        tokio::select! {
            biased;
            order = self.base.orders.recv() => self.on_order(order)?,
            () = at(refresh) => self.fetch_token(),
            token = pending(&mut self.token) => self.on_token(token)?,
            () = at(self.dial_at) => {
                self.dial_at = None;
                self.dialing = Some(Box::pin(self.base.dialer.dial()));
            }
            result = pending(&mut self.dialing) => self.on_dialed(result)?,
            _ = self.check.tick() => self.on_check(),
            written = self.session.send.write(&self.out), if !self.out.is_empty() => self.on_written(written)?,
            datagram = self.session.link.connection.read_datagram() => match datagram {
                Ok(datagram) => self.on_signal(&datagram),
                Err(error) => return Err(Exit::Lost(error.into())),
            },
            chunk = self.session.recv.read_chunk(CHUNK, true) => self.on_read(chunk)?,
        }
        Ok(())
    }

    fn on_read(&mut self, read: Result<Option<quinn::Chunk>, ReadError>) -> Result<(), Exit> {
        match read {
            Ok(Some(chunk)) => self.session.buffer.push(chunk.bytes),
            Ok(None) => return Err(self.broken(Broken::unexpected("the session stream was finished"))),
            Err(ReadError::ConnectionLost(error)) => return Err(Exit::Lost(error.into())),
            Err(_) => return Err(self.broken(Broken::unexpected("the session stream was reset"))),
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<(), Exit> {
        let mut goaway = None;
        let mut refreshed = None;
        let hub = &self.base.hub;
        let drained = self.session.buffer.drain(|message| {
            match message {
                ToClient::GoAway(found) => goaway = Some(found),
                ToClient::Refreshed(found) => refreshed = Some(found.expires),
                message => hub.tell(&event(&message)?),
            }
            Ok::<_, Broken>(true)
        });
        drained.map_err(|broken| self.broken(broken))?;
        if let Some(expires) = refreshed {
            self.session.greeting.refreshed(expires, self.begun);
        }
        if let Some(goaway) = goaway {
            self.on_goaway(goaway);
        }
        Ok(())
    }

    fn on_goaway(&mut self, goaway: GoAway) {
        tracing::info!(code = ?goaway.code, within = goaway.within, "the relay asks clients to move");
        self.leaving = true;
        self.move_now();
    }

    /// Connects elsewhere; this session stays in use until then.
    fn move_now(&mut self) {
        if self.dialing.is_none() && self.dial_at.is_none() {
            self.dial_at = Some(Instant::now() + self.backoff.pause(self.base.hub.platform.random_share()));
        }
    }

    fn on_dialed(&mut self, result: Result<Session, ConnectionLost>) -> Result<(), Exit> {
        self.dialing = None;
        match result {
            Ok(session) if session.greeting.user != self.base.user => {
                Err(Exit::End(End::Stop(other_user(&self.base.user, &session))))
            }
            Ok(session) => Err(Exit::Moved(Box::new(session))),
            Err(lost) => {
                tracing::debug!(%lost, "could not connect elsewhere");
                if self.leaving {
                    let pause = self.backoff.pause_after(&lost, self.base.hub.platform.random_share());
                    self.dial_at = Some(Instant::now() + pause);
                }
                Ok(())
            }
        }
    }

    fn on_order(&mut self, order: Option<Order>) -> Result<(), Exit> {
        match order {
            Some(Order::Elsewhere(id)) => {
                let here = self.session.link.connection.stable_id() == id;
                if here && self.base.dialer.relays() > 1 {
                    self.leaving = true;
                    self.move_now();
                }
            }
            Some(Order::Rebind) => {
                let remote = self.session.link.connection.remote_address();
                let rebound = self
                    .base
                    .hub
                    .platform
                    .socket(remote)
                    .and_then(|socket| self.session.endpoint.rebind_abstract(socket));
                if let Err(error) = rebound {
                    tracing::warn!(%error, "could not move to a new socket");
                }
            }
            Some(Order::Close(done)) => return Err(Exit::End(End::Close(Some(done)))),
            None => return Err(Exit::End(End::Close(None))),
        }
        Ok(())
    }

    /// Detects a dead relay long before the idle timeout: packets are sent and none arrive.
    fn on_check(&mut self) {
        let (now, stats) = (Instant::now(), self.session.link.connection.stats());
        let unanswered = self.silence.check(now, asking(&stats.frame_tx), stats.udp_rx.datagrams);
        let silent = |limit| unanswered.filter(|since| now.duration_since(*since) >= limit);
        // The third look is a little early now and then.
        self.unresponsive = silent(5 * self.session.check() / 2);
        if silent(SILENCE).is_some() {
            tracing::info!("the relay is silent");
            self.move_now();
        } else if !self.leaving {
            self.dial_at = None;
        }
        self.show();
    }

    /// Shows the app the state of the connection, if that is another one.
    fn show(&mut self) {
        let relay = self.session.greeting.relay.clone();
        let (shown, state) = match (self.unresponsive, &self.token_failed) {
            (Some(since), _) => (Shown::Unresponsive, ConnectionState::Unresponsive { relay, since: since.into_std() }),
            (None, Some(error)) => {
                let ends = self.session.greeting.ends.unwrap_or_else(Instant::now).into_std();
                (Shown::TokenFailing, ConnectionState::TokenFailing { relay, error: error.clone(), ends })
            }
            (None, None) => (Shown::Online, ConnectionState::Online { relay }),
        };
        if self.shown.replace(shown) != Some(shown) {
            self.base.state.send_replace(state);
        }
    }

    fn fetch_token(&mut self) {
        let (source, limit) = (self.base.dialer.token.clone(), self.base.dialer.timing.attempt);
        self.token = Some(Box::pin(async move { dial::token(&*source, limit).await }));
    }

    fn on_token(&mut self, token: Result<String, TokenError>) -> Result<(), Exit> {
        self.token = None;
        match token {
            Ok(token) => {
                let mut out = Vec::from(std::mem::take(&mut self.out));
                frame::encode(&Refresh { token: &token }, &mut out);
                self.out = out.into();
                self.session.greeting.refresh = None;
                self.token_failed = None;
                self.show();
            }
            Err(error) if error.may_retry() => {
                tracing::warn!(%error, "could not renew the token; retrying");
                self.session.greeting.refresh = Some(Instant::now() + TOKEN_PAUSE);
                (self.token_failed, self.shown) = (Some(error), None);
                self.show();
            }
            Err(error) => return Err(Exit::End(End::Stop(ClosedReason::Refused(error.into())))),
        }
        Ok(())
    }

    fn on_written(&mut self, written: Result<usize, WriteError>) -> Result<(), Exit> {
        match written {
            Ok(count) => drop(self.out.split_to(count)),
            Err(WriteError::ConnectionLost(error)) => return Err(Exit::Lost(error.into())),
            Err(_) => return Err(self.broken(Broken::unexpected("the session stream was stopped"))),
        }
        Ok(())
    }

    /// Ignores datagrams that are not signals of an open conversation.
    fn on_signal(&self, datagram: &[u8]) {
        let found =
            frame::from_datagram(datagram).ok().filter(|found| found.kind == <Signal<'_> as frame::Message>::TYPE);
        let Some(Ok(signal)) = found.map(|found| frame::decode::<Signal<'_>>(found.body)) else { return };
        let (Some(conversation), Ok(user)) =
            (self.session.link.conversation(signal.channel), UserId::parse(signal.user))
        else {
            return;
        };
        let body = Bytes::copy_from_slice(signal.body.0);
        self.base.hub.tell(&ClientEvent::Signal { conversation, user, kind: signal.kind, body });
    }

    fn broken(&self, broken: Broken) -> Exit {
        self.session.link.close_broken(&broken);
        Exit::Lost(broken.into())
    }
}

/// Detects that packets are sent and none arrive.
#[derive(Default)]
struct Silence {
    heard: u64,
    /// The last time when nothing was unanswered, and what had been sent by then.
    since: Option<(Instant, u64)>,
}

/// The number of sent frames that the relay must acknowledge.
fn asking(sent: &FrameStats) -> u64 {
    sent.stream + sent.ping + sent.immediate_ack + sent.datagram + sent.max_data + sent.max_stream_data
}

impl Silence {
    /// Since when what was sent has no answer, from the numbers of frames sent that need one and of packets received.
    fn check(&mut self, now: Instant, sent: u64, heard: u64) -> Option<Instant> {
        let (since, before) = *self.since.get_or_insert((now, sent));
        if heard != self.heard || sent == before {
            (self.heard, self.since) = (heard, Some((now, sent)));
            return None;
        }
        Some(since)
    }
}

impl Session {
    /// How often to look whether the relay answers. Three times as long without an answer is worth saying: that is within two
    /// keepalives of the last packet, and within 2 s of one that was sent.
    fn check(&self) -> Duration {
        CHECK.min(self.keepalive / 4)
    }
}

pub(super) fn other_user(user: &UserId, session: &Session) -> ClosedReason {
    ClosedReason::OtherUser { client: user.to_string(), token: session.greeting.user.to_string() }
}

/// The app event of a frame of the session stream.
fn event(message: &ToClient<'_>) -> Result<ClientEvent, Broken> {
    Ok(match message {
        ToClient::Presence(presence) => {
            let presence = Presence::read(presence).ok_or_else(|| Broken::unexpected("invalid user id in presence"))?;
            ClientEvent::Presence(presence)
        }
        ToClient::Changed(changed) => ClientEvent::Changed {
            conversation: changed.conversation,
            head: changed.head,
            number: changed.number,
            role: changed.role,
            name: changed.name.to_owned(),
            kind: changed.kind,
            user: author(changed.user)?,
            preview: changed.preview.to_owned(),
            at: changed.at,
        },
        ToClient::Marked(marked) => {
            ClientEvent::Marked { conversation: marked.conversation, seq: marked.seq, number: marked.number }
        }
        ToClient::Notice(notice) => ClientEvent::Notice { code: notice.code, text: notice.text.to_owned() },
        _ => return Err(Broken::unexpected("unexpected frame on the session stream")),
    })
}

/// The author of an event in a notification, which may be of none.
fn author(user: &str) -> Result<Option<UserId>, Broken> {
    let parsed = (!user.is_empty()).then(|| UserId::parse(user)).transpose();
    parsed.map_err(|_| Broken::unexpected("invalid user id in a notification"))
}

async fn at(timer: Option<Instant>) {
    match timer {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn pending<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The pause before fetching a token again.
const TOKEN_PAUSE: Duration = Duration::from_secs(2);
/// The longest interval of checks for silence.
const CHECK: Duration = Duration::from_millis(500);
/// Silence, while packets are unanswered, after which another connection is made.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_without_an_answer_make_a_silence() {
        let (start, mut silence) = (Instant::now(), Silence::default());
        let mut check = |second: u64, sent, heard| {
            let since = silence.check(start + Duration::from_secs(second), sent, heard)?;
            Some(since.duration_since(start).as_secs())
        };
        assert_eq!(check(0, 10, 10), None);
        assert_eq!(check(100, 10, 10), None, "nobody says anything");
        assert_eq!(check(101, 11, 10), Some(100), "a ping without an answer yet");
        assert_eq!(check(105, 13, 10), Some(100));
        assert_eq!(check(106, 14, 11), None, "heard again");
        assert_eq!(check(110, 15, 11), Some(106));
        assert_eq!(check(111, 15, 11), Some(106));
    }
}
