//! Somebody at an address that clients know who is not the relay: the certificate is another one.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use quip_relay::{
    config::{Config, Overrides},
    net::{Credentials, Randomness, start_on},
};

use super::shared::Shared;
use crate::{
    crypto,
    history::Entry,
    host::Host,
    identity::Identity,
    net::{HostId, Net, Quality},
};

/// An impostor, until it is dropped.
pub(super) struct Impostor(Host);

impl Impostor {
    /// Starts one, if clients know its address.
    pub(super) fn start(seed: u64, net: &Net, shared: &Arc<Shared>) -> Option<Self> {
        if !shared.relays.contains(&ADDRESS) {
            return None;
        }
        net.add(HOST, Quality::GOOD);
        let (host, identity) = (Host::start(net, HOST, seed), Identity::draw(SEED));
        let randomness = Randomness { seed: [0; 32], ids: crypto::ids(seed), crypto: crypto::provider() };
        let config = Config::parse(Path::new("impostor.toml"), "", Overrides::default()).expect("the defaults");
        let endpoint = start_on(
            Arc::new(host.clone()),
            host.bind(ADDRESS.port()),
            Some(randomness),
            &config,
            Credentials { certificate: &identity.certificate(), keys: &identity.keys },
        )
        .expect("a good identity");
        let (on, shared) = (host.clone(), shared.clone());
        host.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let shared = shared.clone();
                on.spawn(async move {
                    // Its handshake ends once the client has accepted the certificate.
                    if incoming.await.is_ok() {
                        shared.recorder.note(Entry::Fooled);
                    }
                });
            }
        });
        Some(Self(host))
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// The fingerprint of its certificate.
pub(super) fn fingerprint() -> [u8; 32] {
    Identity::draw(SEED).fingerprint
}

const HOST: HostId = HostId(2);
const SEED: u64 = 0;
/// Where it is: where [`HOST`] is.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 4433);
