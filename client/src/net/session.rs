//! The connection's task: keeps the session, moves it, makes a new one when it is lost.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{ReadError, WriteError};
use quip_protocol::{
    Code, Retry, ToClient, UserId, frame,
    session::{GoAway, Refresh, Signal},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    Broken, Dialer, Hub, LinkState,
    backoff::Backoff,
    dial::{CHUNK, Session},
    transport,
};
use crate::{ClientEvent, ClosedReason, ConnectError, ConnectionLost, ConnectionState, Presence, TokenError};

/// What handles and conversations ask of the connection's task.
pub(crate) enum Order {
    /// This connection (by its stable id) cannot serve a conversation: try another relay.
    Elsewhere(usize),
    /// Use a new socket.
    Rebind,
    /// Say goodbye, then answer.
    Close(oneshot::Sender<()>),
}

/// The connection's task. It holds no handle: when the last one is dropped, `orders` ends and so does this.
pub(crate) struct Driver {
    pub(crate) hub: Arc<Hub>,
    pub(crate) dialer: Dialer,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) user: UserId,
}

/// Why a session is not kept any more.
enum Exit {
    Lost(ConnectionLost),
    /// There is a new one in its place.
    Moved(Box<Session>),
    End(End),
}

/// Why there is to be no session any more.
enum End {
    /// The app is done.
    Close(Option<oneshot::Sender<()>>),
    Stop(ClosedReason),
}

type Dialing = Pin<Box<dyn Future<Output = Result<Session, ConnectionLost>> + Send>>;
type Token = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

impl Driver {
    /// The first session, of a client that does not exist yet.
    pub(crate) async fn first(dialer: &mut Dialer, limit: Duration) -> Result<Session, ConnectError> {
        let mut last = ConnectionLost::Timeout(limit);
        let mut backoff = Backoff::default();
        let mut refusals = Refusals::default();
        let trying = async {
            loop {
                match dialer.dial().await {
                    Ok(session) => return Ok(session),
                    Err(lost) if refusals.are_final(&lost, dialer.relays()) => return Err(ConnectError::Refused(lost)),
                    Err(lost) => last = lost,
                }
                sleep(backoff.pause()).await;
            }
        };
        match timeout(limit, trying).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Unreachable(last)),
        }
    }

    /// Keeps the client connected until it is closed.
    pub(crate) async fn run(mut self, first: Session) {
        let mut session = Box::new(first);
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            self.dialer.learn(&session.greeting);
            let exit = Keeping::new(&mut self, &mut session).run().await;
            if begun.elapsed() > STABLE {
                backoff.reset();
            }
            let next = match exit {
                Exit::Moved(next) => {
                    self.online(&next);
                    retire(session);
                    Ok(next)
                }
                Exit::Lost(lost) => {
                    tracing::info!(%lost, "the connection is lost");
                    self.hub.links.send_replace(LinkState::Down);
                    self.reconnect(lost, &mut backoff).await
                }
                Exit::End(End::Close(done)) => return self.goodbye(&session, done).await,
                Exit::End(end) => Err(end),
            };
            match next {
                Ok(next) => session = next,
                Err(End::Stop(reason)) => return self.stop(reason),
                Err(End::Close(done)) => {
                    self.stop(ClosedReason::ByApp);
                    done.map(|done| done.send(()));
                    return;
                }
            }
        }
    }

    /// A new session after a lost one, however long it takes.
    async fn reconnect(&mut self, mut lost: ConnectionLost, backoff: &mut Backoff) -> Result<Box<Session>, End> {
        let mut refusals = Refusals::default();
        for attempt in 1.. {
            if refusals.are_final(&lost, self.dialer.relays()) {
                return Err(End::Stop(reason(lost)));
            }
            self.state.send_replace(ConnectionState::Connecting { attempt });
            let pause = backoff.pause().max(if is_later(&lost) { LATER } else { Duration::ZERO });
            if self.pause(pause).await? {
                backoff.reset();
            }
            let dialing: Dialing = Box::pin(self.dialer.dial());
            match self.attend(dialing).await? {
                Ok(session) if session.greeting.user != self.user => return Err(End::Stop(other_user())),
                Ok(session) => {
                    self.online(&session);
                    return Ok(Box::new(session));
                }
                Err(error) => lost = error,
            }
            tracing::debug!(%lost, attempt, "no connection");
        }
        Err(End::Stop(reason(lost)))
    }

    fn online(&self, session: &Session) {
        let relay = session.greeting.relay.clone();
        tracing::info!(%relay, "connected");
        self.hub.links.send_replace(LinkState::Up(session.link.clone()));
        self.state.send_replace(ConnectionState::Online { relay: relay.clone() });
        self.hub.tell(&ClientEvent::Reconnected { relay });
    }

    /// Waits; true when the network changed meanwhile and waiting is over.
    async fn pause(&mut self, pause: Duration) -> Result<bool, End> {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(false),
                order = self.orders.recv() => match order {
                    Some(Order::Elsewhere(_)) => {}
                    Some(Order::Rebind) => return Ok(true),
                    Some(Order::Close(done)) => return Err(End::Close(Some(done))),
                    None => return Err(End::Close(None)),
                },
            }
        }
    }

    /// Waits for an attempt.
    async fn attend(&mut self, mut dialing: Dialing) -> Result<Result<Session, ConnectionLost>, End> {
        loop {
            tokio::select! {
                result = &mut dialing => return Ok(result),
                order = self.orders.recv() => match order {
                    Some(Order::Elsewhere(_) | Order::Rebind) => {}
                    Some(Order::Close(done)) => return Err(End::Close(Some(done))),
                    None => return Err(End::Close(None)),
                },
            }
        }
    }

    fn stop(&self, reason: ClosedReason) {
        self.hub.close(reason.clone());
        self.state.send_replace(ConnectionState::Closed(reason));
    }

    /// Lets conversations that nobody holds any more finish what they have begun, and closes.
    async fn goodbye(&self, session: &Session, done: Option<oneshot::Sender<()>>) {
        let released = async {
            for conversation in self.hub.conversations() {
                if conversation.is_released() {
                    conversation.gone().await;
                }
            }
        };
        tokio::select! {
            _ = timeout(LINGER, released) => {}
            _ = session.link.connection.closed() => {}
        }
        self.stop(ClosedReason::ByApp);
        session.link.close(Code::BYE, "");
        timeout(IDLE, session.endpoint.wait_idle()).await.ok();
        done.map(|done| done.send(()));
    }
}

/// A session while it is good.
struct Keeping<'a> {
    driver: &'a mut Driver,
    session: &'a mut Session,
    begun: Instant,
    out: Bytes,
    token: Option<Token>,
    dialing: Option<Dialing>,
    /// When to dial (again), to move to another relay.
    dial_at: Option<Instant>,
    backoff: Backoff,
    /// Another relay is wanted whatever this one does.
    leaving: bool,
    check: Interval,
    silence: Silence,
}

impl<'a> Keeping<'a> {
    fn new(driver: &'a mut Driver, session: &'a mut Session) -> Self {
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            driver,
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
        }
    }

    async fn run(mut self) -> Exit {
        // What came along with Welcome.
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
        tokio::select! {
            chunk = self.session.recv.read_chunk(CHUNK, true) => self.on_read(chunk)?,
            written = self.session.send.write(&self.out), if !self.out.is_empty() => self.on_written(written)?,
            datagram = self.session.link.connection.read_datagram() => match datagram {
                Ok(datagram) => self.on_signal(&datagram),
                Err(error) => return Err(Exit::Lost(error.into())),
            },
            order = self.driver.orders.recv() => self.on_order(order)?,
            () = at(refresh) => self.fetch_token(),
            token = pending(&mut self.token) => self.on_token(token)?,
            () = at(self.dial_at) => {
                self.dial_at = None;
                self.dialing = Some(Box::pin(self.driver.dialer.dial()));
            }
            result = pending(&mut self.dialing) => self.on_dialed(result)?,
            _ = self.check.tick() => self.on_check(),
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
        let hub = &self.driver.hub;
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
        tracing::info!(code = ?goaway.code, within = goaway.within, "the relay asks to go away");
        self.leaving = true;
        self.move_now();
    }

    /// Connects elsewhere first; this session serves until then.
    fn move_now(&mut self) {
        if self.dialing.is_none() && self.dial_at.is_none() {
            self.dial_at = Some(Instant::now() + self.backoff.pause());
        }
    }

    fn on_dialed(&mut self, result: Result<Session, ConnectionLost>) -> Result<(), Exit> {
        self.dialing = None;
        match result {
            Ok(session) if session.greeting.user != self.driver.user => Err(Exit::End(End::Stop(other_user()))),
            Ok(session) => Err(Exit::Moved(Box::new(session))),
            Err(lost) => {
                tracing::debug!(%lost, "no other connection yet");
                if self.leaving {
                    self.move_now();
                }
                Ok(())
            }
        }
    }

    fn on_order(&mut self, order: Option<Order>) -> Result<(), Exit> {
        match order {
            Some(Order::Elsewhere(id)) => {
                let here = self.session.link.connection.stable_id() == id;
                if here && self.driver.dialer.relays() > 1 {
                    self.leaving = true;
                    self.move_now();
                }
            }
            Some(Order::Rebind) => {
                let remote = self.session.link.connection.remote_address();
                let rebound = transport::socket(remote).and_then(|socket| self.session.endpoint.rebind(socket));
                if let Err(error) = rebound {
                    tracing::warn!(%error, "no new socket");
                }
            }
            Some(Order::Close(done)) => return Err(Exit::End(End::Close(Some(done)))),
            None => return Err(Exit::End(End::Close(None))),
        }
        Ok(())
    }

    /// A relay that is gone without a word is noticed long before the idle timeout: we send, and nothing comes.
    fn on_check(&mut self) {
        let stats = self.session.link.connection.stats();
        if self.silence.check(Instant::now(), stats.udp_tx.datagrams, stats.udp_rx.datagrams) {
            tracing::info!("the relay is silent");
            self.move_now();
        } else if !self.leaving {
            self.dial_at = None;
        }
    }

    fn fetch_token(&mut self) {
        let source = self.driver.dialer.token.clone();
        self.token = Some(Box::pin(async move { source.token().await }));
    }

    fn on_token(&mut self, token: Result<String, TokenError>) -> Result<(), Exit> {
        self.token = None;
        match token {
            Ok(token) => {
                let mut out = Vec::from(std::mem::take(&mut self.out));
                frame::encode(&Refresh { token: &token }, &mut out);
                self.out = out.into();
                self.session.greeting.refresh = None;
            }
            Err(error) if error.may_retry() => {
                tracing::warn!(%error, "no new token yet");
                self.session.greeting.refresh = Some(Instant::now() + TOKEN_PAUSE);
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

    /// Drops without a word what is not a signal of an open conversation.
    fn on_signal(&self, datagram: &[u8]) {
        let found =
            frame::from_datagram(datagram).ok().filter(|found| found.kind == <Signal<'_> as frame::Message>::TYPE);
        let Some(Ok(signal)) = found.map(|found| frame::decode::<Signal<'_>>(found.body)) else { return };
        let (Some(conversation), Ok(user)) =
            (self.session.link.conversation(signal.stream), UserId::parse(signal.user))
        else {
            return;
        };
        let body = Bytes::copy_from_slice(signal.body.0);
        self.driver.hub.tell(&ClientEvent::Signal { conversation, user, kind: signal.kind, body });
    }

    fn broken(&self, broken: Broken) -> Exit {
        self.session.link.close_broken(&broken);
        Exit::Lost(broken.into())
    }
}

/// Notices that we send and nothing comes back.
#[derive(Default)]
struct Silence {
    heard: u64,
    /// The last time that nothing of ours was without an answer, and what had been sent by then.
    since: Option<(Instant, u64)>,
}

impl Silence {
    /// Told the counts of packets sent and heard; whether the relay has been silent for too long.
    fn check(&mut self, now: Instant, sent: u64, heard: u64) -> bool {
        let (since, before) = *self.since.get_or_insert((now, sent));
        if heard != self.heard || sent == before {
            (self.heard, self.since) = (heard, Some((now, sent)));
            return false;
        }
        now.duration_since(since) >= SILENCE
    }
}

/// Refusals that are final only when they come again.
#[derive(Default)]
struct Refusals {
    expired: u32,
    untrusted: usize,
}

impl Refusals {
    /// Told why there is no connection, and how many relays there are.
    fn are_final(&mut self, lost: &ConnectionLost, relays: usize) -> bool {
        match lost {
            // One token was on its way for too long; after two the app has no better.
            ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } => {
                self.expired += 1;
                self.expired > 1
            }
            // One relay's wrong certificate does not speak for the others.
            ConnectionLost::Untrusted(_) => {
                self.untrusted += 1;
                self.untrusted >= relays
            }
            lost => !lost.may_retry(),
        }
    }
}

/// Closes a session that another one has replaced, once its conversations have moved.
fn retire(session: Box<Session>) {
    tokio::spawn(async move {
        sleep(OVERLAP).await;
        session.link.close(Code::BYE, "");
        timeout(IDLE, session.endpoint.wait_idle()).await.ok();
    });
}

fn reason(lost: ConnectionLost) -> ClosedReason {
    match lost {
        ConnectionLost::Closed { code: Code::REPLACED, .. } => ClosedReason::Replaced,
        lost => ClosedReason::Refused(lost),
    }
}

fn other_user() -> ClosedReason {
    ClosedReason::State("the new token is for another user".into())
}

fn is_later(lost: &ConnectionLost) -> bool {
    matches!(lost, ConnectionLost::Closed { code, .. } if code.retry() == Retry::Later)
}

/// The event for the app that a frame of the session stream is.
fn event(message: &ToClient<'_>) -> Result<ClientEvent, Broken> {
    Ok(match message {
        ToClient::Presence(presence) => {
            let presence =
                Presence::read(presence).ok_or_else(|| Broken::unexpected("presence of what is not a user"))?;
            ClientEvent::Presence(presence)
        }
        ToClient::Changed(changed) => ClientEvent::Changed {
            conversation: changed.conversation,
            head: changed.head,
            number: changed.number,
            role: changed.role,
        },
        ToClient::Marked(marked) => {
            ClientEvent::Marked { conversation: marked.conversation, seq: marked.seq, number: marked.number }
        }
        ToClient::Notice(notice) => ClientEvent::Notice { code: notice.code, text: notice.text.to_owned() },
        _ => return Err(Broken::unexpected("a frame that has no place on the session stream")),
    })
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

/// A session that lived so long was good: pauses begin anew.
const STABLE: Duration = Duration::from_secs(2);
/// The least pause after a relay said "later".
const LATER: Duration = Duration::from_secs(1);
/// The pause before a token is asked for again.
const TOKEN_PAUSE: Duration = Duration::from_secs(2);
/// How long a replaced session lives, for requests that are under way; relays allow 30 s.
const OVERLAP: Duration = Duration::from_secs(2);
/// How long conversations that nobody holds may finish what they have begun.
const LINGER: Duration = Duration::from_secs(10);
/// How long QUIC may take to say goodbye.
const IDLE: Duration = Duration::from_millis(500);
/// How often silence is looked for.
const CHECK: Duration = Duration::from_secs(1);
/// Silence after which another connection is made, while packets of ours are without an answer.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: Code) -> ConnectionLost {
        ConnectionLost::Closed { code, text: String::new() }
    }

    #[test]
    fn only_packets_without_an_answer_make_a_silence() {
        let (start, mut silence) = (Instant::now(), Silence::default());
        let mut check = |second: u64, sent, heard| silence.check(start + Duration::from_secs(second), sent, heard);
        assert!(!check(0, 10, 10));
        assert!(!check(100, 10, 10), "nobody says anything");
        assert!(!check(101, 11, 10), "a ping without an answer yet");
        assert!(!check(104, 12, 10));
        assert!(check(105, 13, 10), "five seconds since all was answered");
        assert!(!check(106, 14, 11), "heard again");
        assert!(!check(110, 15, 11));
        assert!(check(111, 15, 11));
    }

    #[test]
    fn a_refusal_is_final_when_nothing_else_can_come_of_it() {
        let mut refusals = Refusals::default();
        assert!(!refusals.are_final(&closed(Code::TOKEN_EXPIRED), 1));
        assert!(!refusals.are_final(&closed(Code::SHUTDOWN), 1));
        assert!(refusals.are_final(&closed(Code::TOKEN_EXPIRED), 1));
        let untrusted = ConnectionLost::Untrusted("another certificate".into());
        assert!(!refusals.are_final(&untrusted, 2));
        assert!(refusals.are_final(&untrusted, 2));
        for code in [Code::UNAUTHENTICATED, Code::MALFORMED, Code::REPLACED] {
            assert!(Refusals::default().are_final(&closed(code), 9), "{code:?}");
        }
        assert!(matches!(reason(closed(Code::REPLACED)), ClosedReason::Replaced));
    }
}
