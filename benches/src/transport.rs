//! Transport settings shared by every generator client and the bare forwarder.
//!
//! They equal the relay's (window sizes, acknowledgement frequency, congestion window), so that a difference between two figures
//! is due to work and not to tuning. The path MTU stays at QUIC's 1,200 bytes on loopback too, as at the start of a connection
//! on the internet.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use quip_link::Namespace;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use s2n_quic::provider::{self, congestion_controller::cubic, io, limits::Limits};
use socket2::{Domain, Protocol, Socket, Type};

const STREAM_WINDOW: u32 = 64 * 1024;
const SERVER_CONNECTION_WINDOW: u32 = 256 * 1024;
const SEND_WINDOW: u32 = 1024 * 1024;
const DATAGRAM_BUFFER: usize = 16 * 1024;
const INITIAL_CONGESTION_WINDOW: u32 = 128 * 1024;
/// A packet of the smallest size that QUIC allows, with the headers of IPv4 and UDP.
const SMALLEST_IP_PACKET: u16 = 1200 + 20 + 8;
/// Streams that a client may open at once.
const STREAMS: u32 = 8;
const INITIAL_RTT: Duration = Duration::from_millis(100);
const ACK_THRESHOLD: u32 = 8;
const ACK_DELAY: Duration = Duration::from_millis(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
const MAX_INCOMING: usize = 1024;

/// SHA-256 of a certificate in DER form.
pub(crate) type Fingerprint = [u8; 32];

/// Settings of a generator client that keeps up to `streams` conversation streams open.
pub(crate) fn client_config(pin: Fingerprint, alpn: &[u8], streams: u32) -> Result<ClientConfig> {
    quic_client(client_tls(pin, alpn)?, streams, STREAM_WINDOW)
}

/// As [`client_config`], of a client that takes at most `window` bytes on a stream before it reads on; no more than others.
pub(crate) fn window_config(pin: Fingerprint, alpn: &[u8], streams: u32, window: u32) -> Result<ClientConfig> {
    quic_client(client_tls(pin, alpn)?, streams, window)
}

/// As [`client_config`], for many clients: every handshake is a full one, as for separate devices, and the server's signature is
/// not verified, to reduce the client's work. The server's work is the same.
pub(crate) fn crowd_config(pin: Fingerprint, alpn: &[u8], streams: u32) -> Result<ClientConfig> {
    let mut tls = pinned_tls(Pinned { checks_signature: false, ..Pinned::new(pin) }, alpn)?;
    tls.resumption = Resumption::disabled();
    quic_client(tls, streams, STREAM_WINDOW)
}

fn quic_client(tls: rustls::ClientConfig, streams: u32, window: u32) -> Result<ClientConfig> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = base()?;
    // Never less than all stream windows together, so that one full stream cannot stop the rest.
    transport
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(VarInt::from_u32(STREAM_WINDOW * streams.max(4)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Settings of a generator client of another server, which may open streams itself.
pub(crate) fn peer_config(pin: Fingerprint, alpn: &[u8]) -> Result<ClientConfig> {
    let tls = client_tls(pin, alpn)?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = base()?;
    transport
        .receive_window(VarInt::from_u32(SERVER_CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Settings of the bare forwarder: those of the relay.
pub(crate) fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<ServerConfig> {
    let tls = server_tls(certificate, key, alpn)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = base()?;
    transport
        .receive_window(VarInt::from_u32(SERVER_CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS));
    config.transport_config(Arc::new(transport)).max_incoming(MAX_INCOMING);
    Ok(config)
}

/// A server with the settings of [`server_config`] on s2n-quic. It has no acknowledgement frequency, and bounds what waits to be
/// sent by stream instead of by connection.
pub(crate) fn s2n_server(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<s2n_quic::Server> {
    let limits = Limits::new()
        .with_data_window(SERVER_CONNECTION_WINDOW.into())?
        .with_bidirectional_remote_data_window(STREAM_WINDOW.into())?
        .with_max_open_remote_bidirectional_streams(STREAMS.into())?
        .with_max_open_remote_unidirectional_streams(0)?
        .with_max_send_buffer_size(SEND_WINDOW)?
        .with_max_idle_timeout(IDLE_TIMEOUT)?
        .with_initial_round_trip_time(INITIAL_RTT)?
        .with_max_ack_delay(ACK_DELAY)?;
    let socket = socket((Ipv4Addr::LOCALHOST, 0).into())?;
    let io = io::tokio::Builder::default().with_rx_socket(socket.into())?.with_max_mtu(SMALLEST_IP_PACKET)?.build()?;
    let congestion = cubic::Builder::default().with_initial_congestion_window(INITIAL_CONGESTION_WINDOW).build();
    Ok(s2n_quic::Server::builder()
        .with_tls(provider::tls::rustls::Server::from(server_tls(certificate, key, alpn)?))?
        .with_io(io)?
        .with_limits(limits)?
        .with_congestion_controller(congestion)?
        .start()?)
}

/// TLS 1.3 of a client that accepts exactly one certificate.
pub(crate) fn client_tls(pin: Fingerprint, alpn: &[u8]) -> Result<rustls::ClientConfig> {
    pinned_tls(Pinned::new(pin), alpn)
}

fn pinned_tls(verifier: Pinned, alpn: &[u8]) -> Result<rustls::ClientConfig> {
    let verifier = Arc::new(verifier);
    let mut tls = rustls::ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    Ok(tls)
}

/// TLS 1.3 of a server.
pub(crate) fn server_tls(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<rustls::ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    Ok(tls)
}

/// A QUIC endpoint on `address` whose socket asks for a 4 MiB receive buffer.
pub(crate) fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Result<Endpoint> {
    endpoint_on(socket(address)?, server)
}

/// As [`endpoint`], with the socket in a namespace.
pub(crate) fn endpoint_within(side: &Namespace, server: Option<ServerConfig>) -> Result<Endpoint> {
    endpoint_on(side.run(|| socket((side.address(), 0).into()))??, server)
}

fn endpoint_on(socket: Socket, server: Option<ServerConfig>) -> Result<Endpoint> {
    Ok(Endpoint::new(EndpointConfig::default(), server, socket.into(), Arc::new(TokioRuntime))?)
}

/// A UDP socket on `address` that asks for a 4 MiB receive buffer.
pub(crate) fn socket(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let digest = suite.tls13().expect("the suite is one of TLS 1.3").common.hash_provider.hash(certificate);
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// 64 hexadecimal digits.
pub(crate) fn decode_pin(text: &str) -> Result<Fingerprint> {
    let mut pin = Fingerprint::default();
    let digits = text.len() == 2 * pin.len() && text.is_ascii();
    ensure!(digits, "{text:?} is not a SHA-256 fingerprint in hexadecimal");
    for (byte, index) in pin.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(&text[index..index + 2], 16)?;
    }
    Ok(pin)
}

fn base() -> Result<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_CONGESTION_WINDOW.into());
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into()?))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(None)
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(congestion));
    Ok(transport)
}

/// Accepts exactly the certificate with this fingerprint.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
    checks_signature: bool,
}

impl Pinned {
    fn new(pin: Fingerprint) -> Self {
        Self { pin, provider: Arc::new(aws_lc_rs::default_provider()), checks_signature: true }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if fingerprint(end_entity) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC needs TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.checks_signature {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pins_are_hexadecimal() {
        assert_eq!(decode_pin(&"a1".repeat(32)).unwrap(), [0xa1; 32]);
        assert!(decode_pin("a1").is_err());
        assert!(decode_pin(&"xx".repeat(32)).is_err());
    }
}
