//! The library against relays that do what ours does not: they break the protocol, fall silent, leave while another takes over.
//! Whatever a good relay can show is in `tests/simulation`.

#![allow(clippy::disallowed_methods, reason = "these tests run on the clock of the machine")]

mod fake;
#[path = "session/pacing.rs"]
mod pacing;
#[path = "session/refused.rs"]
mod refused;
#[path = "session/states.rs"]
mod states;
#[path = "session/trust.rs"]
mod trust;

use std::time::{Duration, Instant};

use fake::{LOG, Relay, soon};
use quip_client::{
    Client, ClientEvent, ClosedReason, Code, Config, ConnectError, ConnectionLost, ConnectionState, Conversation,
    ConversationEvent, OpenError, OpenOptions, RequestError, Start, Target, Trust,
};
use quip_protocol::{
    Blob,
    conversation::{Accepted, End, Start as WireStart},
    frame::{decode, from_datagram, to_datagram},
    session::{GoAway, Notice, Signal},
};

fn room(name: &str) -> Target {
    Target::room(name).expect("a room")
}

/// A client and its session on a relay.
async fn connect(relay: &Relay) -> (Client, fake::Session) {
    connect_with(relay, relay.config(), &[]).await
}

async fn connect_with(relay: &Relay, config: Config, others: &[&Relay]) -> (Client, fake::Session) {
    let (client, session) = tokio::join!(soon(Client::connect(config)), relay.welcome(others));
    (client.expect("connected"), session)
}

/// A conversation at the head of an empty log.
async fn open(client: &Client, session: &fake::Session, name: &str) -> (Conversation, fake::Stream) {
    let options = OpenOptions::member().start(Start::Now);
    let (conversation, (stream, ..)) = tokio::join!(client.open(room(name), options), session.open(0));
    (conversation.expect("opened"), stream)
}

async fn next(conversation: &mut Conversation) -> ConversationEvent {
    soon(conversation.next()).await.expect("not over")
}

async fn seq(conversation: &mut Conversation) -> u64 {
    loop {
        if let ConversationEvent::Event(event) = next(conversation).await {
            return event.seq;
        }
    }
}

async fn closed(client: &Client) -> ClosedReason {
    let mut states = client.state();
    let state = soon(states.wait_for(|state| matches!(state, ConnectionState::Closed(_)))).await.expect("a state");
    match &*state {
        ConnectionState::Closed(reason) => reason.clone(),
        _ => unreachable!("waited for"),
    }
}

// --- Trust ---

#[tokio::test]
async fn an_authority_vouches_for_a_name_and_for_no_other() {
    let relay = Relay::start();
    let trust = Trust::Ca(vec![relay.certificate.clone()]);
    let (_client, _session) = connect_with(&relay, Config::new([relay.name()], trust.clone(), "token"), &[]).await;
    let accepting = async { relay.endpoint.accept().await.expect("an endpoint").await.err() };
    let by_address = Config::new([relay.address()], trust, "token");
    let (refused, _) = tokio::join!(soon(Client::connect(by_address)), accepting);
    assert!(matches!(refused, Err(ConnectError::Refused(ConnectionLost::Untrusted(_)))), "{:?}", refused.err());
}

// --- Connecting ---

#[tokio::test]
async fn an_unreachable_relay_is_reported_after_the_timeout() {
    let config = Config::new(["127.0.0.1:9"], Trust::Fingerprint([0; 32]), "token")
        .attempt_timeout(Duration::from_millis(100))
        .connect_timeout(Duration::from_millis(300));
    let begun = Instant::now();
    let error = soon(Client::connect(config)).await.err().expect("nobody there");
    assert!(error.may_retry() && begun.elapsed() >= Duration::from_millis(300), "{error}");
    let none = Config::new([""; 0], Trust::Fingerprint([0; 32]), "token");
    assert!(matches!(Client::connect(none).await, Err(ConnectError::NoRelay)));
}

// --- Losing and moving ---

#[tokio::test]
async fn a_client_leaves_a_relay_that_breaks_the_protocol() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (mut conversation, mut stream) = open(&client, &session, "test:a").await;
    stream.event(2, b"a hole").await;
    assert_eq!(session.closed().await, Code::UNEXPECTED);
    let session = relay.welcome(&[]).await;
    let (mut stream, ..) = session.open(1).await;
    stream.event(1, b"whole").await;
    assert_eq!(seq(&mut conversation).await, 1);
}

#[tokio::test]
async fn a_relay_that_goes_away_is_left_only_once_another_one_is_there() {
    let (old, new) = (Relay::start(), Relay::start());
    let trust = Trust::Ca(vec![old.certificate.clone(), new.certificate.clone()]);
    let config = Config::new([old.name()], trust, "token");
    let (client, mut session) = connect_with(&old, config, &[&new]).await;
    let (mut conversation, mut stream) = open(&client, &session, "test:a").await;
    session.control.put(&GoAway { code: Code::SHUTDOWN, within: 5_000 }).await;

    let mut moved = new.accept().await;
    stream.event(1, b"still here").await;
    assert_eq!(seq(&mut conversation).await, 1, "the old one serves until the new one does");
    moved.welcome(new.pace, &[&new]).await;
    let (mut stream, _, _, start) = moved.open(1).await;
    assert_eq!(start, WireStart::After { generation: LOG, seq: 1 });
    stream.event(2, b"moved").await;
    assert_eq!(seq(&mut conversation).await, 2);
    assert_eq!(session.closed().await, Code::BYE);
}

#[tokio::test]
async fn a_relay_that_falls_silent_is_left_long_before_the_idle_timeout() {
    let (silent, other) = (Relay::start(), Relay::start());
    let trust = Trust::Ca(vec![silent.certificate.clone(), other.certificate.clone()]);
    let config = Config::new([silent.name(), other.name()], trust, "token");
    let (client, session) = connect_with(&silent, config, &[]).await;
    let (conversation, _stream) = open(&client, &session, "test:a").await;
    silent.vanish();
    let begun = Instant::now();
    let receipt = conversation.send("anyone?").await.expect("queued");
    let session = other.welcome(&[]).await;
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let (mut stream, ..) = session.open(0).await;
    stream.post().await;
    stream.put(&Accepted { n: 1, seq: 1, number: 1, at: 1 }).await;
    assert_eq!(soon(receipt.accepted()).await.expect("accepted").seq, 1);
}

#[tokio::test]
async fn reconnecting_resumes_the_session_of_tls() {
    let relay = Relay::start();
    let trust = Trust::Ca(vec![relay.certificate.clone()]);
    let (client, session) = connect_with(&relay, Config::new([relay.name()], trust, "token"), &[]).await;
    // Tickets are there when something that follows them is.
    let (_conversation, _stream) = open(&client, &session, "test:a").await;
    assert_eq!(relay.resumed(), 0);
    session.close(Code::SHUTDOWN);
    let _session = relay.welcome(&[]).await;
    assert_eq!(relay.resumed(), 1);
}

#[tokio::test]
async fn a_connection_outlives_a_change_of_address() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (mut conversation, mut stream) = open(&client, &session, "test:a").await;
    let before = session.connection.remote_address();
    client.network_changed();
    conversation.sender().send("from elsewhere").await.expect("queued").n();
    assert_eq!(stream.post().await.0, 1);
    stream.put(&Accepted { n: 1, seq: 1, number: 1, at: 1 }).await;
    assert_eq!(seq(&mut conversation).await, 1);
    let moved = async {
        while session.connection.remote_address() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(moved).await;
}

#[tokio::test]
async fn a_replaced_client_stops_and_says_so() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (mut conversation, _stream) = open(&client, &session, "test:a").await;
    let receipt = conversation.send("never answered").await.expect("queued");
    session.close(Code::REPLACED);
    // Once, and soon after connecting, that may have been a late packet of an earlier process.
    let again = relay.welcome(&[]).await;
    again.close(Code::REPLACED);
    assert!(matches!(closed(&client).await, ClosedReason::Replaced));
    assert!(soon(receipt.accepted()).await.is_err());
    while soon(conversation.next()).await.is_some() {}
    assert!(matches!(client.list(None, 10).await, Err(RequestError::Closed(ClosedReason::Replaced))));
    let opened = client.open(room("test:b"), OpenOptions::member()).await;
    assert!(matches!(opened.err(), Some(OpenError::Closed(ClosedReason::Replaced))));
}

// --- Closing ---

#[tokio::test]
async fn dropping_the_last_handle_says_goodbye_and_a_conversation_is_one() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    let (sender, events) = conversation.split();
    drop((client, events));
    let receipt = sender.send("last words").await.expect("queued");
    drop(sender);
    assert_eq!(stream.post().await.0, 1);
    stream.put(&Accepted { n: 1, seq: 1, number: 1, at: 1 }).await;
    assert_eq!(soon(receipt.accepted()).await.expect("answered though no handle is left").seq, 1);
    stream.send.finish().expect("open");
    assert_eq!(session.closed().await, Code::BYE);
}

#[tokio::test]
async fn closing_is_for_all_handles() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let other = client.clone();
    soon(client.close()).await;
    assert_eq!(session.closed().await, Code::BYE);
    assert!(matches!(closed(&other).await, ClosedReason::ByApp));
    soon(other.close()).await;
}

// --- Conversations ---

#[tokio::test]
async fn a_conversation_is_open_once_and_again_after_it_was_dropped() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    let again = client.open(room("test:a"), OpenOptions::member()).await;
    assert!(matches!(again.err(), Some(OpenError::AlreadyOpen)));
    stream.send.finish().expect("open");
    drop(conversation);
    let (_conversation, _stream) = open(&client, &session, "test:a").await;
}

#[tokio::test]
async fn a_stream_that_the_relay_ends_is_read_to_its_end() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (mut conversation, mut stream) = open(&client, &session, "test:a").await;
    stream.recv.stop(1u32.into()).expect("open");
    let receipt = conversation.send("too late").await.expect("queued");
    // By then the client knows that nobody reads; if it does not, this test shows less, and still holds.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _after = conversation.send("later still").await.expect("queued");
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.event(1, b"the last one").await;
    stream.put(&End { code: Code::ENDED, retry_after: 0, info: 0, text: "removed" }).await;
    stream.send.finish().expect("open");
    // Once more, for what became of the commands.
    let (mut stream, ..) = session.open(1).await;
    stream.put(&End { code: Code::ENDED, retry_after: 0, info: 0, text: "removed" }).await;
    stream.send.finish().expect("open");
    assert_eq!(seq(&mut conversation).await, 1);
    assert_eq!(next(&mut conversation).await, ConversationEvent::Ended(Code::ENDED));
    assert_eq!(soon(conversation.next()).await, None);
    assert!(soon(receipt.accepted()).await.is_err());
}

#[tokio::test]
async fn an_app_that_does_not_read_one_conversation_reads_the_other() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let (mut slow, mut flood) = open(&client, &session, "test:slow").await;
    let (mut quick, mut trickle) = open(&client, &session, "test:quick").await;
    let flooding = tokio::spawn(async move {
        for seq in 1..=200 {
            flood.event(seq, &[0; 16_000]).await;
        }
        flood
    });
    for at in 1..=20 {
        trickle.event(at, b"quick").await;
        assert_eq!(seq(&mut quick).await, at);
    }
    assert!(!flooding.is_finished(), "the relay is held back");
    for at in 1..=200 {
        assert_eq!(seq(&mut slow).await, at);
    }
    soon(flooding).await.expect("all written");
}

#[tokio::test]
async fn signals_go_both_ways_and_bad_ones_are_dropped() {
    let relay = Relay::start();
    let (client, session) = connect(&relay).await;
    let mut told = client.events();
    let (conversation, stream) = open(&client, &session, "test:a").await;
    conversation.sender().signal(1, b"").expect("sent");
    let datagram = soon(session.connection.read_datagram()).await.expect("a datagram");
    let frame = from_datagram(&datagram).expect("a frame");
    let sent: Signal<'_> = decode(frame.body).expect("a signal");
    let number = u64::from(stream.send.id());
    assert_eq!((frame.kind, sent.channel, sent.user, sent.kind), (0x61, number, "", 1));

    let signal = |channel, user| to_datagram(&Signal { channel, user, kind: 16, body: Blob(b"wave") });
    for datagram in [signal(400, "bob"), signal(number, ""), b"\x63nonsense"[..].into(), signal(number, "bob")] {
        session.connection.send_datagram(datagram).expect("sent");
    }
    let Some(ClientEvent::Signal { conversation: id, user, kind, body }) = soon(told.next()).await else {
        panic!("not a signal")
    };
    assert_eq!((id, user.as_str(), kind, &body[..]), (conversation.id(), "bob", 16, &b"wave"[..]));
}

#[tokio::test]
async fn an_app_that_does_not_take_client_events_is_told_how_many_it_missed() {
    let relay = Relay::start();
    let (client, mut session) = connect(&relay).await;
    let mut lazy = client.events();
    let mut eager = client.events();
    for at in 0..1030 {
        session.control.put(&Notice { code: Code::DONE, text: "hear" }).await;
        assert!(matches!(soon(eager.next()).await, Some(ClientEvent::Notice { .. })), "{at}");
    }
    for _ in 0..1024 {
        assert!(matches!(soon(lazy.next()).await, Some(ClientEvent::Notice { .. })));
    }
    session.control.put(&Notice { code: Code::DONE, text: "hear" }).await;
    assert!(matches!(soon(lazy.next()).await, Some(ClientEvent::Missed(6))));
    assert!(matches!(soon(lazy.next()).await, Some(ClientEvent::Notice { .. })));
}
