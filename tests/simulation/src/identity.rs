//! The relay's certificate, the same for the same seed.

use quip_relay::identity::{Certificate, NodeKeys};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Who the relay is, over its restarts.
pub struct Identity {
    key: Vec<u8>,
    certificate: rustls_pki_types::CertificateDer<'static>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Secrets of its endpoint.
    pub keys: NodeKeys,
}

impl Identity {
    /// Draws an identity. The key is one of Ed25519, whose signatures all have the same length.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut draw = || {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let key = [&PKCS8_ED25519[..], &draw()].concat();
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.clone()), &PKCS_ED25519);
        let names = vec!["localhost".to_owned()];
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.self_signed(&pair?))
            .expect("any 32 bytes are a key")
            .der()
            .clone();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate);
        let fingerprint = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let keys = NodeKeys { reset: draw(), connection_id: draw(), token: draw() };
        Self { key, certificate, fingerprint, keys }
    }

    /// The certificate with its key.
    pub fn certificate(&self) -> Certificate {
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        Certificate { chain: vec![self.certificate.clone()], key }
    }
}

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8.
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_identity() {
        let (one, same, other) = (Identity::draw(1), Identity::draw(1), Identity::draw(2));
        assert_eq!(one.fingerprint, same.fingerprint);
        assert_ne!(one.fingerprint, other.fingerprint);
    }
}
