//! Fetching the bytes of a key set, from a file or a web server. Blocks, so it runs on its own threads only.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use ureq::{
    Agent,
    http::{StatusCode, Uri, uri::Scheme},
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::config::{JwksConfig, JwksPlace, jwks::is_loopback};

/// Why a key set could not be fetched. The text says what to do.
#[derive(Debug, Error)]
pub enum FetchError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The document is over the limit.
    #[error("it is longer than {most} bytes; raise `document_bytes` if that is right")]
    TooLong {
        /// The limit in the config.
        most: usize,
    },
    /// The file of authorities holds no certificate.
    #[error("{} holds no certificate in PEM", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// No authority to check the server's certificate against.
    #[error("this system has no CA certificates; install them (ca-certificates), or name a file with `ca`")]
    NoAuthorities,
    /// The status is not 200.
    #[error("the server answers {0} instead of 200; redirects are not followed")]
    Status(StatusCode),
    /// The fetch took too long, from connecting to the last byte.
    #[error("no complete answer within {0:?}; raise `timeout` if that is right")]
    Late(Duration),
    /// The connection, its TLS handshake or HTTP failed.
    #[error("no answer: {0}")]
    Http(ureq::Error),
}

/// The document, of at most `set.document_bytes` bytes.
pub(super) fn fetch(set: &JwksConfig) -> Result<Vec<u8>, FetchError> {
    match &set.place {
        JwksPlace::File(path) => read(path, set.document_bytes),
        JwksPlace::Url { url, ca } => get(url, ca.as_deref(), set),
    }
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut document = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut document));
    read.map_err(|error| FetchError::Read { path: path.to_owned(), error })?;
    if document.len() > most { Err(FetchError::TooLong { most }) } else { Ok(document) }
}

/// Builds a new client each time, so that replaced authorities on disk are used and no connection is kept.
fn get(url: &Uri, ca: Option<&Path>, set: &JwksConfig) -> Result<Vec<u8>, FetchError> {
    let failed = |error| match error {
        ureq::Error::BodyExceedsLimit(_) => FetchError::TooLong { most: set.document_bytes },
        ureq::Error::Timeout(_) => FetchError::Late(set.timeout),
        error => FetchError::Http(error),
    };
    let mut answer = agent(url, ca, set)?.get(url).call().map_err(failed)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    answer.body_mut().with_config().limit(set.document_bytes as u64).read_to_vec().map_err(failed)
}

fn agent(url: &Uri, ca: Option<&Path>, set: &JwksConfig) -> Result<Agent, FetchError> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(set.timeout))
        // A redirect leads to a place that the operator did not name, perhaps without TLS.
        .max_redirects(0)
        .http_status_as_error(false)
        .max_response_header_size(HEADER_BYTES)
        .user_agent(concat!("quip-relay/", env!("CARGO_PKG_VERSION")));
    if url.host().is_some_and(is_loopback) {
        // A proxy is not needed to reach this machine.
        config = config.proxy(None);
    }
    if url.scheme() == Some(&Scheme::HTTPS) {
        config = config.tls_config(tls(ca)?);
    }
    Ok(config.build().new_agent())
}

fn tls(ca: Option<&Path>) -> Result<TlsConfig, FetchError> {
    let authorities = match ca {
        Some(path) => from_file(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if authorities.is_empty() {
        return Err(FetchError::NoAuthorities);
    }
    let authorities: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&authorities))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build())
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let file = File::open(path).map_err(|error| FetchError::Read { path: path.to_owned(), error })?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(file).collect();
    match read {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        _ => Err(FetchError::NoAuthority { path: path.to_owned() }),
    }
}

/// Maximum size of the server's headers; only the status and the length are used.
const HEADER_BYTES: usize = 16 << 10;
