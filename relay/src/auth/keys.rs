//! The keys that verify tokens, each with its only algorithm.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jsonwebtoken::{Algorithm, DecodingKey};
use thiserror::Error;

use super::{
    follow::FollowError,
    key::{VerifyingKey, is_sound},
};
use crate::{
    config::{KeyConfig, KeyMaterial, KeySource, Secret},
    identity::{IdentityError, SigningKey},
};

/// Why the keys of the config cannot be used. The text says what to do.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A key's file cannot be read.
    #[error("cannot read the key {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A file does not hold such a key.
    #[error("{} is not {wanted} (-----BEGIN PUBLIC KEY-----); fix the file or the key's alg", path.display())]
    NotAPublicKey {
        /// The file.
        path: PathBuf,
        /// The kind of key that the config says.
        wanted: &'static str,
    },
    /// A secret is too short.
    #[error("the secret in {} has less than {} bytes; `openssl rand -base64 32` prints a good one", path.display(), Secret::LEAST)]
    ShortSecret {
        /// The file.
        path: PathBuf,
    },
    /// The data folder's own key cannot be used.
    #[error(transparent)]
    Own(#[from] IdentityError),
    /// The key sets cannot be followed.
    #[error(transparent)]
    Sets(#[from] FollowError),
}

/// Loads every key; the data folder's own is created if missing.
pub(super) fn load(source: &KeySource, data: &Path) -> Result<Vec<VerifyingKey>, KeyError> {
    match source {
        KeySource::Development => Ok(vec![VerifyingKey::own(&SigningKey::read_or_create(data)?)]),
        KeySource::Listed(keys) => keys.iter().map(VerifyingKey::listed).collect(),
    }
}

impl VerifyingKey {
    pub(super) fn own(key: &SigningKey) -> Self {
        let public = DecodingKey::from_ed_der(key.public());
        Self { kid: Some(key.kid()), algorithm: Algorithm::EdDSA, key: public }
    }

    fn listed(config: &KeyConfig) -> Result<Self, KeyError> {
        let (algorithm, key) = match &config.material {
            KeyMaterial::EdDsa(path) => (Algorithm::EdDSA, public_key(path, &ED25519_KEY)?),
            KeyMaterial::Es256(path) => (Algorithm::ES256, public_key(path, &P256_KEY)?),
            KeyMaterial::Rs256(path) => (Algorithm::RS256, public_key(path, &RSA_KEY)?),
            KeyMaterial::Hs256(secret) => (Algorithm::HS256, DecodingKey::from_secret(secret.expose())),
            KeyMaterial::Hs256File(path) => (Algorithm::HS256, DecodingKey::from_secret(secret(path)?.expose())),
        };
        Ok(Self { kid: config.kid.clone(), algorithm, key })
    }
}

/// The secret in a file, without the trailing newline that editors add.
pub(super) fn secret(path: &Path) -> Result<Secret, KeyError> {
    let text = fs::read_to_string(path).map_err(|error| KeyError::Read { path: path.to_owned(), error })?;
    Secret::new(text.trim_end_matches(['\r', '\n'])).ok_or_else(|| KeyError::ShortSecret { path: path.to_owned() })
}

/// A kind of public key, and how PEM becomes one.
struct PublicKind {
    name: &'static str,
    from_pem: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
    algorithm: Algorithm,
}

const ED25519_KEY: PublicKind = PublicKind {
    name: "an Ed25519 public key in PEM",
    from_pem: DecodingKey::from_ed_pem,
    algorithm: Algorithm::EdDSA,
};
const P256_KEY: PublicKind = PublicKind {
    name: "an ECDSA P-256 public key in PEM",
    from_pem: DecodingKey::from_ec_pem,
    algorithm: Algorithm::ES256,
};
const RSA_KEY: PublicKind = PublicKind {
    name: "an RSA public key of at least 2,048 bits in PEM",
    from_pem: DecodingKey::from_rsa_pem,
    algorithm: Algorithm::RS256,
};

fn public_key(path: &Path, kind: &PublicKind) -> Result<DecodingKey, KeyError> {
    let pem = fs::read(path).map_err(|error| KeyError::Read { path: path.to_owned(), error })?;
    let key = (kind.from_pem)(&pem).ok().filter(|key| is_sound(key, kind.algorithm));
    key.ok_or_else(|| KeyError::NotAPublicKey { path: path.to_owned(), wanted: kind.name })
}
