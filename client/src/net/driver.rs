//! The connection's task: from one session to the next, until the client is closed.

use std::time::Duration;

use quip_protocol::Code;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Dialer, LinkState,
    backoff::Backoff,
    dial::Session,
    session::{Base, Dialing, End, Exit, Keeping, Order, other_user},
};
use crate::{ClientEvent, ClosedReason, ConnectError, ConnectionLost, ConnectionState};

/// The connection's task. It holds no handle: when the last one is dropped, `orders` ends and so does this.
pub(crate) struct Driver {
    base: Base,
    /// A late Hello of an earlier process of this device has taken over once.
    haunted: bool,
}

impl Driver {
    pub(crate) fn new(base: Base) -> Self {
        Self { base, haunted: false }
    }

    /// The first session, of a client that does not exist yet.
    pub(crate) async fn first(dialer: &mut Dialer, limit: Duration) -> Result<Session, ConnectError> {
        let mut last = ConnectionLost::Timeout(limit);
        let mut backoff = Backoff::default();
        let mut refusals = Refusals::default();
        let trying = async {
            loop {
                let lost = match dialer.dial().await {
                    Ok(session) => return Ok(session),
                    Err(lost) if refusals.are_final(&lost, dialer.relays()) => return Err(ConnectError::Refused(lost)),
                    Err(lost) => lost,
                };
                let pause = backoff.pause_after(&lost, dialer.platform.random_share());
                last = lost;
                sleep(pause).await;
            }
        };
        match timeout(limit, trying).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Unreachable(last)),
        }
    }

    /// Keeps the client connected until it is closed, from this session on or from the first that it makes.
    pub(crate) async fn run(mut self, first: Option<Session>) {
        let mut backoff = Backoff::default();
        let mut next = match first {
            Some(session) => Ok(Box::new(session)),
            None => self.reconnect(None, &mut backoff).await,
        };
        loop {
            let mut session = match next {
                Ok(session) => session,
                Err(End::Stop(reason)) => return self.stop(reason),
                Err(End::Close(done)) => {
                    self.stop(ClosedReason::ByApp);
                    done.map(|done| done.send(()));
                    return;
                }
            };
            let begun = Instant::now();
            self.base.dialer.learn(&session);
            let exit = Keeping::new(&mut self.base, &mut session).run().await;
            if begun.elapsed() > STABLE {
                backoff.reset();
            }
            next = match exit {
                Exit::Moved(next) => {
                    self.online(&next);
                    self.base.hub.platform.spawn(retire(session));
                    Ok(next)
                }
                Exit::Lost(lost) => {
                    tracing::info!(%lost, "the connection is lost");
                    self.base.hub.links.set(LinkState::Down);
                    let lost = self.unless_late(lost, begun.elapsed());
                    self.reconnect(Some(lost), &mut backoff).await
                }
                Exit::End(End::Close(done)) => return self.goodbye(&session, done).await,
                Exit::End(end) => Err(end),
            };
        }
    }

    /// The Hello of an earlier process of this device, which is gone, may arrive late and take over from this one: only soon
    /// after this one connected, and once. So this one connects again, and stops if it is replaced again.
    fn unless_late(&mut self, lost: ConnectionLost, age: Duration) -> ConnectionLost {
        let replaced = matches!(lost, ConnectionLost::Closed { code: Code::REPLACED, .. });
        if replaced && age < LATE && !std::mem::replace(&mut self.haunted, true) {
            return ConnectionLost::Transport("replaced by an earlier process of this device".into());
        }
        lost
    }

    /// A new session after a lost one, or the first, however long it takes.
    async fn reconnect(
        &mut self,
        mut cause: Option<ConnectionLost>,
        backoff: &mut Backoff,
    ) -> Result<Box<Session>, End> {
        let mut refusals = Refusals::default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            if let Some(lost) = &cause {
                if refusals.are_final(lost, self.base.dialer.relays()) {
                    return Err(End::Stop(reason(lost.clone())));
                }
                let retry_at = Instant::now() + backoff.pause_after(lost, self.base.hub.platform.random_share());
                self.connecting(attempt, &cause, Some(retry_at.into_std()));
                if self.pause(retry_at).await? {
                    backoff.reset();
                }
            }
            self.connecting(attempt, &cause, None);
            let dialing: Dialing = Box::pin(self.base.dialer.dial());
            match self.attend(dialing).await? {
                Ok(session) if session.greeting.user != self.base.user => {
                    return Err(End::Stop(other_user(&self.base.user, &session)));
                }
                Ok(session) => {
                    self.online(&session);
                    return Ok(Box::new(session));
                }
                Err(lost) => {
                    tracing::debug!(%lost, attempt, "no connection");
                    cause = Some(lost);
                }
            }
        }
    }

    fn connecting(&self, attempt: u32, cause: &Option<ConnectionLost>, retry_at: Option<std::time::Instant>) {
        self.base.state.send_replace(ConnectionState::Connecting { attempt, cause: cause.clone(), retry_at });
    }

    fn online(&self, session: &Session) {
        let relay = session.greeting.relay.clone();
        tracing::info!(%relay, "connected");
        self.base.hub.links.set(LinkState::Up(session.link.clone()));
        self.base.state.send_replace(ConnectionState::Online { relay: relay.clone() });
        self.base.hub.tell(&ClientEvent::Reconnected { relay });
    }

    /// Waits; true when the network changed meanwhile and waiting is over.
    async fn pause(&mut self, end: Instant) -> Result<bool, End> {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => return Ok(false),
                order = self.base.orders.recv() => match order {
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
                biased;
                result = &mut dialing => return Ok(result),
                order = self.base.orders.recv() => match order {
                    Some(Order::Elsewhere(_) | Order::Rebind) => {}
                    Some(Order::Close(done)) => return Err(End::Close(Some(done))),
                    None => return Err(End::Close(None)),
                },
            }
        }
    }

    fn stop(&self, reason: ClosedReason) {
        self.base.hub.close(reason.clone());
        self.base.state.send_replace(ConnectionState::Closed(reason));
    }

    /// Lets conversations that nobody holds any more finish what they have begun, and closes.
    async fn goodbye(&self, session: &Session, done: Option<oneshot::Sender<()>>) {
        let released = async {
            for conversation in self.base.hub.conversations() {
                if conversation.is_released() {
                    conversation.gone().await;
                }
            }
        };
        tokio::select! {
            biased;
            _ = timeout(LINGER, released) => {}
            _ = session.link.connection.closed() => {}
        }
        self.stop(ClosedReason::ByApp);
        session.link.close(Code::BYE, "");
        timeout(IDLE, session.endpoint.wait_idle()).await.ok();
        done.map(|done| done.send(()));
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
        // Relays are tried in turn, so as many in a row as there are relays means that none is trusted.
        if !matches!(lost, ConnectionLost::Untrusted(_) | ConnectionLost::Handshake(_)) {
            self.untrusted = 0;
        }
        match lost {
            // One token was on its way for too long; after two the app has no better.
            ConnectionLost::Closed { code: Code::TOKEN_EXPIRED, .. } => {
                self.expired += 1;
                self.expired > 1
            }
            // One relay's wrong certificate does not speak for the others.
            ConnectionLost::Untrusted(_) | ConnectionLost::Handshake(_) => {
                self.untrusted += 1;
                self.untrusted >= relays
            }
            lost => !lost.may_retry(),
        }
    }
}

/// Closes a session that another one has replaced, once its conversations have moved.
async fn retire(session: Box<Session>) {
    sleep(OVERLAP).await;
    session.link.close(Code::BYE, "");
    timeout(IDLE, session.endpoint.wait_idle()).await.ok();
}

fn reason(lost: ConnectionLost) -> ClosedReason {
    match lost {
        ConnectionLost::Closed { code: Code::REPLACED, .. } => ClosedReason::Replaced,
        lost => ClosedReason::Refused(lost),
    }
}

/// A session that lived so long was good: pauses start again with the shortest.
const STABLE: Duration = Duration::from_millis(500);
/// How long a replaced session lives, for requests that are under way; relays allow 30 s.
const OVERLAP: Duration = Duration::from_secs(2);
/// How long conversations that nobody holds may finish what they have begun.
const LINGER: Duration = Duration::from_secs(10);
/// How long QUIC may take to say goodbye.
const IDLE: Duration = Duration::from_millis(500);

/// How late packets of an earlier process may arrive.
const LATE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Untrusted;

    fn closed(code: Code) -> ConnectionLost {
        ConnectionLost::Closed { code, text: String::new() }
    }

    #[test]
    fn a_refusal_is_final_when_nothing_else_can_come_of_it() {
        let mut refusals = Refusals::default();
        assert!(!refusals.are_final(&closed(Code::TOKEN_EXPIRED), 1));
        assert!(!refusals.are_final(&closed(Code::SHUTDOWN), 1));
        assert!(refusals.are_final(&closed(Code::TOKEN_EXPIRED), 1));
        let untrusted = ConnectionLost::Untrusted(Untrusted::UnknownAuthority);
        assert!(!refusals.are_final(&untrusted, 2));
        assert!(!refusals.are_final(&closed(Code::SHUTDOWN), 2), "the other relay is only restarting");
        assert!(!refusals.are_final(&untrusted, 2));
        assert!(refusals.are_final(&untrusted, 2));
        for code in [Code::UNAUTHENTICATED, Code::MALFORMED, Code::REPLACED] {
            assert!(Refusals::default().are_final(&closed(code), 9), "{code:?}");
        }
        assert!(matches!(reason(closed(Code::REPLACED)), ClosedReason::Replaced));
    }
}
