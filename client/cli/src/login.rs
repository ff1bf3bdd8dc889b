//! From the command line to addresses, trust and login.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use quip_client::{Config, Trust, UserId};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use crate::{
    args::{self, Common},
    token::{Development, KeyError},
};

/// Why the command line has no usable login. The text says what to do.
#[derive(Debug, Error)]
pub(crate) enum LoginError {
    /// Neither a name nor a token.
    #[error("no login: use --as NAME with the relay's data folder (for development), or --token TOKEN")]
    NoUser,
    /// The name is not a user id.
    #[error("--as {0:?}: not a user id (1 to 64 bytes without control characters)")]
    User(String),
    /// The key in the data folder cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No certificate to trust is known.
    #[error(
        "no certificate to trust: {} not found; use --fingerprint HEX (the file fingerprint in the relay's data folder), \
         --ca FILE.pem, or --data DIR",
        .0.display()
    )]
    NoTrust(PathBuf),
    /// The fingerprint in the data folder cannot be used.
    #[error("{}: {why}", path.display())]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// The error.
        why: &'static str,
    },
    /// The authorities' certificates cannot be used.
    #[error("--ca {}: {why}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The error.
        why: String,
    },
}

/// The relays, and how to verify them.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    /// Addresses, in the order to try.
    pub(crate) addresses: Vec<String>,
    /// Which certificates to trust.
    pub(crate) trust: Trust,
    /// The data folder; it may not exist.
    pub(crate) data: PathBuf,
}

/// How to log in.
pub(crate) enum Login {
    /// With this token.
    Token(String),
    /// As the user named on the command line.
    Development(Development),
}

impl Relay {
    /// Reads the command line; defaults come from the data folder.
    pub(crate) fn find(common: &Common) -> Result<Self, LoginError> {
        let data = data_folder(common);
        let addresses = if common.relay.is_empty() { vec![address(&data)] } else { common.relay.clone() };
        Ok(Self { addresses, trust: trust(common, &data)?, data })
    }

    /// The configuration of a client of these relays.
    pub(crate) fn config(&self, login: Login) -> Config {
        let (addresses, trust) = (&self.addresses, self.trust.clone());
        let config = match login {
            Login::Token(token) => Config::new(addresses, trust, token),
            Login::Development(development) => Config::new(addresses, trust, development),
        };
        config.client_name(concat!("quip/", env!("CARGO_PKG_VERSION")))
    }
}

impl Login {
    /// Reads the command line.
    pub(crate) fn find(common: &Common) -> Result<Self, LoginError> {
        match (&common.user, &common.token) {
            (Some(name), _) => {
                let user = UserId::parse(name).map_err(|_| LoginError::User(name.clone()))?;
                Ok(Self::Development(Development::read(&data_folder(common), user)?))
            }
            (None, Some(token)) => Ok(Self::Token(token.trim().to_owned())),
            (None, None) => Err(LoginError::NoUser),
        }
    }
}

/// The relay's data folder; it may not exist.
fn data_folder(common: &Common) -> PathBuf {
    common.data.clone().unwrap_or_else(|| DATA.into())
}

/// The address in the data folder, else the default.
fn address(data: &Path) -> String {
    let listen = fs::read_to_string(data.join("listen")).ok().and_then(|text| text.trim().parse().ok());
    listen.map_or_else(|| ADDRESS.to_owned(), |listen: SocketAddr| reachable(listen).to_string())
}

/// A relay that listens on every address is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn trust(common: &Common, data: &Path) -> Result<Trust, LoginError> {
    match (common.fingerprint, &common.ca) {
        (Some(fingerprint), _) => Ok(Trust::Fingerprint(fingerprint)),
        (None, Some(path)) => authorities(path).map(Trust::Ca),
        (None, None) => read_fingerprint(data).map(Trust::Fingerprint),
    }
}

fn read_fingerprint(data: &Path) -> Result<[u8; 32], LoginError> {
    let path = data.join("fingerprint");
    match fs::read_to_string(&path) {
        Ok(text) => args::fingerprint(&text).map_err(|why| LoginError::Fingerprint { path, why }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LoginError::NoTrust(path)),
        Err(_) => Err(LoginError::Fingerprint { path, why: "cannot be read" }),
    }
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoginError> {
    let wrong = |why: String| LoginError::Ca { path: path.to_owned(), why };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(wrong("no certificate found".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The relay's own defaults.
const DATA: &str = "quip-data";
const ADDRESS: &str = "127.0.0.1:4433";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder() -> (tempfile::TempDir, Common) {
        let folder = tempfile::tempdir().unwrap();
        let common = Common { data: Some(folder.path().to_owned()), ..Common::default() };
        (folder, common)
    }

    #[test]
    fn defaults_come_from_the_data_folder() {
        let (folder, common) = folder();
        fs::write(folder.path().join("fingerprint"), format!("{}\n", "0f".repeat(32))).unwrap();
        fs::write(folder.path().join("listen"), "0.0.0.0:5555\n").unwrap();
        let relay = Relay::find(&common).unwrap();
        assert_eq!(relay.addresses, ["127.0.0.1:5555"]);
        assert!(matches!(relay.trust, Trust::Fingerprint(fingerprint) if fingerprint == [0x0f; 32]));
        fs::write(folder.path().join("listen"), "[::]:1\n").unwrap();
        assert_eq!(Relay::find(&common).unwrap().addresses, ["[::1]:1"]);
        fs::write(folder.path().join("fingerprint"), "short").unwrap();
        assert!(matches!(Relay::find(&common), Err(LoginError::Fingerprint { .. })));
    }

    #[test]
    fn the_command_line_takes_precedence() {
        let (folder, common) = folder();
        fs::write(folder.path().join("listen"), "127.0.0.1:5555\n").unwrap();
        let common = Common { relay: vec!["a:1".into(), "b:2".into()], fingerprint: Some([1; 32]), ..common };
        let relay = Relay::find(&common).unwrap();
        assert_eq!(relay.addresses, ["a:1", "b:2"]);
        assert!(matches!(relay.trust, Trust::Fingerprint(fingerprint) if fingerprint == [1; 32]));
    }

    #[test]
    fn each_missing_part_has_its_own_error() {
        let (folder, common) = folder();
        assert!(matches!(Relay::find(&common), Err(LoginError::NoTrust(_))));
        assert!(matches!(Login::find(&common), Err(LoginError::NoUser)));
        let named = Common { user: Some("alice".into()), ..common.clone() };
        assert!(matches!(Login::find(&named), Err(LoginError::Key(KeyError::NoKey(_)))));
        let unnamed = Common { user: Some("a\nb".into()), ..common.clone() };
        assert!(matches!(Login::find(&unnamed), Err(LoginError::User(_))));
        let ca = Common { ca: Some(folder.path().join("ca.pem")), ..common };
        assert!(matches!(Relay::find(&ca), Err(LoginError::Ca { .. })));
    }
}
