//! Development tokens, signed with the key in the data folder of a relay without configured keys.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use quip_client::{TokenError, TokenFuture, TokenSource, UserId};
use serde::Serialize;
use thiserror::Error;

/// Why the key in the data folder cannot be used. The text says what to do.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// No data folder.
    #[error(
        "no data folder at {}; start a relay with `quip-relay --data {}`, or name its folder with --data",
        .0.display(), .0.display()
    )]
    NoFolder(PathBuf),
    /// No key: the relay has configured keys.
    #[error("{} not found: the relay takes tokens from another issuer; log in with --token", .0.display())]
    NoKey(PathBuf),
    /// Reading failed.
    #[error("cannot read {}: {error} (only the user that runs the relay may read it)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file is not a key.
    #[error("{} is not an Ed25519 key in PEM: {error}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// The error.
        error: jsonwebtoken::errors::Error,
    },
}

/// Signs a fresh token for a user whenever one is needed.
pub(crate) struct Development {
    key: EncodingKey,
    user: UserId,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    join: [&'a str; 1],
    post: [&'a str; 1],
    create: [&'a str; 1],
}

impl Development {
    /// Reads the key of a relay's data folder, to log in as `user`.
    pub(crate) fn read(data: &Path, user: UserId) -> Result<Self, KeyError> {
        if !data.is_dir() {
            return Err(KeyError::NoFolder(data.to_owned()));
        }
        let path = data.join("keys").join("signing.pem");
        let pem = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyError::NoKey(path.clone()),
            _ => KeyError::Read { path: path.clone(), error },
        })?;
        let key = EncodingKey::from_ed_pem(&pem).map_err(|error| KeyError::NotAKey { path, error })?;
        Ok(Self { key, user })
    }

    /// A token that lets its user join, post and create everywhere. It carries no `kid`: a relay tries one without for all
    /// its keys.
    fn mint(&self, now: SystemTime) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            sub: self.user.as_str(),
            aud: AUDIENCE,
            iat,
            exp: iat + TTL.as_secs(),
            join: ["*"],
            post: ["*"],
            create: ["*"],
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
    }
}

impl TokenSource for Development {
    fn token(&self) -> TokenFuture<'_> {
        let token = self.mint(SystemTime::now()).map_err(|error| TokenError::fatal(error.to_string()));
        Box::pin(std::future::ready(token))
    }
}

/// The audience of a relay without a config file.
const AUDIENCE: &str = "quip";
/// The library asks again before a token ends.
const TTL: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    /// Made for this test; signs for no relay.
    pub(crate) const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIMXhQg7WbH1Mv5LrXhxsW1/ARnZNbMmvR6CCijbKw3u5\n\
        -----END PRIVATE KEY-----\n";

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn a_token_has_the_expected_claims() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/signing.pem"), PEM).unwrap();
        let login = Development::read(folder.path(), user("Ännchen")).unwrap();
        let token = login.mint(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let [header, claims]: [Value; 2] = [0, 1].map(|part| serde_json::from_slice(&parts[part]).unwrap());
        assert_eq!(header, json!({"typ": "JWT", "alg": "EdDSA"}));
        let all = ["*"];
        assert_eq!(
            claims,
            json!({"sub": "Ännchen", "aud": "quip", "iat": 1_000, "exp": 1_900, "join": all, "post": all, "create": all})
        );
    }

    #[test]
    fn each_unusable_key_has_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let read = |folder: &Path| Development::read(folder, user("alice"));
        assert!(matches!(read(folder.path()), Err(KeyError::NoKey(_))));
        assert!(matches!(read(&folder.path().join("gone")), Err(KeyError::NoFolder(_))));
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/signing.pem"), "nonsense").unwrap();
        let read = |folder: &Path| Development::read(folder, user("alice"));
        assert!(matches!(read(folder.path()), Err(KeyError::NotAKey { .. })));
    }
}
