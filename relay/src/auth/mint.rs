//! Signing tokens, for `quip-relay token`, tests and benchmarks.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use quip_protocol::{UserId, id::InvalidUser};
use serde::Serialize;
use thiserror::Error;

use super::{
    grants::{Pattern, Permission},
    keys::{self, KeyError},
};
use crate::{
    config::{KeyConfig, KeyMaterial, KeySource},
    identity::SigningKey,
};

/// Why a token could not be created. The text says what to do.
#[derive(Debug, Error)]
pub enum MintError {
    /// The user id is not valid.
    #[error(transparent)]
    User(#[from] InvalidUser),
    /// A pattern that would match no room.
    #[error("\"{0}\" is not a pattern; use \"*\", \"lobby:*\" or \"lobby:main\"")]
    Pattern(String),
    /// More patterns than the relay accepts.
    #[error("more than 64 patterns for one permission")]
    TooManyPatterns,
    /// Its lifetime is out of range.
    #[error("a token must be valid for 1 second to 100 years")]
    Ttl,
    /// The config has only public keys.
    #[error(
        "the keys in the config can only verify tokens; make tokens where the private key is, or take [[auth.keys]] \
         out to let the relay make its own key"
    )]
    OnlyPublicKeys,
    /// The key cannot be loaded.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot sign.
    #[error("cannot sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A key that signs tokens.
#[derive(Debug, Clone)]
pub struct MintKey {
    algorithm: Algorithm,
    kid: Option<String>,
    key: EncodingKey,
}

/// The content of a token.
#[derive(Debug, Clone)]
pub struct TokenRequest<'a> {
    /// The user.
    pub user: &'a str,
    /// How long it is valid, from one second to 100 years.
    pub ttl: Duration,
    /// The relay's audience.
    pub audience: &'a str,
    /// The issuer, if the relay checks it.
    pub issuer: Option<&'a str>,
    /// Patterns of rooms to join.
    pub join: &'a [String],
    /// Patterns of rooms to post in.
    pub post: &'a [String],
    /// Patterns of rooms to create.
    pub create: &'a [String],
    /// Patterns of rooms to moderate.
    pub moderate: &'a [String],
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    join: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    post: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    create: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    moderate: &'a [String],
}

impl MintKey {
    /// The signing key of a data folder.
    ///
    /// # Errors
    /// When it is not an Ed25519 key in PEM.
    pub fn own(key: &SigningKey) -> Result<Self, MintError> {
        let private = EncodingKey::from_ed_pem(key.pem().as_bytes())?;
        Ok(Self { algorithm: Algorithm::EdDSA, kid: Some(key.kid()), key: private })
    }

    /// A key whose tokens a relay with these keys accepts: the data folder's own, created if missing, or the first secret in
    /// the config.
    ///
    /// # Errors
    /// If the config has only public keys, or a key cannot be read.
    pub fn accepted_by(source: &KeySource, data: &Path) -> Result<Self, MintError> {
        match source {
            KeySource::Development => Self::own(&SigningKey::read_or_create(data).map_err(KeyError::from)?),
            KeySource::Listed(keys) => Self::first_secret(keys),
        }
    }

    fn first_secret(keys: &[KeyConfig]) -> Result<Self, MintError> {
        let with_secret = keys.iter().find_map(|key| match &key.material {
            KeyMaterial::Hs256(secret) => Some((key, Ok(secret.clone()))),
            KeyMaterial::Hs256File(path) => Some((key, keys::secret(path))),
            _ => None,
        });
        let (key, secret) = with_secret.ok_or(MintError::OnlyPublicKeys)?;
        let encoding = EncodingKey::from_secret(secret?.expose());
        Ok(Self { algorithm: Algorithm::HS256, kid: key.kid.clone(), key: encoding })
    }
}

/// Signs a token.
///
/// # Errors
/// If the relay would refuse it, or the key cannot sign.
pub fn mint(key: &MintKey, request: &TokenRequest<'_>, now: SystemTime) -> Result<String, MintError> {
    UserId::parse(request.user)?;
    for permission in Permission::ALL {
        check_patterns(request.patterns(permission))?;
    }
    if !(SHORTEST..=LONGEST).contains(&request.ttl) {
        return Err(MintError::Ttl);
    }
    let iat = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims {
        sub: request.user,
        aud: request.audience,
        iss: request.issuer,
        iat,
        exp: iat + request.ttl.as_secs(),
        join: request.join,
        post: request.post,
        create: request.create,
        moderate: request.moderate,
    };
    let header = Header { kid: key.kid.clone(), ..Header::new(key.algorithm) };
    Ok(jsonwebtoken::encode(&header, &claims, &key.key)?)
}

impl<'a> TokenRequest<'a> {
    /// A token that grants nothing yet, for the audience of a relay without a config file.
    pub fn new(user: &'a str, ttl: Duration) -> Self {
        Self { user, ttl, audience: "quip", issuer: None, join: &[], post: &[], create: &[], moderate: &[] }
    }

    fn patterns(&self, permission: Permission) -> &'a [String] {
        match permission {
            Permission::Join => self.join,
            Permission::Post => self.post,
            Permission::Create => self.create,
            Permission::Moderate => self.moderate,
        }
    }
}

fn check_patterns(patterns: &[String]) -> Result<(), MintError> {
    if patterns.len() > Pattern::MOST {
        return Err(MintError::TooManyPatterns);
    }
    match patterns.iter().find(|pattern| Pattern::parse(pattern).is_none()) {
        Some(bad) => Err(MintError::Pattern(bad.clone())),
        None => Ok(()),
    }
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
