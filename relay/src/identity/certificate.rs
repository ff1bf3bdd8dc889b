//! The TLS certificate: given by the operator, or self-signed and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    IdentityError,
    facts::Facts,
    files::{Readable, create_once, private_folder},
    hex,
};
use crate::config::TlsConfig;

/// The certificate that the relay shows, with its private key.
#[derive(Debug)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads what the operator gave, or what the data folder has; without writing anything.
    ///
    /// # Errors
    /// When a file is missing, is not PEM, or certificate and key do not belong together.
    pub fn read(data: &Path, tls: &TlsConfig) -> Result<Self, IdentityError> {
        match tls {
            TlsConfig::Files { cert, key } => read_pair(cert, key),
            TlsConfig::SelfSigned => {
                let files = SelfSigned::new(data);
                read_pair(&files.cert, &files.key)
            }
        }
    }

    /// True when the data folder has a self-signed certificate.
    pub fn kept(data: &Path) -> bool {
        SelfSigned::new(data).cert.exists()
    }

    /// As [`Certificate::read`]; a self-signed certificate is made first when there is none.
    pub(super) fn read_or_create(data: &Path, tls: &TlsConfig) -> Result<Self, IdentityError> {
        if *tls == TlsConfig::SelfSigned {
            SelfSigned::new(data).create()?;
        }
        Self::read(data, tls)
    }

    /// For people: what it is for, and until when.
    ///
    /// # Errors
    /// When it is not well-formed.
    pub fn describe(&self) -> Result<String, String> {
        Ok(self.facts(0)?.describe())
    }

    /// What clients object to.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = match self.facts(0) {
            Ok(leaf) => leaf.objections(now).iter().map(|objection| format!("the certificate {objection}")).collect(),
            Err(why) => vec![format!("the certificate {why}")],
        };
        for place in 1..self.chain.len() {
            let objection = self.facts(place).map_or_else(Some, |facts| facts.outdated(now));
            warnings.extend(objection.map(|objection| format!("certificate {} of the chain {objection}", place + 1)));
        }
        warnings
    }

    fn facts(&self, place: usize) -> Result<Facts, String> {
        Facts::read(&self.chain[place]).map_err(|error| format!("is not well-formed: {error}"))
    }

    /// SHA-256 of the leaf in hexadecimal digits: what clients pin when no authority signed it.
    pub fn fingerprint(&self) -> String {
        hex(::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &self.chain[0]).as_ref())
    }
}

struct SelfSigned {
    folder: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl SelfSigned {
    fn new(data: &Path) -> Self {
        let folder = data.join("tls");
        Self { cert: folder.join("cert.pem"), key: folder.join("key.pem"), folder }
    }

    /// The key goes first: a certificate without its key could never be used, a key without one gets a new one.
    fn create(&self) -> Result<(), IdentityError> {
        if self.cert.exists() {
            return Ok(());
        }
        private_folder(&self.folder).map_err(IdentityError::io("make the folder", &self.folder))?;
        let new_key = KeyPair::generate().map_err(IdentityError::bad_key(&self.key))?.serialize_pem();
        create_once(&self.key, new_key.as_bytes(), Readable::Owner).map_err(IdentityError::io("write", &self.key))?;
        let pem = fs::read_to_string(&self.key).map_err(IdentityError::io("read", &self.key))?;
        let key = KeyPair::from_pem(&pem).map_err(IdentityError::bad_key(&self.key))?;
        let cert = params().and_then(|params| params.self_signed(&key)).map_err(IdentityError::bad_key(&self.key))?;
        create_once(&self.cert, cert.pem().as_bytes(), Readable::All).map_err(IdentityError::io("write", &self.cert))
    }
}

/// Clients pin the fingerprint, so that only names which every machine has are in it, and it does not run out.
fn params() -> Result<CertificateParams, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "quip-relay");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    Ok(params)
}

fn read_pair(cert: &Path, key: &Path) -> Result<Certificate, IdentityError> {
    let text = fs::read(cert).map_err(IdentityError::io("read", cert))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(IdentityError::bad_certificate(cert))?;
    if chain.is_empty() {
        return Err(IdentityError::bad_certificate(cert)("no CERTIFICATE in it"));
    }
    let text = fs::read(key).map_err(IdentityError::io("read", key))?;
    let key_der = PrivateKeyDer::from_pem_slice(&text).map_err(IdentityError::bad_key(key))?;
    match CertifiedKey::from_der(chain.clone(), key_der.clone_key(), &aws_lc_rs::default_provider()) {
        Ok(_) => Ok(Certificate { chain, key: key_der }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(IdentityError::NotAPair { cert: cert.to_owned(), key: key.to_owned() })
        }
        Err(rustls::Error::InvalidCertificate(why)) => {
            Err(IdentityError::bad_certificate(cert)(rustls::Error::InvalidCertificate(why)))
        }
        Err(error) => Err(IdentityError::bad_key(key)(error)),
    }
}
