//! A host: its tasks, which end with it, and what quinn and the client library run on.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use quip_client::Platform;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    crypto,
    net::{HostId, Net},
};

/// A process on a host, from its start to its death.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    id: HostId,
    net: Net,
    rng: Mutex<StdRng>,
    /// `None` once the process is dead.
    tasks: Mutex<Option<Vec<AbortHandle>>>,
}

impl Host {
    /// A process that has just started.
    pub fn start(net: &Net, id: HostId, seed: u64) -> Self {
        let (rng, tasks) = (Mutex::new(StdRng::seed_from_u64(seed)), Mutex::new(Some(Vec::new())));
        Self { inner: Arc::new(Inner { id, net: net.clone(), rng, tasks }) }
    }

    /// Runs a task for as long as the process lives.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *lock(&self.inner.tasks) {
            tasks.retain(|task| !task.is_finished());
            tasks.push(tokio::spawn(task).abort_handle());
        }
    }

    /// Ends the process in the middle of whatever it does. Nothing that its tasks do while they end is seen outside.
    pub fn kill(&self) {
        self.inner.net.kill(self.inner.id);
        let tasks = lock(&self.inner.tasks).take();
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }

    /// Whether the process is still running.
    pub fn is_alive(&self) -> bool {
        lock(&self.inner.tasks).is_some()
    }

    /// A number below `end`, drawn by this process.
    pub fn draw(&self, end: u64) -> u64 {
        rand::Rng::random_range(&mut *lock(&self.inner.rng), 0..end)
    }

    /// A socket on `port`, or on any for 0.
    pub fn bind(&self, port: u16) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(self.inner.net.socket(self.inner.id, port))
    }
}

impl Platform for Host {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.clone())
    }

    fn socket(&self, _: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(self.bind(0))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        lock(&self.inner.rng).fill_bytes(bytes);
    }

    fn tls(&self) -> (Arc<CryptoProvider>, Arc<dyn TimeProvider>) {
        (crypto::provider(), Arc::new(Ageless))
    }
}

impl Runtime for Host {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(sleep_until(at.into()))))
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        Host::spawn(self, task);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.inner.id.0)
    }
}

/// The clock by which TLS tickets age: they do not.
#[derive(Debug)]
struct Ageless;

impl TimeProvider for Ageless {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000)))
    }
}

#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: std::time::Instant) {
        Sleep::reset(self.0.as_mut(), at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), cx)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
