//! The network side of a relay in virtual time, over a network in memory: one thread, and the same packets every time.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant as StdInstant},
};

use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, Runtime, UdpPoller,
    crypto::rustls::QuicClientConfig,
    udp::{RecvMeta, Transmit},
};
use quip_core::Command;
use quip_order::{Submit, SubmitError};
use quip_protocol::{ALPN, Code, DeviceId, InstanceId, Items, ToClient, frame, session::Hello};
use quip_relay::{
    auth::Authenticator,
    config::{AuthConfig, Config},
    hub::{Mailbox, Phase, Setup},
    identity::{Certificate, NodeKeys},
    net::{self, Credentials, Parts, RunReads},
};
use quip_store::{Busy, Job};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, Sleep},
};

const RELAY: &str = "10.0.0.1:4433";
const CLIENT: &str = "10.0.0.2:5000";

/// quinn on tokio's clock.
#[derive(Debug)]
struct Tokio;

#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: StdInstant) {
        Sleep::reset(self.0.as_mut(), at.into());
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

impl Runtime for Tokio {
    fn new_timer(&self, at: StdInstant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(tokio::time::sleep_until(at.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

/// A network that delivers at once, and writes down what it delivers: when, from which port, how many bytes.
#[derive(Debug, Default)]
struct Network {
    arrived: Mutex<HashMap<SocketAddr, Arrived>>,
    trace: Mutex<Vec<(Instant, u16, usize)>>,
}

#[derive(Debug, Default)]
struct Arrived {
    packets: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Socket {
    network: Arc<Network>,
    at: SocketAddr,
}

#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, packet: &Transmit<'_>) -> io::Result<()> {
        let trace = (Instant::now(), self.at.port(), packet.contents.len());
        self.network.trace.lock().unwrap().push(trace);
        let mut arrived = self.network.arrived.lock().unwrap();
        let to = arrived.entry(packet.destination).or_default();
        to.packets.push_back((self.at, packet.contents.to_vec()));
        to.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut arrived = self.network.arrived.lock().unwrap();
        let here = arrived.entry(self.at).or_default();
        let Some((from, packet)) = here.packets.pop_front() else {
            here.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        buffers[0][..packet.len()].copy_from_slice(&packet);
        meta[0] = RecvMeta { addr: from, len: packet.len(), stride: packet.len(), ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// An order and readers that have nothing to do here.
struct Nobody;

impl Submit for Nobody {
    fn submit(&self, _: Command) -> Result<(), SubmitError> {
        Ok(())
    }

    fn close(&self) {}
}

impl RunReads for Nobody {
    fn run(&self, _: Job) -> Result<(), Busy> {
        Err(Busy)
    }
}

fn certificate() -> Certificate {
    // The length of its signatures does not vary.
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Certificate { chain: vec![certificate.der().clone()], key }
}

fn client_config(certificate: &Certificate) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.chain[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Starts a relay on the network. Ends when `phases` says so.
fn relay(network: &Arc<Network>, certificate: &Certificate, phases: watch::Receiver<Phase>) {
    let mut config = Config::development(None, None);
    config.auth = AuthConfig::None;
    let socket = Arc::new(Socket { network: Arc::clone(network), at: RELAY.parse().unwrap() });
    let keys = NodeKeys { reset: [1; 32], connection_id: [2; 32], token: [3; 32] };
    let identity = Credentials { certificate, keys: &keys };
    let endpoint = net::start_on(
        Arc::new(Tokio),
        socket,
        Some(net::Randomness {
            ids: Box::new(|| Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(4))),
            seed: [4; 32],
            crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        }),
        &config,
        identity,
    )
    .unwrap();
    let start = Instant::now();
    let setup = Setup {
        authenticator: Authenticator::open(&config.auth, Path::new("/nonexistent")).unwrap(),
        config: Arc::new(config),
        generation: 1,
        clock: Arc::new(move || 1_800_000_000_000 + start.elapsed().as_millis() as u64),
        everyone_left: Notify::new(),
        last_seen_submitted: Notify::new(),
    };
    let parts = Parts { setup: Arc::new(setup), submit: Arc::new(Nobody), readers: Arc::new(Nobody) };
    tokio::spawn(net::run(Arc::new(parts), Mailbox::new(1 << 20), endpoint, phases));
}

async fn hello(quic: &Connection) -> String {
    let (mut send, mut recv) = quic.open_bi().await.unwrap();
    let (device, instance) = (DeviceId([1; 16]), InstanceId([1; 16]));
    let hello = Hello { token: "ann", device, instance, client: "test", streams: 8, features: Items::default() };
    send.write_all(&frame::to_bytes(&hello)).await.unwrap();
    let mut read = Vec::new();
    loop {
        if let Some((frame, _)) = frame::split(&read, 1 << 16).unwrap() {
            let Some(ToClient::Welcome(welcome)) = ToClient::decode(frame).unwrap() else { panic!("no Welcome") };
            // Its streams live as long as the connection.
            std::mem::forget((send, recv));
            return welcome.user.to_owned();
        }
        read.extend_from_slice(&recv.read_chunk(1 << 16, true).await.unwrap().expect("more").bytes);
    }
}

/// A client comes, says nothing more for a while, and is told the end. Gives what went over the network.
fn run() -> Vec<(Duration, u16, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let network = Arc::new(Network::default());
        let certificate = certificate();
        let (phase, phases) = watch::channel(Phase::Running);
        relay(&network, &certificate, phases);
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([5; 32]));
        let socket = Arc::new(Socket { network: Arc::clone(&network), at: CLIENT.parse().unwrap() });
        let endpoint = Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(Tokio)).unwrap();
        let connect = || endpoint.connect_with(client_config(&certificate), RELAY.parse().unwrap(), "localhost");
        let silent = connect().unwrap().await.unwrap();
        assert_eq!(hello(&silent).await, "ann");
        // No keepalive: the relay closes it after the idle timeout of 30 s, or QUIC does.
        silent.closed().await;
        assert!((30..40).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        let talking = connect().unwrap().await.unwrap();
        assert_eq!(hello(&talking).await, "ann");
        phase.send(Phase::Draining).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        phase.send(Phase::Stopping).unwrap();
        let quinn::ConnectionError::ApplicationClosed(end) = talking.closed().await else { panic!("not closed") };
        assert_eq!(end.error_code.into_inner(), Code::SHUTDOWN.0);
        let trace = network.trace.lock().unwrap();
        trace.iter().map(|(at, port, size)| (at.duration_since(start), *port, *size)).collect()
    })
}

#[test]
fn a_relay_runs_in_virtual_time_and_the_same_packets_go_every_time() {
    let real = StdInstant::now();
    let first = run();
    assert!(first.len() > 20, "{}", first.len());
    assert_eq!(first, run());
    assert!(real.elapsed() < Duration::from_secs(20), "more than a minute passed in {:?}", real.elapsed());
}
