//! What a client sends stays within what `Welcome` allows, and what waits for it keeps nobody else from sending.

use std::task::{Context, Waker};

use quip_client::{Client, Code, ConversationId};
use quip_protocol::ToRelay;

use super::{
    connect,
    fake::{Pace, Relay, Session},
    open,
};

/// Ten commands a second: what books its turn long before it sends holds up the others for minutes.
fn slow() -> Relay {
    let mut relay = Relay::start();
    relay.pace = Pace { rate: 10, burst: 4, ..relay.pace };
    relay
}

/// A request that is begun, and not polled any more.
fn begin(client: &Client) -> impl Future<Output = ()> + Send + use<> {
    let client = client.clone();
    let mut request = Box::pin(async move { drop(client.members(ConversationId([2; 16]), None, 1).await) });
    assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    request
}

/// The next request.
async fn request(session: &Session) {
    let mut stream = session.stream().await;
    assert!(stream.next(|message| matches!(message, ToRelay::Members(_))).await, "a request");
}

#[tokio::test]
async fn requests_that_were_given_up_hold_nobody_up() {
    let relay = slow();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    (0..6000).for_each(|_| drop(begin(&client)));
    let _receipt = conversation.send("soon").await.expect("queued");
    assert_eq!(stream.post().await.1, b"soon");
}

#[tokio::test]
async fn a_message_waits_for_one_request_and_not_for_all() {
    let relay = slow();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    let asking: Vec<_> = (0..1000).map(|_| begin(&client)).map(tokio::spawn).collect();
    let mut arrived = 0;
    // What may go at once does.
    while arrived < 2 {
        request(&session).await;
        arrived += 1;
    }
    let _receipt = conversation.send("soon").await.expect("queued");
    let before = arrived;
    loop {
        tokio::select! {
            () = request(&session) => arrived += 1,
            (_, text) = stream.post() => break assert_eq!(text, b"soon"),
        }
    }
    assert!(arrived - before <= 3, "{} requests went first", arrived - before);
    asking.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_goes_to_the_connection_that_there_is_then() {
    let relay = slow();
    let (client, session) = connect(&relay).await;
    let asking: Vec<_> = (0..20).map(|_| begin(&client)).map(tokio::spawn).collect();
    request(&session).await;
    session.close(Code::SHUTDOWN);
    let session = relay.welcome(&[]).await;
    request(&session).await;
    asking.iter().for_each(tokio::task::JoinHandle::abort);
}

/// An app may begin a request, and then wait for something else.
#[tokio::test]
async fn requests_that_are_not_polled_hold_nobody_up() {
    let relay = slow();
    let (client, session) = connect(&relay).await;
    let (conversation, mut stream) = open(&client, &session, "test:a").await;
    let unpolled: Vec<_> = (0..1000).map(|_| begin(&client)).collect();
    let _receipt = conversation.send("soon").await.expect("queued");
    assert_eq!(stream.post().await.1, b"soon");
    drop(unpolled);
}
