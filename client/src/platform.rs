//! What a client takes from the machine that it runs on.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    time_provider::{DefaultTimeProvider, TimeProvider},
};

use crate::socket::bind;

/// Tasks, sockets and random numbers of a client. The default is tokio, UDP and the system's randomness; a simulation
/// gives its own with [`crate::Config::platform`] and runs the client in virtual time. The clock is tokio's.
pub trait Platform: Send + Sync + 'static {
    /// Runs the client's tasks, and QUIC's tasks and timers.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Makes a socket from which `remote` can be reached.
    ///
    /// # Errors
    /// When there is none.
    fn socket(&self, remote: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Fills `bytes` with random numbers.
    fn fill_random(&self, bytes: &mut [u8]);

    /// The cryptography of TLS, with a randomness of its own, and the clock by which tickets age.
    fn tls(&self) -> (Arc<CryptoProvider>, Arc<dyn TimeProvider>) {
        (Arc::new(aws_lc_rs::default_provider()), Arc::new(DefaultTimeProvider))
    }
}

/// The machine itself.
pub(crate) struct System;

impl Platform for System {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(TokioRuntime)
    }

    fn socket(&self, remote: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        bind(remote)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        rand::RngCore::fill_bytes(&mut rand::rng(), bytes);
    }
}

impl dyn Platform {
    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }

    /// A random part of the whole, from 0 up to and without 1.
    pub(crate) fn random_share(&self) -> f64 {
        (u64::from_le_bytes(self.random()) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Runs a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(Box::pin(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_share_is_less_than_the_whole() {
        struct Fixed(u8);
        impl Platform for Fixed {
            fn runtime(&self) -> Arc<dyn Runtime> {
                System.runtime()
            }
            fn socket(&self, remote: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
                System.socket(remote)
            }
            fn fill_random(&self, bytes: &mut [u8]) {
                bytes.fill(self.0);
            }
        }
        let share = |byte| (&Fixed(byte) as &dyn Platform).random_share();
        assert_eq!(share(0), 0.0);
        assert!(share(255) < 1.0 && share(255) > 0.999_999);
    }
}
