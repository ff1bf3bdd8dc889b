//! The QUIC endpoint and the small tasks that hand what arrives to the network thread's loop.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, Connecting, ConnectionError, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, RecvStream, Runtime, SendStream, ServerConfig, TransportConfig, VarInt, congestion::CubicConfig,
    crypto::rustls::QuicServerConfig,
};
use quinn_proto::HashedConnectionIdGenerator;
use quip_protocol::ALPN;
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc},
    time::{Interval, MissedTickBehavior},
};

use super::live_first::LiveFirstConfig;
use crate::{
    config::{Config, Limits},
    hub::STREAMS_BEFORE_HELLO,
    identity::{Certificate, NodeKeys},
};

/// Why the endpoint cannot be set up.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error("cannot listen on UDP {address}: {source}; is another relay running there? Choose another with --listen")]
    Bind {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate and key do not fit together or are not usable.
    #[error("the TLS certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// No cipher suite that QUIC needs.
    #[error("the TLS provider lacks the cipher suite that QUIC starts with: {0}")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The runtime or socket refused.
    #[error("the endpoint cannot be started: {0}")]
    Io(#[from] std::io::Error),
}

/// Something that came from the network.
pub(super) enum Arrival {
    /// A handshake was completed; further arrivals of this connection carry the same number.
    Connected { number: u64, quic: quinn::Connection },
    /// A client opened a stream.
    Stream { number: u64, send: SendStream, recv: RecvStream },
    /// A datagram.
    Datagram { number: u64, data: Bytes },
    /// The connection is over.
    Closed { number: u64, error: ConnectionError },
}

/// Arrivals on their way to the loop.
#[derive(Clone)]
pub(super) struct Arrivals {
    queue: mpsc::Sender<Arrival>,
    wake: Arc<Notify>,
}

/// Arrivals that wait before connections are no longer looked at.
const ARRIVALS: usize = 4096;
/// Incoming connections taken before everything else has its turn.
const ACCEPTS_A_TURN: u64 = 2;
/// Asked of the operating system for the socket's receive buffer; quinn never sets it, and a burst
/// that does not fit is lost.
const SOCKET_BUFFER: usize = 4 << 20;

impl Arrivals {
    pub(super) fn new(wake: Arc<Notify>) -> (Self, mpsc::Receiver<Arrival>) {
        let (queue, arrivals) = mpsc::channel(ARRIVALS);
        (Self { queue, wake }, arrivals)
    }

    async fn put(&self, arrival: Arrival) -> bool {
        let taken = self.queue.send(arrival).await.is_ok();
        self.wake.notify_one();
        taken
    }
}

/// Binds the relay's socket.
///
/// # Errors
/// When the address is in use or not this machine's.
pub fn bind(config: &Config) -> Result<UdpSocket, EndpointError> {
    let failed = |source| EndpointError::Bind { address: config.listen, source };
    let socket = UdpSocket::bind(config.listen).map_err(failed)?;
    let socket = socket2::Socket::from(socket);
    // The system caps these at its own limit, which is for the operator to raise.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket.into())
}

/// What an endpoint shows to clients.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// Keys that outlive the process.
    pub keys: &'a NodeKeys,
}

/// Starts the endpoint on a bound UDP socket, inside a tokio runtime.
///
/// # Errors
/// When the certificate cannot be used or the runtime refuses the socket.
pub fn start(socket: UdpSocket, config: &Config, credentials: Credentials<'_>) -> Result<Endpoint, EndpointError> {
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = runtime.wrap_udp_socket(socket)?;
    start_on(runtime, socket, None, config, credentials)
}

/// Where an endpoint that runs in virtual time has its randomness from.
pub struct Randomness {
    /// What QUIC draws.
    pub seed: [u8; 32],
    /// Makes what draws the ids of connections.
    pub ids: Box<dyn Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync>,
    /// What TLS draws.
    pub crypto: Arc<CryptoProvider>,
}

/// Starts the endpoint on any runtime and socket, with the system's randomness or another. Inside a tokio runtime.
///
/// # Errors
/// As [`start`].
pub fn start_on(
    runtime: Arc<dyn Runtime>,
    socket: Arc<dyn AsyncUdpSocket>,
    randomness: Option<Randomness>,
    config: &Config,
    credentials: Credentials<'_>,
) -> Result<Endpoint, EndpointError> {
    let mut endpoint = endpoint_config(credentials.keys);
    let crypto = match randomness {
        Some(Randomness { seed, ids, crypto }) => {
            endpoint.rng_seed(Some(seed)).cid_generator(ids);
            crypto
        }
        None => Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    };
    let server = server_config(config, credentials, crypto)?;
    Ok(Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, runtime)?)
}

/// Keys that outlive the process, so that clients of a relay that was killed learn at once that their connection is gone
/// instead of waiting out the idle timeout.
fn endpoint_config(keys: &NodeKeys) -> EndpointConfig {
    let reset = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &keys.reset);
    let mut connection_id = [0; 8];
    connection_id.copy_from_slice(&keys.connection_id[..8]);
    let connection_id = u64::from_le_bytes(connection_id);
    let mut endpoint = EndpointConfig::new(Arc::new(reset));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id)));
    endpoint.min_reset_interval(Duration::from_millis(1));
    endpoint
}

fn server_config(
    config: &Config,
    credentials: Credentials<'_>,
    crypto: Arc<CryptoProvider>,
) -> Result<ServerConfig, EndpointError> {
    let Credentials { certificate, keys } = credentials;
    let mut tls = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(certificate.chain.clone(), certificate.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let token_key = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &[]).extract(&keys.token);
    let mut server = ServerConfig::new(Arc::new(QuicServerConfig::try_from(tls)?), Arc::new(token_key));
    server.transport_config(Arc::new(transport(config))).max_incoming(waiting(&config.limits)).migration(true);
    Ok(server)
}

/// quinn's defaults allow a connection megabytes and any number of streams. These are a chat's.
fn transport(config: &Config) -> TransportConfig {
    let Limits { stream_receive_window_bytes, connection_receive_window_bytes, send_window_bytes, .. } = config.limits;
    let window = |bytes: usize| VarInt::from_u64(bytes as u64).unwrap_or(VarInt::MAX);
    let mut ack_frequency = AckFrequencyConfig::default();
    ack_frequency.ack_eliciting_threshold(VarInt::from_u32(8)).max_ack_delay(Some(Duration::from_millis(10)));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(128 << 10);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BEFORE_HELLO))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(config.presence.idle_timeout).ok())
        .stream_receive_window(window(stream_receive_window_bytes))
        .receive_window(window(connection_receive_window_bytes))
        .send_window(send_window_bytes as u64)
        .datagram_receive_buffer_size(Some(16 << 10))
        .datagram_send_buffer_size(16 << 10)
        .initial_rtt(Duration::from_millis(100))
        .ack_frequency_config(Some(ack_frequency))
        .congestion_controller_factory(Arc::new(LiveFirstConfig(Arc::new(congestion))))
        .enable_segmentation_offload(config.segmentation_offload)
        .mtu_discovery_config(None);
    transport
}

/// Accepts connections until the endpoint closes.
pub(super) async fn accept(endpoint: Endpoint, arrivals: Arrivals, limits: Limits) {
    let mut number = 0;
    let mut pace = pace(limits.accepts_per_second);
    loop {
        // Meanwhile as many wait as `waiting` allows.
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let Some(incoming) = endpoint.accept().await else { return };
        if endpoint.open_connections() >= limits.connections {
            incoming.refuse();
            continue;
        }
        // What is not even a good first packet counts for nothing.
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => {
                tracing::debug!(%error, "a handshake failed");
                continue;
            }
        };
        number += 1;
        tokio::spawn(serve(connecting, number, arrivals.clone(), limits.unauthenticated));
        if number % ACCEPTS_A_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Handshakes that may wait. With a pace no more than those of a second: a client that waited longer may have given up,
/// and its turn would be for nothing. A client that finds no room asks again by itself.
fn waiting(limits: &Limits) -> usize {
    match limits.accepts_per_second {
        0 => limits.incoming,
        pace => pace.min(limits.incoming),
    }
}

fn pace(per_second: usize) -> Option<Interval> {
    let gap = Duration::from_secs(1).checked_div(u32::try_from(per_second).ok()?)?;
    let mut pace = tokio::time::interval(gap);
    // A pause is not made up for with a burst.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

async fn serve(connecting: Connecting, number: u64, arrivals: Arrivals, patience: Duration) {
    let quic = match connect(connecting, patience).await {
        Ok(quic) => quic,
        Err(error) => return tracing::debug!(%error, "a handshake failed"),
    };
    if !arrivals.put(Arrival::Connected { number, quic: quic.clone() }).await {
        return;
    }
    let error = loop {
        let arrival = tokio::select! {
            biased;
            stream = quic.accept_bi() => match stream {
                Ok((send, recv)) => Arrival::Stream { number, send, recv },
                Err(error) => break error,
            },
            datagram = quic.read_datagram() => match datagram {
                Ok(data) => Arrival::Datagram { number, data },
                Err(error) => break error,
            },
        };
        if !arrivals.put(arrival).await {
            return;
        }
    };
    arrivals.put(Arrival::Closed { number, error }).await;
}

async fn connect(connecting: Connecting, patience: Duration) -> Result<quinn::Connection, ConnectionError> {
    match tokio::time::timeout(patience, connecting).await {
        Ok(result) => result,
        Err(_) => Err(ConnectionError::TimedOut),
    }
}
