//! TLS whose randomness and key exchange are drawn by seed.
//!
//! quinn looks at bytes that it cannot decrypt: whether a restarted relay answers the packet of an old handshake depends on its
//! ciphertext. So what is encrypted must be the same in each run. Ciphers and signatures are the real ones.

use std::{cell::RefCell, sync::Arc, time::Duration};

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustls::{
    Error, NamedGroup,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
        SupportedKxGroup, aws_lc_rs,
    },
};

/// The provider for every side of a run on this thread.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![&Group], secure_random: &Random, ..aws_lc_rs::default_provider() })
}

/// Begins the random numbers of this thread's TLS.
pub fn begin(seed: u64) {
    RNG.set(StdRng::seed_from_u64(seed));
}

/// Makes what draws the connection ids of an endpoint.
pub fn ids(seed: u64) -> Box<dyn Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync> {
    Box::new(move || Box::new(Ids(StdRng::seed_from_u64(seed))))
}

/// Any id may be one of an earlier process of the same relay.
struct Ids(StdRng);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

thread_local! {
    static RNG: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

fn fill(bytes: &mut [u8]) {
    RNG.with_borrow_mut(|rng| rng.fill_bytes(bytes));
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        fill(bytes);
        Ok(())
    }
}

/// Shares as long as those of the hybrid that the product uses, without any secret: both sides hash both shares.
#[derive(Debug)]
struct Group;

struct Share(Vec<u8>);

/// Bytes of a client's share and of a server's.
const CLIENT: usize = 1216;
const SERVER: usize = 1120;

impl Share {
    fn draw(size: usize) -> Self {
        let mut bytes = vec![0; size];
        fill(&mut bytes);
        Self(bytes)
    }
}

fn secret(client: &[u8], server: &[u8]) -> SharedSecret {
    let both = [client, server].concat();
    ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &both).as_ref().into()
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Share::draw(CLIENT)))
    }

    fn start_and_complete(&self, client: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let Share(server) = Share::draw(SERVER);
        Ok(CompletedKeyExchange { group: self.name(), secret: secret(client, &server), pub_key: server })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

impl ActiveKeyExchange for Share {
    fn complete(self: Box<Self>, server: &[u8]) -> Result<SharedSecret, Error> {
        Ok(secret(&self.0, server))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        Group.name()
    }
}
