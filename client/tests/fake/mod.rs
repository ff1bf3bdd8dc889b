//! A relay that does what a test tells it to, however wrong.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig};
use quip_client::{Config, Trust};
use quip_protocol::{
    Code, ConversationId, Event, Items, ToRelay,
    conversation::{Opened, Start},
    frame::{self, Message, to_bytes},
    session::Welcome,
};
use rustls::{
    server::{ServerSessionMemoryCache, StoresServerSessions},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

pub(crate) struct Relay {
    pub(crate) endpoint: Endpoint,
    pub(crate) certificate: CertificateDer<'static>,
    /// What `Welcome` says of them.
    pub(crate) pace: Pace,
    tickets: Arc<Tickets>,
    port: u16,
}

/// Sessions of TLS to resume.
#[derive(Debug)]
struct Tickets {
    kept: Arc<ServerSessionMemoryCache>,
    resumed: AtomicUsize,
}

/// What a client may send.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Commands a second; 0 = any number.
    pub(crate) rate: u64,
    /// Commands at once.
    pub(crate) burst: u64,
    /// Bytes of unanswered commands.
    pub(crate) bytes: u64,
}

/// A connection after its Hello.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) control: Stream,
}

pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    bytes: Vec<u8>,
}

impl Relay {
    pub(crate) fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::showing(made.cert.der().clone(), key.into(), quip_protocol::ALPN)
    }

    /// A relay that shows this certificate, whether its key belongs to it or not.
    pub(crate) fn showing(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>, alpn: &[u8]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(key).expect("a good key");
        let shown = CertifiedKey::new(vec![certificate.clone()], key);
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        let tickets = Arc::new(Tickets { kept: ServerSessionMemoryCache::new(8), resumed: AtomicUsize::new(0) });
        tls.session_storage = tickets.clone();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("TLS for QUIC");
        let config = ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let port = endpoint.local_addr().expect("an address").port();
        let pace = Pace { rate: 0, burst: 0, bytes: 196_608 };
        Self { endpoint, certificate, pace, tickets, port }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        digest.as_ref().try_into().expect("32 bytes")
    }

    pub(crate) fn config(&self) -> Config {
        Config::new([self.address()], Trust::Fingerprint(self.fingerprint()), "token")
    }

    /// How many sessions of TLS were resumed.
    pub(crate) fn resumed(&self) -> usize {
        self.tickets.resumed.load(Ordering::Relaxed)
    }

    /// The next connection, after its Hello.
    pub(crate) async fn accept(&self) -> Session {
        let incoming = soon(self.endpoint.accept()).await.expect("an endpoint");
        let connection = incoming.await.expect("a handshake");
        let mut control = Stream::new(soon(connection.accept_bi()).await.expect("stream 0"));
        assert!(control.next(|message| matches!(message, ToRelay::Hello(_))).await, "a Hello");
        Session { connection, control }
    }

    /// The next connection, whose `Welcome` names other relays.
    pub(crate) async fn welcome(&self, others: &[&Self]) -> Session {
        let mut session = self.accept().await;
        session.welcome(self.pace, others).await;
        session
    }

    /// Packets to the relay's address go nowhere from now on, and it sends nothing from there.
    pub(crate) fn vanish(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        self.endpoint.rebind(socket).expect("another socket");
    }
}

impl StoresServerSessions for Tickets {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.kept.take(key);
        self.resumed.fetch_add(found.is_some().into(), Ordering::Relaxed);
        found
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl Session {
    pub(crate) async fn welcome(&mut self, pace: Pace, others: &[&Relay]) {
        self.greet(pace, others, 0).await;
    }

    /// Welcomes a client whose token is valid for this many milliseconds.
    pub(crate) async fn welcome_until(&mut self, pace: Pace, left: u64) {
        self.greet(pace, &[], NOW + left).await;
    }

    async fn greet(&mut self, pace: Pace, others: &[&Relay], expires: u64) {
        let relays: Vec<String> = others.iter().map(|relay| relay.name()).collect();
        let welcome = Welcome {
            user: "alice",
            generation: LOG,
            time: NOW,
            expires,
            keepalive: 10_000,
            idle_timeout: 30_000,
            streams: 64,
            frame: 65_536,
            message: 16_384,
            unanswered: 64,
            unanswered_bytes: pace.bytes,
            rate: pace.rate,
            burst: pace.burst,
            relay: "fake",
            relays: Items::encode(relays.iter().map(String::as_str)),
            features: Items::default(),
        };
        self.control.put(&welcome).await;
    }

    pub(crate) async fn stream(&self) -> Stream {
        Stream::new(soon(self.connection.accept_bi()).await.expect("a stream"))
    }

    /// The next stream, which must be an Open; what it asked for. It is opened.
    pub(crate) async fn open(&self, head: u64) -> (Stream, ConversationId, u64, Start) {
        let mut stream = self.stream().await;
        let (id, join, start) = stream
            .next(|message| match message {
                ToRelay::Open(open) => (id(&open), open.join, open.start().expect("a start")),
                other => panic!("not an Open: {other:?}"),
            })
            .await;
        let first = match start {
            Start::After { seq, .. } => seq + 1,
            _ => head + 1,
        };
        let opened = Opened {
            conversation: id,
            generation: LOG,
            first_kept: 1,
            head,
            number: head,
            start: first,
            role: 1,
            last_n: join,
            outcomes: Items::default(),
            read: 0,
            read_number: 0,
            name: "test:room",
            members: 1,
            present: 1,
        };
        stream.put(&opened).await;
        (stream, id, join, start)
    }

    pub(crate) fn close(&self, code: Code) {
        self.connection.close(u32::try_from(code.0).expect("a small code").into(), b"");
    }

    /// The code with which the client closes.
    pub(crate) async fn closed(&self) -> Code {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => Code(close.error_code.into_inner()),
            other => panic!("not closed by the client: {other}"),
        }
    }
}

impl Stream {
    fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, bytes: Vec::new() }
    }

    pub(crate) async fn put<M: Message>(&mut self, message: &M) {
        self.send.write_all(&to_bytes(message)).await.expect("written");
    }

    pub(crate) async fn event(&mut self, seq: u64, body: &[u8]) {
        let body = quip_protocol::Blob(body);
        self.put(&Event { seq, number: seq, at: seq, user: "bob", kind: 2, body }).await;
    }

    /// The next message, as `read` sees it.
    pub(crate) async fn next<T>(&mut self, mut read: impl FnMut(ToRelay<'_>) -> T) -> T {
        loop {
            if let Some((frame, used)) = frame::split(&self.bytes, 65_536).expect("a frame") {
                // What may be skipped is skipped.
                let result = ToRelay::decode(frame).expect("decodes").map(&mut read);
                self.bytes.drain(..used);
                match result {
                    Some(result) => return result,
                    None => continue,
                }
            }
            let chunk = soon(self.recv.read_chunk(65_536, true)).await.expect("read").expect("more to come");
            self.bytes.extend_from_slice(&chunk.bytes);
        }
    }

    /// Number and content of the next message, which must be a post.
    pub(crate) async fn post(&mut self) -> (u64, Vec<u8>) {
        self.next(|message| match message {
            ToRelay::Post(post) => (post.n, post.body.0.to_vec()),
            other => panic!("not a Post: {other:?}"),
        })
        .await
    }
}

/// The relay's clock.
const NOW: u64 = 1_000_000;
/// The identity of the log.
pub(crate) const LOG: u64 = 7;

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("within 20 s")
}

fn id(open: &quip_protocol::conversation::Open<'_>) -> ConversationId {
    use quip_protocol::conversation::Target;
    match open.target().expect("a target") {
        Target::Id(id) | Target::NewGroup(id) => id,
        Target::Room(name) => ConversationId::room(&name),
        Target::Direct(_) => panic!("not used here"),
    }
}
