//! Requests: one frame to the relay, and its answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, WriteError};
use quip_protocol::{Code, ToClient, frame::Message, frame::to_bytes};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

use super::{Broken, Hub, Link, LinkState, buffer::Buffer, dial::CHUNK, outgoing::Outgoing};
use crate::{ConnectionLost, RequestError};

/// Sends a request and passes every frame of the answer to `each`. Returns whether there is more to fetch. Waits as long as the
/// relay takes no more of this user, through reconnects, but not for a connection to begin with.
pub(crate) async fn ask<M: Message>(
    hub: &Hub,
    limit: Duration,
    request: &M,
    mut each: impl FnMut(ToClient<'_>) -> Option<()>,
) -> Result<bool, RequestError> {
    let request = to_bytes(request);
    let deadline = Instant::now() + limit;
    let mut refused = None;
    let asking = async {
        let mut links = hub.links.follow();
        if matches!(links.latest(), LinkState::Down) {
            return Err(RequestError::Offline);
        }
        loop {
            let link = match links.latest() {
                LinkState::Up(link) => link,
                LinkState::Down => {
                    links.changed().await;
                    continue;
                }
                LinkState::Closed(reason) => return Err(reason.into()),
            };
            tokio::select! {
                biased;
                // A turn is one of its connection.
                () = links.changed() => continue,
                () = turn(hub, &link) => {}
            }
            // It is refused before anything else is said.
            match answer(&link, request.clone(), &mut each).await {
                Err(RequestError::Refused { code: Code::RATE, retry_after, text }) => {
                    let again = Instant::now() + retry_after.max(SHORT);
                    let refusal = RequestError::Refused { code: Code::RATE, retry_after, text };
                    if again > deadline {
                        return Err(refusal);
                    }
                    refused = Some(refusal);
                    sleep_until(again).await;
                }
                answered => return answered,
            }
        }
    };
    let answered = timeout_at(deadline, asking).await;
    answered.unwrap_or_else(|_| Err(refused.unwrap_or_else(|| ConnectionLost::Timeout(limit).into())))
}

/// Waits in a task of its own: the app may not poll a request for a while, and others wait behind it.
async fn turn(hub: &Hub, link: &Arc<Link>) {
    let (mut tell, told) = oneshot::channel();
    let link = link.clone();
    hub.platform.spawn(async move {
        tokio::select! {
            biased;
            () = tell.closed() => {}
            () = link.allowance.turn_of_request() => drop(tell.send(())),
        }
    });
    told.await.ok();
}

async fn answer(
    link: &Link,
    request: Bytes,
    mut each: impl FnMut(ToClient<'_>) -> Option<()>,
) -> Result<bool, RequestError> {
    let (send, mut recv) = link.connection.open_bi().await.map_err(ConnectionLost::from)?;
    send.set_priority(REQUEST).ok();
    let mut out = Outgoing::new(send);
    out.put(request);
    while !out.is_empty() {
        match out.write().await {
            Ok(()) => {}
            // The answer has the reason.
            Err(WriteError::Stopped(_)) => out.stopped(),
            Err(error) => return Err(ConnectionLost::Transport(error.to_string().into()).into()),
        }
    }
    out.end();
    let mut end = None;
    let mut buffer = Buffer::default();
    while end.is_none() {
        buffer.push(read(&mut recv).await?);
        let drained = buffer.drain(|message| {
            match message {
                ToClient::End(found) => end = Some(refusal(found)),
                message => each(message).ok_or_else(|| Broken::unexpected("unexpected frame in an answer"))?,
            }
            Ok::<_, Broken>(end.is_none())
        });
        if let Err(broken) = drained {
            link.close_broken(&broken);
            return Err(ConnectionLost::from(broken).into());
        }
    }
    end.unwrap_or(Ok(false))
}

async fn read(recv: &mut RecvStream) -> Result<Bytes, RequestError> {
    match recv.read_chunk(CHUNK, true).await {
        Ok(Some(chunk)) => Ok(chunk.bytes),
        Ok(None) => Err(ConnectionLost::Protocol("answer without End".into()).into()),
        Err(ReadError::ConnectionLost(error)) => Err(ConnectionLost::from(error).into()),
        Err(ReadError::Reset(code)) => Err(refused(Code(code.into_inner()), Duration::ZERO, "")),
        Err(error) => Err(ConnectionLost::Transport(error.to_string().into()).into()),
    }
}

fn refusal(end: quip_protocol::conversation::End<'_>) -> Result<bool, RequestError> {
    if end.code == Code::DONE {
        Ok(end.info == 1)
    } else {
        Err(refused(end.code, Duration::from_millis(end.retry_after), end.text))
    }
}

fn refused(code: Code, retry_after: Duration, text: &str) -> RequestError {
    RequestError::Refused { code, retry_after, text: text.to_owned() }
}

/// The least pause before a request that was refused for now is made again.
const SHORT: Duration = Duration::from_millis(10);
/// Priority below conversations.
const REQUEST: i32 = -1;
