//! A lean client: the wire protocol directly on QUIC, without outbox, reconnect or state.
//!
//! The relay is measured, so the generator does no more than the protocol requires.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use quip_link::Namespace;
use quip_protocol::{
    ALPN, Blob, Code, ConversationId, DeviceId, InstanceId, Items, ToClient, UserId,
    conversation::{Open, Opened, Post, Start, Target},
    event, frame, grease, limit,
    request::History,
    session::{Hello, Welcome},
};
use tokio::sync::Semaphore;

use crate::{
    check::{Faults, Sequence, Tamper},
    framing::Framing,
    load::{Outlet, PAYLOAD},
    relay::Relay,
    transport::{self, Fingerprint},
    void::Void,
};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The identity of a client over all its connections.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    device: DeviceId,
    instance: InstanceId,
}

impl Identity {
    pub(crate) fn new() -> Self {
        Self { device: DeviceId(rand::random()), instance: InstanceId(rand::random()) }
    }
}

/// One socket for any number of clients of a relay.
#[derive(Clone)]
pub(crate) struct Clients {
    endpoint: Endpoint,
    relay: SocketAddr,
    streams: u32,
}

impl Clients {
    /// Clients that each open up to `streams` conversations.
    pub(crate) fn new(relay: &Relay, streams: u32) -> Result<Self> {
        Self::on(transport::endpoint(LOOPBACK, None)?, relay, transport::client_config, streams)
    }

    /// As [`Clients::new`], with at most `window` bytes on a stream before they read on.
    pub(crate) fn with_window(relay: &Relay, streams: u32, window: u32) -> Result<Self> {
        let config = |pin, alpn: &[u8], streams| transport::window_config(pin, alpn, streams, window);
        Self::on(transport::endpoint(LOOPBACK, None)?, relay, config, streams)
    }

    /// As [`Clients::new`], for many handshakes; see [`transport::crowd_config`].
    pub(crate) fn crowd(relay: &Relay, streams: u32) -> Result<Self> {
        Self::on(transport::endpoint(LOOPBACK, None)?, relay, transport::crowd_config, streams)
    }

    /// As [`Clients::new`], from one side of a link.
    pub(crate) fn within(side: &Namespace, relay: &Relay, streams: u32) -> Result<Self> {
        Self::on(transport::endpoint_within(side, None)?, relay, transport::client_config, streams)
    }

    fn on(
        mut endpoint: Endpoint,
        relay: &Relay,
        config: impl FnOnce(Fingerprint, &[u8], u32) -> Result<ClientConfig>,
        streams: u32,
    ) -> Result<Self> {
        endpoint.set_default_client_config(config(relay.pin, ALPN, streams)?);
        Ok(Self { endpoint, relay: relay.address, streams })
    }

    /// The shared UDP port.
    pub(crate) fn port(&self) -> Result<u16> {
        Ok(self.endpoint.local_addr()?.port())
    }

    /// Connects a new device of the user in the token.
    pub(crate) async fn connect(&self, token: &str) -> Result<Session> {
        self.connect_as(Identity::new(), token).await
    }

    /// Connects a device that may have been connected before.
    pub(crate) async fn connect_as(&self, who: Identity, token: &str) -> Result<Session> {
        let (connection, _session_stream, mut reader) = self.hello(who, token).await?;
        match reader.next().await? {
            Some(ToClient::Welcome(Welcome { streams, .. })) => {
                ensure!(streams >= self.streams.into(), "the relay grants {streams} of {} streams", self.streams);
            }
            other => bail!("expected Welcome, got {other:?}"),
        }
        tokio::spawn(drain(reader));
        Ok(Session { connection, _session_stream })
    }

    /// Connects with a token that the relay refuses. Gives the code of the refusal.
    pub(crate) async fn knock(&self, token: &str) -> Result<Code> {
        let (connection, ..) = self.hello(Identity::new(), token).await?;
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => Ok(Code(close.error_code.into_inner())),
            error => Err(error.into()),
        }
    }

    async fn hello(&self, who: Identity, token: &str) -> Result<(Connection, SendStream, Reader)> {
        let connecting = self.endpoint.connect(self.relay, "localhost")?;
        let connection = connecting.await.context("the relay does not answer")?;
        let (mut send, receive) = connection.open_bi().await?;
        let hello = Hello {
            token,
            device: who.device,
            instance: who.instance,
            client: concat!("quip-bench ", env!("CARGO_PKG_VERSION")),
            features: Items::default(),
            streams: self.streams.into(),
        };
        send.write_all(&frame::to_bytes(&hello)).await?;
        Ok((connection, send, Reader::new(receive)))
    }

    /// Moves to another socket, on `address`.
    pub(crate) fn rebind(&self, address: IpAddr) -> Result<()> {
        Ok(self.endpoint.rebind(transport::socket((address, 0).into())?.into())?)
    }

    /// Ends all connections, which must be alive, without notifying the relay. (quinn 0.11.12 panics if a socket is replaced at
    /// the moment a connection is lost.)
    pub(crate) fn vanish(self) -> Result<()> {
        // The endpoint also listens on the socket before its latest one.
        self.endpoint.rebind_abstract(Arc::new(Void))?;
        self.endpoint.rebind_abstract(Arc::new(Void))?;
        self.endpoint.close(code(Code::BYE), b"");
        Ok(())
    }

    /// Closes all connections and waits until the relay has been notified.
    pub(crate) async fn close(self) {
        self.endpoint.close(code(Code::BYE), b"");
        self.endpoint.wait_idle().await;
    }
}

/// A connection after Welcome.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    /// Dropping it would finish the session stream, which closes the session.
    _session_stream: SendStream,
}

impl Session {
    /// Opens the direct conversation with `user`, for new events; with `join`, creates it if necessary.
    pub(crate) async fn open_direct(&self, user: &str, join: bool) -> Result<Conversation> {
        self.open_direct_from(user, join, Start::Now).await
    }

    /// As [`Session::open_direct`], from any start.
    pub(crate) async fn open_direct_from(&self, user: &str, join: bool, start: Start) -> Result<Conversation> {
        self.open(&Target::Direct(UserId::parse(user)?), join, start).await
    }

    /// Opens any conversation; with `join`, as a member.
    pub(crate) async fn open(&self, target: &Target<'_>, join: bool, start: Start) -> Result<Conversation> {
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(&frame::to_bytes(&Open::new(target, join.into(), start))).await?;
        let mut reader = Reader::new(receive);
        let (id, generation, head, last_n) = match reader.next().await? {
            Some(ToClient::Opened(Opened { conversation, generation, head, last_n, .. })) => {
                (conversation, generation, head, last_n)
            }
            other => bail!("expected Opened, got {other:?}"),
        };
        Ok(Conversation { id, generation, head, last_n, send, reader })
    }

    /// Fetches a page from the beginning of a conversation, or, if `events` is 0, an empty page behind its end. Returns the
    /// number of events.
    pub(crate) async fn page(&self, conversation: ConversationId, events: u64) -> Result<u64> {
        let (mut send, receive) = self.connection.open_bi().await?;
        let from = if events == 0 { u64::MAX } else { 0 };
        let request = History { conversation, forward: true, from, limit: events.max(1) };
        send.write_all(&frame::to_bytes(&request)).await?;
        send.finish()?;
        let mut reader = Reader::new(receive);
        let (mut tamper, mut seqs) = (Tamper::default(), Sequence::default());
        let mut count = 0;
        loop {
            match reader.next().await? {
                Some(ToClient::Page(_)) => {}
                Some(ToClient::Event(event)) => {
                    // The first event has number 1.
                    for seq in tamper.pass(event.seq - 1) {
                        seqs.record(seq);
                        count += 1;
                    }
                }
                Some(ToClient::End(end)) if end.code == Code::DONE => {
                    let faults = seqs.faults(events);
                    ensure!(faults == Faults::default(), "a page with {faults:?}");
                    return Ok(count);
                }
                other => bail!("unexpected frame in a page of history: {other:?}"),
            }
        }
    }
}

/// An open conversation stream.
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    /// Generation of its log.
    pub(crate) generation: u64,
    /// Seq of the newest event when it was opened.
    pub(crate) head: u64,
    /// The last decided number of this device.
    pub(crate) last_n: u64,
    pub(crate) send: SendStream,
    pub(crate) reader: Reader,
}

/// The sending half of a conversation under open-loop load.
pub(crate) struct Poster {
    send: SendStream,
    n: u64,
    /// Permits for unanswered commands; the reader of answers returns them.
    pub(crate) credit: Arc<Semaphore>,
    encoded: Vec<u8>,
    /// The written frames.
    pub(crate) framing: Framing,
}

impl Poster {
    pub(crate) fn new(send: SendStream, last_n: u64) -> Self {
        let credit = Arc::new(Semaphore::new(limit::UNANSWERED as usize));
        Self { send, n: last_n, credit, encoded: Vec::new(), framing: Framing::default() }
    }

    /// Sends a text message; waits for credit.
    pub(crate) async fn post(&mut self, text: &[u8]) -> Result<()> {
        self.credit.acquire().await?.forget();
        self.n += 1;
        self.encoded.clear();
        encode_post(self.n, text, &mut self.encoded);
        self.framing.count(self.encoded.len(), text.len(), 0);
        Ok(self.send.write_all(&self.encoded).await?)
    }
}

impl Outlet for Poster {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.post(&payload).await
    }
}

/// Appends a text message.
pub(crate) fn encode_post(n: u64, text: &[u8], out: &mut Vec<u8>) {
    frame::encode(&Post { n, kind: event::kind::TEXT, body: Blob(text) }, out);
}

/// Splits a stream from the relay into messages.
pub(crate) struct Reader {
    stream: RecvStream,
    buffer: BytesMut,
    /// Bytes of `buffer` that were returned.
    taken: usize,
}

impl Reader {
    fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), taken: 0 }
    }

    /// Waits for more bytes; returns false if the relay finished the stream.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        let Some(chunk) = self.stream.read_chunk(usize::MAX, true).await? else {
            return Ok(false);
        };
        self.buffer.advance(std::mem::take(&mut self.taken));
        self.buffer.extend_from_slice(&chunk.bytes);
        Ok(true)
    }

    /// The next complete message in the buffer.
    pub(crate) fn buffered(&mut self) -> Result<Option<ToClient<'_>>> {
        Ok(self.buffered_frame()?.map(|(message, _)| message))
    }

    /// As [`Reader::buffered`], with the bytes of its frame.
    pub(crate) fn buffered_frame(&mut self) -> Result<Option<(ToClient<'_>, &[u8])>> {
        self.skip_reserved()?;
        let rest = &self.buffer[self.taken..];
        match frame::split(rest, limit::FRAME)? {
            None => Ok(None),
            Some((frame, length)) => {
                self.taken += length;
                let message = ToClient::decode(frame)?.context("a message of an unknown type")?;
                Ok(Some((message, &rest[..length])))
            }
        }
    }

    /// Skips frames that mean nothing.
    fn skip_reserved(&mut self) -> Result<()> {
        while let Some((frame, length)) = frame::split(&self.buffer[self.taken..], limit::FRAME)?
            && grease::is_reserved(frame.kind)
        {
            self.taken += length;
        }
        Ok(())
    }

    /// The next message; `None` if the relay finished the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<ToClient<'_>>> {
        Ok(self.next_frame().await?.map(|(message, _)| message))
    }

    /// As [`Reader::next`], with the bytes of its frame.
    pub(crate) async fn next_frame(&mut self) -> Result<Option<(ToClient<'_>, &[u8])>> {
        self.skip_reserved()?;
        while frame::split(&self.buffer[self.taken..], limit::FRAME)?.is_none() {
            if !self.fill().await? {
                return Ok(None);
            }
            self.skip_reserved()?;
        }
        self.buffered_frame()
    }
}

/// Reads and discards, so that the data does not use up the connection's window.
pub(crate) async fn drain(mut reader: Reader) {
    // It ends with the connection, whose users get the reason.
    while let Ok(Some(_)) = reader.next().await {}
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}
