//! A client that knows nothing but the wire: it can say what no good client says.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, ReadError, ReadToEndError, RecvStream,
    SendStream, TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};
use quip_protocol::{
    ALPN, Code, DeviceId, Frame, InstanceId, Items, Message, ToClient,
    conversation::{Accepted, Open, Post, Start, Target},
    event::kind,
    frame, grease,
    session::{Hello, Welcome},
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::relay::{PATIENCE, Relay};

/// Settings of a raw connection.
#[derive(Debug, Clone)]
pub struct RawOptions {
    /// ALPN offered.
    pub alpn: Vec<u8>,
    /// QUIC keepalive; `None` sends none.
    pub keepalive: Option<Duration>,
    /// Bytes that the relay may send on one stream before they are read.
    pub stream_window: u32,
    /// Where to connect to, if not to the relay itself.
    pub address: Option<SocketAddr>,
}

impl Default for RawOptions {
    fn default() -> Self {
        Self { alpn: ALPN.to_vec(), keepalive: Some(Duration::from_secs(2)), stream_window: 256 << 10, address: None }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Raw {
    /// The QUIC connection.
    pub quic: Connection,
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The session stream, after a hello.
    pub session: Option<RawStream>,
}

/// One stream.
#[derive(Debug)]
pub struct RawStream {
    /// The sending half.
    pub send: SendStream,
    /// The receiving half.
    pub recv: RecvStream,
    buffer: Vec<u8>,
}

/// A frame with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The type.
    pub kind: u64,
    /// The body.
    pub body: Vec<u8>,
}

impl OwnedFrame {
    /// The message, if it is one of type `M`.
    pub fn to<'a, M: Message + serde::Deserialize<'a>>(&'a self) -> Option<M> {
        (self.kind == M::TYPE).then(|| frame::decode(&self.body).ok()).flatten()
    }

    /// The message, whatever it is.
    ///
    /// # Errors
    /// When the relay sent something malformed or unknown.
    pub fn message(&self) -> Result<ToClient<'_>> {
        ToClient::decode(Frame { kind: self.kind, body: &self.body })?.context("an unknown odd type")
    }
}

impl Raw {
    /// Connects without saying anything.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect(relay: &Relay) -> Result<Self> {
        Self::connect_with(relay, RawOptions::default()).await
    }

    /// Connects with settings of one's own, without saying anything.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect_with(relay: &Relay, options: RawOptions) -> Result<Self> {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = options.address.unwrap_or(relay.address);
        let config = client_config(relay.fingerprint()?, options)?;
        let connecting = endpoint.connect_with(config, address, "localhost")?;
        let quic = tokio::time::timeout(PATIENCE, connecting).await.context("no handshake in time")??;
        Ok(Self { quic, endpoint, session: None })
    }

    /// Connects and says hello with a device drawn from the user's name.
    ///
    /// # Errors
    /// When the relay does not welcome the user.
    pub async fn login(relay: &Relay, user: &str) -> Result<Self> {
        let mut device = [0; 16];
        device[..user.len().min(16)].copy_from_slice(&user.as_bytes()[..user.len().min(16)]);
        let mut raw = Self::connect(relay).await?;
        raw.hello(&relay.token(user)?, DeviceId(device), InstanceId(rand::random())).await?;
        Ok(raw)
    }

    /// Says hello and waits for the welcome: the user that the relay took the client for.
    ///
    /// # Errors
    /// When the relay does not welcome the user.
    pub async fn hello(&mut self, token: &str, device: DeviceId, instance: InstanceId) -> Result<String> {
        let mut stream = self.stream().await?;
        stream.send(&Hello { token, device, instance, client: "raw", streams: 64, features: Items::default() }).await?;
        let frame = stream.frame().await?;
        let user = frame.to::<Welcome<'_>>().context("no welcome")?.user.to_owned();
        self.session = Some(stream);
        Ok(user)
    }

    /// Opens a stream without saying anything on it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn stream(&self) -> Result<RawStream> {
        let (send, recv) = tokio::time::timeout(PATIENCE, self.quic.open_bi()).await.context("no stream credit")??;
        Ok(RawStream::new(send, recv))
    }

    /// Opens a conversation, joining with send number `join` unless it is 0, and returns the first frame too.
    ///
    /// # Errors
    /// When the relay closes instead of answering.
    pub async fn open(&self, target: &Target<'_>, join: u64, start: Start) -> Result<(RawStream, OwnedFrame)> {
        let mut stream = self.stream().await?;
        let mut open = Open::new(target, join, start);
        open.channel = stream.channel();
        stream.send(&open).await?;
        let first = stream.frame().await?;
        Ok((stream, first))
    }

    /// The code with which the relay closes the connection.
    ///
    /// # Errors
    /// When it does not, or the connection ends in another way.
    pub async fn close_code(&self) -> Result<Code> {
        let error = tokio::time::timeout(PATIENCE, self.quic.closed()).await.context("the relay does not close")?;
        match error {
            ConnectionError::ApplicationClosed(close) => Ok(Code(close.error_code.into_inner())),
            error => bail!("the connection ended otherwise: {error}"),
        }
    }
}

impl RawStream {
    /// A stream that was opened by hand.
    pub fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, buffer: Vec::new() }
    }

    /// The channel that [`Raw::open`] gives to the conversation: QUIC's number of the stream.
    pub fn channel(&self) -> u64 {
        self.send.id().into()
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the stream or connection is gone.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<()> {
        self.bytes(&frame::to_bytes(message)).await
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// When the stream or connection is gone.
    pub async fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.send.write_all(bytes).await?)
    }

    /// Posts a text.
    ///
    /// # Errors
    /// When the stream or connection is gone.
    pub async fn post(&mut self, n: u64, text: &str) -> Result<()> {
        self.send(&Post { n, kind: kind::TEXT, body: quip_protocol::Blob(text.as_bytes()) }).await
    }

    /// Posts a text and waits until it is accepted in its place.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn post_accepted(&mut self, n: u64, text: &str) -> Result<Accepted> {
        self.post(n, text).await?;
        let frame = self.frame().await?;
        frame.to::<Accepted>().with_context(|| format!("instead of Accepted came {frame:?}"))
    }

    /// The code with which the relay resets the stream.
    ///
    /// # Errors
    /// When the stream ends in another way.
    pub async fn reset_code(&mut self) -> Result<Code> {
        let read = tokio::time::timeout(PATIENCE, self.recv.read_to_end(1 << 20)).await.context("no reset in time")?;
        match read {
            Err(ReadToEndError::Read(ReadError::Reset(code))) => Ok(Code(code.into_inner())),
            other => bail!("instead of a reset came {other:?}"),
        }
    }

    /// The code with which the relay asks for no more on the stream.
    ///
    /// # Errors
    /// When it does not.
    pub async fn stop_code(&mut self) -> Result<Code> {
        let stopped = tokio::time::timeout(PATIENCE, self.send.stopped()).await.context("not stopped in time")??;
        Ok(Code(stopped.context("the relay took everything")?.into_inner()))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the stream ends or nothing comes in time.
    pub async fn frame(&mut self) -> Result<OwnedFrame> {
        self.try_frame().await?.context("the stream ended")
    }

    /// The next frame, or `None` when the relay finished the stream.
    ///
    /// # Errors
    /// When the stream is reset or nothing comes in time.
    pub async fn try_frame(&mut self) -> Result<Option<OwnedFrame>> {
        self.halves().1.try_frame().await
    }

    /// Both halves, to be used at once.
    pub fn halves(&mut self) -> (&mut SendStream, Reading<'_>) {
        (&mut self.send, Reading { recv: &mut self.recv, buffer: &mut self.buffer })
    }
}

/// The reading half of a stream.
#[derive(Debug)]
pub struct Reading<'a> {
    recv: &'a mut RecvStream,
    buffer: &'a mut Vec<u8>,
}

impl Reading<'_> {
    /// The next frame.
    ///
    /// # Errors
    /// When the stream ends or nothing comes in time.
    pub async fn frame(&mut self) -> Result<OwnedFrame> {
        self.try_frame().await?.context("the stream ended")
    }

    /// Reads until the relay has finished the stream.
    ///
    /// # Errors
    /// When the stream is reset or nothing comes in time.
    pub async fn skip_to_end(&mut self) -> Result<()> {
        while self.try_frame().await?.is_some() {}
        Ok(())
    }

    /// The next frame, or `None` when the relay finished the stream.
    ///
    /// # Errors
    /// When the stream is reset or nothing comes in time.
    pub async fn try_frame(&mut self) -> Result<Option<OwnedFrame>> {
        loop {
            if let Some((frame, used)) = frame::split(self.buffer, 1 << 20)? {
                if grease::is_reserved(frame.kind) {
                    self.buffer.drain(..used);
                    continue;
                }
                let owned = OwnedFrame { kind: frame.kind, body: frame.body.to_vec() };
                self.buffer.drain(..used);
                return Ok(Some(owned));
            }
            let read = tokio::time::timeout(PATIENCE, self.recv.read_chunk(usize::MAX, true));
            match read.await.context("nothing comes")?? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the relay finished inside a frame"),
            }
        }
    }
}

/// A frame of any type and body.
pub fn raw_frame(kind: u64, body: &[u8]) -> Vec<u8> {
    let mut inner = varint(kind);
    inner.extend_from_slice(body);
    [varint(inner.len() as u64), inner].concat()
}

/// A number as a varint.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A client's QUIC settings that trust one certificate.
///
/// # Errors
/// When the TLS provider lacks something.
pub fn client_config(fingerprint: [u8; 32], options: RawOptions) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned = Pinned { fingerprint, algorithms: provider.signature_verification_algorithms };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    tls.alpn_protocols = vec![options.alpn];
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(120_000))))
        .keep_alive_interval(options.keepalive)
        .stream_receive_window(VarInt::from_u32(options.stream_window));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, end_entity);
        if digest.as_ref() == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate than the pinned one".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
