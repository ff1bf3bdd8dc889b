//! A wire that can be cut: UDP between one client and a relay.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use tokio::{net::UdpSocket, task::JoinHandle};

/// Passes datagrams on until it is cut, in one direction or both. Dropping it cuts both for good.
#[derive(Debug)]
pub struct Proxy {
    /// Where the client connects to.
    pub address: SocketAddr,
    up: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
    heard: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A wire to `relay` for one client.
    ///
    /// # Errors
    /// When there is no socket.
    pub async fn to(relay: SocketAddr) -> Result<Self> {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (client_side, relay_side) = (UdpSocket::bind(local).await?, UdpSocket::bind(local).await?);
        relay_side.connect(relay).await?;
        let address = client_side.local_addr()?;
        let (up, down) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let heard = Arc::new(AtomicBool::new(false));
        let wire = Wire { up: Arc::clone(&up), down: Arc::clone(&down), heard: Arc::clone(&heard) };
        let task = tokio::spawn(wire.pass(client_side, relay_side));
        Ok(Self { address, up, down, heard, task })
    }

    /// Whether what the client sends arrives.
    pub fn up(&self, open: bool) {
        self.up.store(open, Ordering::SeqCst);
    }

    /// Whether what the relay sends arrives.
    pub fn down(&self, open: bool) {
        self.down.store(open, Ordering::SeqCst);
    }

    /// Whether the relay has sent anything, passed on or not.
    pub fn heard(&self) -> bool {
        self.heard.load(Ordering::SeqCst)
    }

    /// Cuts both directions.
    pub fn cut(&self) {
        self.up(false);
        self.down(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the passing task knows of a [`Proxy`].
struct Wire {
    up: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
    heard: Arc<AtomicBool>,
}

impl Wire {
    async fn pass(self, client_side: UdpSocket, relay_side: UdpSocket) {
        let mut client = None;
        let (mut from_client, mut from_relay) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            // A datagram that cannot be passed on is lost, as on any wire.
            tokio::select! {
                received = client_side.recv_from(&mut from_client) => {
                    let Ok((length, from)) = received else { continue };
                    client = Some(from);
                    if self.up.load(Ordering::SeqCst) {
                        let _ = relay_side.send(&from_client[..length]).await;
                    }
                }
                received = relay_side.recv(&mut from_relay) => {
                    let Ok(length) = received else { continue };
                    self.heard.store(true, Ordering::SeqCst);
                    if let (Some(client), true) = (client, self.down.load(Ordering::SeqCst)) {
                        let _ = client_side.send_to(&from_relay[..length], client).await;
                    }
                }
            }
        }
    }
}
