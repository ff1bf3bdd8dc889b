//! A network in memory: hosts with addresses around one core, packets in virtual time, faults by seed.

mod link;
mod socket;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
};

use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::link::{Direction, Fate};
pub use self::{link::Quality, socket::Socket};
use crate::trace::Trace;

/// The network, as a cheap handle.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    /// There is an earlier packet than the one that is waited for.
    more: Arc<Notify>,
}

struct State {
    rng: StdRng,
    hosts: BTreeMap<HostId, Host>,
    /// By the address as others see it.
    ports: BTreeMap<SocketAddr, Port>,
    /// On their way: by arrival, then in the order of sending.
    packets: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    /// How many sockets there have been.
    sockets: u64,
    trace: Trace,
}

/// A host: 1 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

struct Host {
    quality: Quality,
    cut: bool,
    up: Direction,
    down: Direction,
    /// The next port that a socket or an address translator gives.
    next_port: u16,
}

/// One socket of a host.
struct Port {
    /// Which socket this is.
    socket: u64,
    host: HostId,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl HostId {
    /// Its address.
    pub fn ip(self) -> IpAddr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 0, high, low).into()
    }
}

impl Net {
    /// A network without hosts. Must be made on the runtime that it carries packets on.
    pub fn new(seed: u64, trace: Trace) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            ports: BTreeMap::new(),
            packets: BTreeMap::new(),
            sent: 0,
            sockets: 0,
            trace,
        };
        let net = Self { state: Arc::new(Mutex::new(state)), more: Arc::default() };
        tokio::spawn(net.clone().carry());
        net
    }

    /// Adds a host.
    pub fn add(&self, host: HostId, quality: Quality) {
        let (up, down) = Default::default();
        self.with(|net| net.hosts.insert(host, Host { quality, cut: false, up, down, next_port: FIRST_PORT }));
    }

    /// Makes a socket on `port` of a host, or on any for 0. It is gone when the last handle is dropped, or when the host dies.
    pub fn socket(&self, host: HostId, port: u16) -> Socket {
        let (id, address) = self.with(|net| {
            let port = if port == 0 { net.host(host).port() } else { port };
            let address = SocketAddr::new(host.ip(), port);
            net.sockets += 1;
            let fresh = Port { socket: net.sockets, host, queue: VecDeque::new(), waker: None };
            let taken = net.ports.insert(address, fresh);
            assert!(taken.is_none(), "{address} is in use");
            (net.sockets, address)
        });
        Socket { net: self.clone(), id, address }
    }

    /// Changes the way to a host.
    pub fn set_quality(&self, host: HostId, quality: Quality) {
        self.with(|net| net.host(host).quality = quality);
    }

    /// Cuts a host off, or lets it back.
    pub fn cut(&self, host: HostId, cut: bool) {
        self.with(|net| net.host(host).cut = cut);
    }

    /// Gives each socket of a host another address without the host's knowledge, as an address translator does.
    pub fn rebind(&self, host: HostId) {
        self.with(|net| {
            let ports = std::mem::take(&mut net.ports);
            for (mut address, port) in ports {
                if port.host == host {
                    address.set_port(net.host(host).port());
                }
                net.ports.insert(address, port);
            }
        });
    }

    /// Takes every socket from a host. What it has sent is still on its way.
    pub fn kill(&self, host: HostId) {
        self.remove(|port| port.host == host);
    }

    /// How many packets were sent.
    pub fn sent(&self) -> u64 {
        self.with(|net| net.sent)
    }

    /// Removes sockets, and drops their wakers outside of the lock: with them may go tasks that hold sockets.
    fn remove(&self, mut which: impl FnMut(&Port) -> bool) {
        let removed = self.with(|net| {
            let (gone, kept) = std::mem::take(&mut net.ports).into_iter().partition(|(_, port)| which(port));
            net.ports = kept;
            let gone: BTreeMap<_, _> = gone;
            gone
        });
        drop(removed);
    }

    fn send(&self, socket: u64, to: SocketAddr, bytes: &[u8]) {
        self.with(|net| net.send(socket, to, bytes));
        self.more.notify_one();
    }

    async fn carry(self) {
        loop {
            let next = self.with(|net| net.packets.first_key_value().map(|((at, _), _)| *at));
            tokio::select! {
                biased;
                () = self.more.notified() => continue,
                () = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
            let wakers = self.with(|net| net.arrive(Instant::now()));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn host(&mut self, host: HostId) -> &mut Host {
        self.hosts.get_mut(&host).expect("hosts are added first")
    }

    fn port(&mut self, socket: u64) -> Option<(SocketAddr, &mut Port)> {
        let found = self.ports.iter_mut().find(|(_, port)| port.socket == socket);
        found.map(|(address, port)| (*address, port))
    }

    fn send(&mut self, socket: u64, to: SocketAddr, bytes: &[u8]) {
        let Some((from, port)) = self.port(socket) else { return };
        let (host, now) = (port.host, Instant::now());
        self.sent += 1;
        let from_host = self.hosts.get_mut(&host).expect("a socket has a host");
        let mut fate = match from_host.cut {
            true => Fate::Lost,
            false => from_host.up.send(&from_host.quality, now, bytes.len(), &mut self.rng),
        };
        let target = self.ports.get(&to).map(|port| port.host).and_then(|host| self.hosts.get_mut(&host));
        if let (Fate::Arrives(first, second), Some(target)) = (fate, target) {
            let mut on = |at| match target.cut {
                true => Fate::Lost,
                false => target.down.send(&target.quality, at, bytes.len(), &mut self.rng),
            };
            fate = match (on(first), second.map(on)) {
                (Fate::Lost, Some(other)) | (other, None | Some(Fate::Lost)) => other,
                (Fate::Arrives(one, _), Some(Fate::Arrives(two, _))) => Fate::Arrives(one, Some(two)),
            };
        }
        self.trace.packet(now, from, to, bytes.len(), matches!(fate, Fate::Arrives(..)));
        if let Fate::Arrives(first, second) = fate {
            for (at, copy) in std::iter::once(first).chain(second).zip(0..) {
                let key = (at, self.sent * 2 + copy);
                self.packets.insert(key, Packet { from, to, bytes: bytes.to_vec() });
            }
        }
    }

    /// Hands over what has arrived.
    fn arrive(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= now) {
            let Packet { from, to, bytes } = entry.remove();
            let Some(port) = self.ports.get_mut(&to).filter(|port| port.queue.len() < RECEIVE_QUEUE) else { continue };
            if self.hosts.get(&port.host).is_some_and(|host| host.cut) {
                continue;
            }
            port.queue.push_back((from, bytes));
            wakers.extend(port.waker.take());
        }
        wakers
    }
}

impl Host {
    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        self.next_port
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// Where ports begin that nobody asked for.
const FIRST_PORT: u16 = 20_000;
/// Packets that wait to be received.
const RECEIVE_QUEUE: usize = 1024;
