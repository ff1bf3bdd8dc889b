//! What an app sees of its connection, and what it can do without one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quip_client::{
    Client, Code, Config, ConnectError, ConnectionLost, ConnectionState, ConversationEvent, FileStore, OpenError,
    OpenOptions, ReceiptError, RequestError, SendError, SignalError, Start, Target, TokenError, Trust,
};
use quip_protocol::conversation::{Accepted, End};
use tokio::sync::watch;

use super::{connect, connect_with, fake, open, room};
use fake::{Relay, soon};

type States = watch::Receiver<ConnectionState>;

async fn when(states: &mut States, is: impl FnMut(&ConnectionState) -> bool) -> ConnectionState {
    soon(states.wait_for(is)).await.expect("a state").clone()
}

/// A client that started and has no connection yet.
fn start(relay: &Relay) -> Client {
    Client::start(relay.config().user("alice").expect("a user")).expect("started")
}

#[tokio::test]
async fn a_silent_relay_is_told_within_two_seconds_of_a_message() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, _stream) = open(&client, &session, "test:a").await;
    let mut states = client.state();
    relay.vanish();
    let begun = Instant::now();
    let _receipt = conversation.send("anyone?").await.expect("queued");
    let state = when(&mut states, |state| !matches!(state, ConnectionState::Online { .. })).await;
    let ConnectionState::Unresponsive { since, .. } = state else { panic!("{state:?}") };
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert!(since + Duration::from_millis(1500) > begun && since <= begun + Duration::from_secs(1));
    assert!(states.borrow().is_connected());
}

#[tokio::test]
async fn a_silent_relay_is_told_within_two_keepalives() {
    let relay = Relay::start();
    let (client, _session) = connect_with(&relay, relay.config().idle_timeout(Duration::from_secs(6)), &[]).await;
    relay.vanish();
    let begun = Instant::now();
    when(&mut client.state(), |state| matches!(state, ConnectionState::Unresponsive { .. })).await;
    assert!(begun.elapsed() < Duration::from_millis(4500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_short_idle_timeout_keeps_its_own_keepalive_after_reconnecting() {
    let relay = Relay::start();
    // The relay wants a keepalive every 10 s.
    let (client, session) = connect_with(&relay, relay.config().idle_timeout(Duration::from_secs(2)), &[]).await;
    session.close(Code::SHUTDOWN);
    let again = relay.welcome(&[]).await;
    when(&mut client.state(), |state| matches!(state, ConnectionState::Online { .. })).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(again.connection.close_reason().is_none(), "{:?}", again.connection.close_reason());
}

#[tokio::test]
async fn connecting_has_its_cause_and_the_time_of_the_next_attempt() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let mut states = client.state();
    session.close(Code::OVERLOADED);
    let waiting = |state: &ConnectionState| matches!(state, ConnectionState::Connecting { retry_at: Some(_), .. });
    let ConnectionState::Connecting { attempt: 1, cause: Some(cause), .. } = when(&mut states, waiting).await else {
        panic!("not the first attempt")
    };
    assert!(matches!(cause, ConnectionLost::Closed { code: Code::OVERLOADED, .. }), "{cause:?}");
}

#[tokio::test]
async fn a_token_source_that_fails_is_seen_while_connected_and_while_connecting() {
    let relay = Relay::start();
    let fails = Arc::new(AtomicBool::new(false));
    let source = {
        let fails = fails.clone();
        move || {
            let failed = fails.load(Ordering::SeqCst);
            async move { if failed { Err(TokenError::temporary("no network")) } else { Ok("token".to_owned()) } }
        }
    };
    let fingerprint = relay.fingerprint();
    let config = Config::new([relay.address()], Trust::Fingerprint(fingerprint), source);
    let expiring = async {
        let mut session = relay.accept().await;
        session.welcome_until(relay.pace, 4_000).await;
        session
    };
    let (client, session) = tokio::join!(soon(Client::connect(config)), expiring);
    let client = client.expect("connected");
    fails.store(true, Ordering::SeqCst);
    let mut states = client.state();
    let failing = when(&mut states, |state| matches!(state, ConnectionState::TokenFailing { .. })).await;
    let ConnectionState::TokenFailing { error, ends, .. } = failing else { unreachable!("waited for") };
    assert_eq!(error, TokenError::temporary("no network"));
    assert!(ends <= Instant::now() + Duration::from_secs(4));
    session.close(Code::TOKEN_EXPIRED);
    when(&mut states, |state| {
        matches!(state, ConnectionState::Connecting { cause: Some(ConnectionLost::Token(_)), .. })
    })
    .await;
    fails.store(false, Ordering::SeqCst);
    let _session = relay.welcome(&[]).await;
    when(&mut states, |state| matches!(state, ConnectionState::Online { .. })).await;
}

#[tokio::test]
async fn a_client_that_starts_offline_queues_and_says_what_it_cannot() {
    let relay = Relay::start();
    let client = start(&relay);
    assert!(!client.state().borrow().is_connected());
    let mut conversation = client.open_now(room("test:a"), OpenOptions::join().start(Start::Now)).expect("a handle");
    assert_eq!(conversation.opened(), None);
    let receipt = conversation.send("from the underground").await.expect("queued");
    assert_eq!(conversation.sender().signal(1, b""), Err(SignalError::Offline));
    assert!(matches!(soon(client.list(None, 10)).await, Err(RequestError::Offline)));
    assert!(matches!(soon(client.entry(conversation.id())).await, Err(RequestError::Offline)));
    let again = client.open_now(room("test:a"), OpenOptions::member());
    assert!(matches!(again.err(), Some(OpenError::AlreadyOpen)));

    let session = relay.welcome(&[]).await;
    let (mut stream, _, join, _) = session.open(0).await;
    assert_eq!(join, 1);
    assert_eq!(stream.post().await, (2, b"from the underground".to_vec()));
    stream.put(&Accepted { n: 2, seq: 1, number: 1, at: 1 }).await;
    assert_eq!(soon(receipt.accepted()).await.expect("accepted").seq, 1);
    assert_eq!(soon(conversation.next()).await, Some(ConversationEvent::CaughtUp));
    assert_eq!(conversation.opened().expect("opened").name, "test:room");
}

#[tokio::test]
async fn a_conversation_that_is_refused_later_ends_with_the_reason() {
    let relay = Relay::start();
    let client = start(&relay);
    let mut conversation = client.open_now(room("test:a"), OpenOptions::join()).expect("a handle");
    let receipt = conversation.send("let me in").await.expect("queued");
    let session = relay.welcome(&[]).await;
    let mut stream = session.stream().await;
    stream.next(|_| ()).await;
    stream.put(&End { code: Code::BANNED, retry_after: 0, info: 0, text: "" }).await;
    stream.send.finish().expect("open");
    assert_eq!(soon(conversation.next()).await, Some(ConversationEvent::Ended(Code::BANNED)));
    assert_eq!(soon(receipt.accepted()).await, Err(ReceiptError::Refused(Code::BANNED)));
    assert_eq!(soon(conversation.next()).await, None);
}

#[tokio::test]
async fn the_outbox_has_the_bound_of_the_configuration() {
    let relay = Relay::start();
    let config = relay.config().user("alice").expect("a user").outbox(100);
    let client = Client::start(config).expect("started");
    let conversation = client.open_now(room("test:a"), OpenOptions::join()).expect("a handle");
    for sent in 0..100 {
        assert_eq!(conversation.sender().unanswered(), sent);
        let _receipt = conversation.sender().try_send("x").expect("room");
    }
    assert!(matches!(conversation.sender().try_send("x"), Err(SendError::Full(100))));
}

#[tokio::test]
async fn a_client_needs_a_user_to_start_and_a_runtime() {
    let relay = Relay::start();
    assert!(matches!(Client::start(relay.config()).err(), Some(ConnectError::NoUser)));
    let config = relay.config().user("alice").expect("a user");
    let outside = std::thread::spawn(|| Client::start(config).err()).join().expect("no panic");
    assert!(matches!(outside, Some(ConnectError::NoRuntime)));
}

#[tokio::test]
async fn a_token_of_another_user_is_refused() {
    let relay = Relay::start();
    let client = Client::start(relay.config().user("bob").expect("a user")).expect("started");
    let _session = relay.welcome(&[]).await;
    let closed = when(&mut client.state(), |state| matches!(state, ConnectionState::Closed(_))).await;
    let ConnectionState::Closed(reason) = closed else { unreachable!("waited for") };
    assert_eq!(reason.to_string(), "the token is for alice, and this is a client of bob");
}

/// A future that is polled by another executor than the client's runtime.
fn elsewhere<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| futures_util::FutureExt::now_or_never(future))
        .join()
        .expect("no panic outside of the runtime")
        .expect("an answer at once")
}

#[tokio::test]
async fn calls_outside_of_the_runtime_do_not_panic() {
    let relay = Relay::start();
    let client = start(&relay);
    let outside = client.clone();
    let id = Target::room("test:a").expect("a room").conversation(client.user());
    elsewhere(async move {
        assert!(matches!(outside.list(None, 1).await, Err(RequestError::Offline)));
        assert!(matches!(outside.members(id, None, 1).await, Err(RequestError::Offline)));
        let conversation = outside.open_now(room("test:a"), OpenOptions::join()).expect("a handle");
        let _receipt = conversation.send("hello").await.expect("queued");
        conversation.sender().typing();
    });
    let (sender, waiting) = std::sync::mpsc::channel();
    let outside = client.clone();
    std::thread::spawn(move || {
        let mut opening = Box::pin(outside.open(room("test:b"), OpenOptions::member()));
        sender.send(futures_util::FutureExt::now_or_never(&mut opening).is_none()).expect("waits");
    });
    assert!(waiting.recv_timeout(Duration::from_secs(5)).expect("no panic"), "it waits");
}

#[tokio::test]
async fn a_closed_client_lets_go_of_its_state_though_handles_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let relay = Relay::start();
    let config = relay.config().state(FileStore::open(&path).expect("a store"));
    let (client, session) = connect_with(&relay, config, &[]).await;
    let (conversation, _stream) = open(&client, &session, "test:a").await;
    let receipt = conversation.send("kept").await.expect("queued");
    soon(client.close()).await;
    assert_eq!(soon(receipt.accepted()).await, Err(ReceiptError::Closed));
    let again = relay.config().state(FileStore::open(&path).expect("free though handles live"));
    assert!(matches!(conversation.send("late").await, Err(SendError::Closed)));
    drop((conversation, client));
    let (client, session) = connect_with(&relay, again, &[]).await;
    let (_conversation, mut stream) = open(&client, &session, "test:a").await;
    assert_eq!(stream.post().await, (1, b"kept".to_vec()));
}

#[tokio::test]
async fn signals_that_are_not_sent_say_why() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, _stream) = open(&client, &session, "test:a").await;
    let sender = conversation.sender();
    assert!(matches!(sender.signal(16, &[0; 1025]), Err(SignalError::TooLarge { size: 1025, limit: 1024 })));
    let sent = (0..40).map_while(|_| sender.signal(16, b"x").ok()).count();
    assert!((15..=21).contains(&sent), "{sent}");
    assert!(matches!(sender.signal(16, b"x"), Err(SignalError::TooFast { retry_after }) if !retry_after.is_zero()));
    session.close(Code::SHUTDOWN);
    when(&mut client.state(), |state| !state.is_connected()).await;
    assert!(matches!(sender.signal(16, b"x"), Err(SignalError::Offline)));
}

#[tokio::test]
async fn typing_is_said_once_in_a_while() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, _stream) = open(&client, &session, "test:a").await;
    (0..50).for_each(|_| conversation.sender().typing());
    conversation.sender().signal(16, b"last").expect("sent");
    soon(session.connection.read_datagram()).await.expect("typing");
    let second = soon(session.connection.read_datagram()).await.expect("the other signal");
    assert!(second.ends_with(b"last"));
}

#[tokio::test]
async fn an_open_conversation_is_found_by_its_id() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    let id = conversation.id();
    let _receipt = client.conversation(id).expect("open").send("found").await.expect("queued");
    assert_eq!(stream.post().await.1, b"found");
    drop(conversation);
    assert!(client.conversation(id).is_none());
}
