//! Verification of the relay's certificate.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{ConnectionLost, Platform, Trust, Untrusted, lock::lock};

/// What every attempt to connect has in common. rustls resumes a session only with the verifier that it began with, so there
/// is one for all.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<QuicClientConfig>,
    verdict: Verdict,
}

/// Why the relay that was tried last is not trusted, once it is not.
type Verdict = Arc<Mutex<Option<Untrusted>>>;

impl Tls {
    /// The configuration for `trust`. Does not use the process's default provider.
    pub(super) fn new(trust: &Trust, platform: &dyn Platform) -> Result<Self, String> {
        let (provider, time) = platform.tls();
        let trust: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Fingerprint(fingerprint) => {
                Arc::new(Pinned { fingerprint: *fingerprint, provider: provider.clone() })
            }
            Trust::Ca(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority.clone()).map_err(|error| error.to_string())?;
                }
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| error.to_string())?
            }
        };
        let verdict = Verdict::default();
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Noted { trust, verdict: verdict.clone() }))
            .with_no_client_auth();
        config.alpn_protocols = vec![quip_protocol::ALPN.to_vec()];
        let config = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self { config: Arc::new(config), verdict })
    }

    /// The configuration of an attempt.
    pub(super) fn config(&self) -> Arc<QuicClientConfig> {
        self.config.clone()
    }

    /// Forgets the relay that was tried last.
    pub(super) fn forget(&self) {
        lock(&self.verdict).take();
    }

    /// Why an attempt failed. The addresses of a relay are tried at once, and what one of them shows is true of the relay.
    pub(super) fn lost(&self, error: quinn::ConnectionError) -> ConnectionLost {
        match ConnectionLost::from(error) {
            lost @ ConnectionLost::Handshake(_) => lock(&self.verdict).clone().map_or(lost, ConnectionLost::Untrusted),
            lost => lost,
        }
    }
}

/// Notes why a certificate is not trusted: QUIC keeps the text only.
#[derive(Debug)]
struct Noted {
    trust: Arc<dyn ServerCertVerifier>,
    verdict: Verdict,
}

impl Noted {
    fn note<T>(&self, verified: Result<T, Error>, why: impl FnOnce(&Error) -> Untrusted) -> Result<T, Error> {
        verified.inspect_err(|error| *lock(&self.verdict) = Some(why(error)))
    }
}

impl ServerCertVerifier for Noted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.trust.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        self.note(verified, |error| Untrusted::of_certificate(error, fingerprint(end_entity)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.trust.verify_tls12_signature(message, certificate, signature), Untrusted::of_signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.trust.verify_tls13_signature(message, certificate, signature), Untrusted::of_signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.supported_verify_schemes()
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// Trusts one certificate, regardless of name and dates. The handshake's signature is verified, since anyone can present the
/// certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
