//! What a client sends stays within what `Welcome` allows, and what waits for it keeps nobody else from sending.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
    time::Instant,
};

use futures_util::{FutureExt, future::select_all};
use quip_client::{Client, Code, ConversationId};
use quip_protocol::{
    ToRelay,
    conversation::{Accepted, End},
    cost,
    frame::to_bytes,
};

use super::{
    connect,
    fake::{Pace, Relay, Session, Stream},
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

/// What arrives, and whether it may.
struct Meter {
    pace: Pace,
    /// Before `Welcome`.
    begun: Instant,
    /// Tenths of commands that have arrived.
    cost: u32,
    /// Stream, number and size of the posts without an answer.
    unanswered: VecDeque<(usize, u64, u64)>,
}

impl Meter {
    fn count(&mut self, cost: u32) {
        self.cost += cost;
        let most = self.pace.burst as f64 + self.pace.rate as f64 * self.begun.elapsed().as_secs_f64();
        assert!(f64::from(self.cost) / 10.0 <= most, "{} tenths where {most} commands may come", self.cost);
    }

    /// Waits for a post; meanwhile a mark may come.
    async fn post(&mut self, streams: &mut [Stream]) {
        loop {
            let each = streams.iter_mut().map(|stream| {
                Box::pin(stream.next(|message| match message {
                    ToRelay::Post(post) => Some((post.n, to_bytes(&post).len() as u64)),
                    ToRelay::Mark(_) => None,
                    other => panic!("unexpected {other:?}"),
                }))
            });
            let (found, stream, _) = select_all(each).await;
            self.count(if found.is_some() { cost::COMMAND } else { cost::MARK });
            if let Some((n, size)) = found {
                self.unanswered.push_back((stream, n, size));
                let bytes: u64 = self.unanswered.iter().map(|(_, _, size)| size).sum();
                return assert!(bytes <= self.pace.bytes, "{bytes} bytes are unanswered");
            }
        }
    }

    /// Answers a request.
    async fn request(&mut self, session: &Session) {
        let mut stream = session.stream().await;
        assert!(stream.next(|message| matches!(message, ToRelay::List(_))).await, "a request");
        self.count(cost::REQUEST);
        stream.put(&End { code: Code::DONE, retry_after: 0, info: 0, text: "" }).await;
    }
}

#[tokio::test]
async fn nothing_arrives_beyond_the_rate_and_the_bytes() {
    let mut relay = Relay::start();
    relay.pace = Pace { rate: 100, burst: 8, bytes: 65_536 };
    let mut meter = Meter { pace: relay.pace, begun: Instant::now(), cost: 0, unanswered: VecDeque::new() };
    let (client, session) = connect(&relay).await;
    let (mut conversations, mut streams) = (Vec::new(), Vec::new());
    for name in ["test:a", "test:b", "test:c"] {
        let (conversation, stream) = open(&client, &session, name).await;
        meter.count(cost::OPEN);
        for _ in 0..8 {
            drop(conversation.sender().try_send_data([0; 16_000]).expect("queued"));
        }
        conversations.push(conversation);
        streams.push(stream);
    }
    // Four of the messages have room.
    for answered in 0..24_u64 {
        while meter.unanswered.len() < 4.min(24 - answered as usize) {
            meter.post(&mut streams).await;
        }
        for conversation in &conversations {
            conversation.sender().mark_read(answered + 1, answered + 1);
        }
        // Each request has a turn, and so would a message that did not wait for bytes.
        for _ in 0..3 {
            let asking = async { client.list(None, 1).await.expect("answered") };
            tokio::join!(asking, meter.request(&session));
        }
        assert!(meter.post(&mut streams).now_or_never().is_none(), "there is no room for another one");
        let (stream, n, _) = meter.unanswered.pop_front().expect("a post");
        streams[stream].put(&Accepted { n, seq: n, number: n, at: 1 }).await;
    }
}
