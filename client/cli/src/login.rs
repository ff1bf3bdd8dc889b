//! From the command line to addresses, trust and login.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quip_client::{
    Config, DevError, InvalidName, Trust,
    dev::{self, Tokens},
    name,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use crate::args::Common;

/// Why the command line has no usable login. The text says what to do.
#[derive(Debug, Error)]
pub(crate) enum LoginError {
    /// Neither a name nor a token.
    #[error("no login: use --as NAME with the relay's data folder (for development), or --token TOKEN")]
    NoUser,
    /// The name cannot be that of a user.
    #[error("--as {name:?}: {error}")]
    User {
        /// The name.
        name: String,
        /// The error.
        error: InvalidName,
    },
    /// The relay's data folder cannot be used.
    #[error("{fault}{instead}", fault = .0, instead = instead(.0))]
    Folder(DevError),
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
    Development(Tokens),
}

impl Relay {
    /// Reads the command line; defaults come from the data folder.
    pub(crate) fn find(common: &Common) -> Result<Self, LoginError> {
        let data = data_folder(common);
        let addresses = if common.relay.is_empty() { vec![dev::address(&data)] } else { common.relay.clone() };
        Ok(Self { addresses, trust: trust(common, &data)?, data })
    }

    /// The configuration of a client of these relays.
    pub(crate) fn config(&self, login: Login) -> Config {
        let (addresses, trust) = (&self.addresses, self.trust.clone());
        let config = match login {
            Login::Token(token) => Config::new(addresses, trust, token),
            Login::Development(tokens) => Config::new(addresses, trust, tokens),
        };
        config.client_name(concat!("quip/", env!("CARGO_PKG_VERSION")))
    }
}

impl Login {
    /// Reads the command line.
    pub(crate) fn find(common: &Common) -> Result<Self, LoginError> {
        match (&common.user, &common.token) {
            (Some(name), _) => {
                let user = name::user(name).map_err(|error| LoginError::User { name: name.clone(), error })?;
                Tokens::read(&data_folder(common), user).map(Self::Development).map_err(LoginError::Folder)
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

/// What else the command line offers where the data folder does not help.
fn instead(error: &DevError) -> &'static str {
    match error {
        DevError::NoFolder(_) => {
            ", name its folder with --data, or use --token with --fingerprint HEX or --ca FILE.pem"
        }
        DevError::NoKey(_) => "; log in with --token",
        DevError::NoFingerprint(_) => {
            " Name it with --data, or the certificate with --fingerprint HEX or --ca FILE.pem."
        }
        _ => "",
    }
}

fn trust(common: &Common, data: &Path) -> Result<Trust, LoginError> {
    match (&common.fingerprint, &common.ca) {
        (Some(fingerprint), _) => Ok(fingerprint.clone()),
        (None, Some(path)) => authorities(path).map(Trust::Ca),
        (None, None) => dev::trust(data).map_err(LoginError::Folder),
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

/// The relay's own default.
const DATA: &str = "quip-data";

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
        fs::write(folder.path().join("fingerprint"), "short").unwrap();
        assert!(matches!(Relay::find(&common), Err(LoginError::Folder(DevError::Fingerprint { .. }))));
    }

    #[test]
    fn the_command_line_takes_precedence() {
        let (folder, common) = folder();
        fs::write(folder.path().join("listen"), "127.0.0.1:5555\n").unwrap();
        let common = Common {
            relay: vec!["a:1".into(), "b:2".into()],
            fingerprint: Some(Trust::Fingerprint([1; 32])),
            ..common
        };
        let relay = Relay::find(&common).unwrap();
        assert_eq!(relay.addresses, ["a:1", "b:2"]);
        assert!(matches!(relay.trust, Trust::Fingerprint(fingerprint) if fingerprint == [1; 32]));
    }

    #[test]
    fn each_missing_part_has_its_own_error() {
        let (folder, common) = folder();
        let untrusted = Relay::find(&common).unwrap_err();
        assert!(matches!(untrusted, LoginError::Folder(DevError::NoFingerprint(_))));
        assert!(untrusted.to_string().contains("--fingerprint"), "{untrusted}");
        assert!(matches!(Login::find(&common), Err(LoginError::NoUser)));
        let named = Common { user: Some("alice".into()), ..common.clone() };
        assert!(matches!(Login::find(&named), Err(LoginError::Folder(DevError::NoKey(_)))));
        let unnamed = Common { user: Some("a\nb".into()), ..common.clone() };
        assert!(matches!(Login::find(&unnamed), Err(LoginError::User { .. })));
        let ca = Common { ca: Some(folder.path().join("ca.pem")), ..common };
        assert!(matches!(Relay::find(&ca), Err(LoginError::Ca { .. })));
    }
}
