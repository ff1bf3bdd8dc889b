//! Logging in to a relay on this machine that was started without a config, for development.
//!
//! Such a relay leaves in its data folder what a client needs: its address, the fingerprint of its certificate, and the key
//! that signs its tokens. [`crate::Config::dev`] puts these together.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use quip_protocol::UserId;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;

use crate::{InvalidFingerprint, InvalidName, TokenFuture, TokenSource, Trust};

/// Why a data folder cannot be used. The text says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DevError {
    /// There is no folder.
    #[error("no data folder at {folder}: start a relay with `quip-relay --data {folder}`", folder = .0.display())]
    NoFolder(PathBuf),
    /// The relay has configured keys, so that it leaves none.
    #[error("{} not found: the relay takes tokens from another issuer", .0.display())]
    NoKey(PathBuf),
    /// No relay has left the fingerprint of its certificate.
    #[error("{} not found: is this the data folder of a relay?", .0.display())]
    NoFingerprint(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {error} (only the user that runs the relay may read its key)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file has no fingerprint.
    #[error("{}: {error}", path.display())]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// The error.
        error: InvalidFingerprint,
    },
    /// The file has no signing key.
    #[error("{} is not an Ed25519 key in PEM (PKCS #8)", .0.display())]
    NotAKey(PathBuf),
    /// The user cannot be one.
    #[error("{name:?} cannot be a user: {error}")]
    User {
        /// The name.
        name: String,
        /// The error.
        error: InvalidName,
    },
}

/// The address of the relay that last ran in this folder, else the default. One that listens on every address is reached on
/// loopback.
pub fn address(data: &Path) -> String {
    let listen = fs::read_to_string(data.join("listen")).ok().and_then(|text| text.trim().parse().ok());
    listen.map_or_else(|| ADDRESS.to_owned(), |listen: SocketAddr| reachable(listen).to_string())
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Trust in the certificate of the relay with this data folder.
///
/// # Errors
/// If its fingerprint cannot be read.
pub fn trust(data: &Path) -> Result<Trust, DevError> {
    let path = data.join("fingerprint");
    let text = read(data, &path, DevError::NoFingerprint)?;
    Trust::fingerprint(&text).map_err(|error| DevError::Fingerprint { path, error })
}

/// Signs a token whenever one is needed, with the key of a relay that has no other issuer. Its user may join, post and create
/// everywhere.
pub struct Tokens {
    key: Ed25519KeyPair,
    user: UserId,
}

impl Tokens {
    /// Reads the key of the relay with this data folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn read(data: &Path, user: UserId) -> Result<Self, DevError> {
        let path = data.join("keys").join("signing.pem");
        let pem = read(data, &path, DevError::NoKey)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .ok()
            .and_then(|der| Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok())
            .ok_or(DevError::NotAKey(path))?;
        Ok(Self { key, user })
    }

    /// A JWT (RFC 7519, signed as RFC 8037 says). It names no key: a relay then tries all that it has.
    fn sign(&self, now: SystemTime) -> String {
        let from = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let until = from + LIFE.as_secs();
        // A user id has no control characters, so that these two are all that JSON escapes.
        let user = self.user.as_str().replace('\\', r"\\").replace('"', r#"\""#);
        let claims = format!(
            r#"{{"sub":"{user}","aud":"{AUDIENCE}","iat":{from},"exp":{until},"join":["*"],"post":["*"],"create":["*"]}}"#
        );
        let [header, claims] = [HEADER, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

impl TokenSource for Tokens {
    #[allow(clippy::disallowed_methods, reason = "the relay that reads the token is on this machine and has its clock")]
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::ready(Ok(self.sign(SystemTime::now()))))
    }
}

/// Reads a file of a data folder, which may be missing.
fn read(data: &Path, path: &Path, missing: fn(PathBuf) -> DevError) -> Result<String, DevError> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if data.is_dir() => missing(path.to_owned()),
        io::ErrorKind::NotFound => DevError::NoFolder(data.to_owned()),
        _ => DevError::Read { path: path.to_owned(), error },
    })
}

/// Where a relay without a config listens.
const ADDRESS: &str = "127.0.0.1:4433";
/// The audience of a relay without a config.
const AUDIENCE: &str = "quip";
const HEADER: &str = r#"{"typ":"JWT","alg":"EdDSA"}"#;
/// The library asks again before a token ends.
const LIFE: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Config, name};

    /// Made for this test; signs for no relay.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIMXhQg7WbH1Mv5LrXhxsW1/ARnZNbMmvR6CCijbKw3u5\n\
        -----END PRIVATE KEY-----\n";

    /// What a relay leaves.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/signing.pem"), PEM).unwrap();
        fs::write(folder.path().join("fingerprint"), format!("{}\n", "0f".repeat(32))).unwrap();
        fs::write(folder.path().join("listen"), "0.0.0.0:5555\n").unwrap();
        folder
    }

    #[test]
    fn a_token_has_the_expected_claims_and_is_signed() {
        let folder = folder();
        for user in ["Ännchen", r#"a "b\c"#] {
            let tokens = Tokens::read(folder.path(), UserId::parse(user).unwrap()).unwrap();
            let token = tokens.sign(UNIX_EPOCH + Duration::from_secs(1_000));
            let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
            let [header, claims]: [Value; 2] = [0, 1].map(|part| serde_json::from_slice(&parts[part]).unwrap());
            assert_eq!(header, json!({"typ": "JWT", "alg": "EdDSA"}));
            let all = ["*"];
            assert_eq!(
                claims,
                json!({"sub": user, "aud": "quip", "iat": 1_000, "exp": 1_900, "join": all, "post": all, "create": all})
            );
            let (signed, _) = token.rsplit_once('.').unwrap();
            let public = UnparsedPublicKey::new(&ED25519, tokens.key.public_key().as_ref());
            assert!(public.verify(signed.as_bytes(), &parts[2]).is_ok());
        }
    }

    #[test]
    fn a_folder_gives_address_trust_and_user() {
        let folder = folder();
        let config = Config::dev(folder.path(), "A\u{308}nnchen").unwrap();
        assert_eq!(config.relays, ["127.0.0.1:5555"]);
        assert!(matches!(config.trust, Trust::Fingerprint(fingerprint) if fingerprint == [0x0f; 32]));
        assert_eq!(config.user, Some(name::user("Ännchen").unwrap()));
        fs::write(folder.path().join("listen"), "[::]:1\n").unwrap();
        assert_eq!(address(folder.path()), "[::1]:1");
        fs::write(folder.path().join("listen"), "192.0.2.7:4433").unwrap();
        assert_eq!(address(folder.path()), "192.0.2.7:4433");
        fs::remove_file(folder.path().join("listen")).unwrap();
        assert_eq!(address(folder.path()), ADDRESS);
    }

    #[test]
    fn each_fault_of_a_folder_has_its_own_error() {
        let folder = folder();
        let dev = |name| Config::dev(folder.path(), name).unwrap_err();
        assert!(matches!(dev(" alice"), DevError::User { error: InvalidName::Blank, .. }));
        fs::write(folder.path().join("keys/signing.pem"), "nonsense").unwrap();
        assert!(matches!(dev("alice"), DevError::NotAKey(_)));
        fs::remove_file(folder.path().join("keys/signing.pem")).unwrap();
        assert!(matches!(dev("alice"), DevError::NoKey(_)));
        fs::write(folder.path().join("fingerprint"), "short").unwrap();
        assert!(matches!(dev("alice"), DevError::Fingerprint { .. }));
        fs::remove_file(folder.path().join("fingerprint")).unwrap();
        assert!(matches!(dev("alice"), DevError::NoFingerprint(_)));
        let gone = Config::dev(folder.path().join("gone"), "alice").unwrap_err();
        assert!(matches!(gone, DevError::NoFolder(_)));
        println!("{gone}");
    }
}
