//! `[tls]` and `[auth]`: the relay's certificate, and how clients authenticate.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{
    complaint::{ConfigError, Source},
    jwks::{self, JwksConfig, RawJwks},
    section::checked,
    units::Period,
};

/// Where the relay's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// Created by the relay and kept in the data folder; clients pin its fingerprint.
    SelfSigned,
    /// Given as PEM files.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// How clients authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthConfig {
    /// With a signed token (JWT).
    Token(TokenConfig),
    /// The token is the user id itself and is not checked. Only on loopback.
    None,
}

/// Which tokens are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The `iss` that tokens must carry; `None` = not checked.
    pub issuer: Option<String>,
    /// The `aud` that tokens must carry.
    pub audience: String,
    /// Allowed difference between the clocks of issuer and relay.
    pub leeway: Duration,
    /// The keys that verify tokens.
    pub keys: KeySource,
    /// Key sets that change while the relay runs.
    pub jwks: Vec<JwksConfig>,
}

/// Where the keys that verify tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The signing key in the data folder, with which `quip-relay token` signs tokens.
    Development,
    /// The config file; empty only beside [`TokenConfig::jwks`].
    Listed(Vec<KeyConfig>),
}

/// One key that verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Its name in the header of tokens; `None` = tried for tokens with any name.
    pub kid: Option<String>,
    /// The only algorithm that it may be used with, and the key.
    pub material: KeyMaterial,
}

/// A key with its only algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// Ed25519, a public key in PEM.
    EdDsa(PathBuf),
    /// ECDSA over P-256, a public key in PEM.
    Es256(PathBuf),
    /// RSA PKCS#1 v1.5 with SHA-256, a public key of at least 2,048 bits in PEM.
    Rs256(PathBuf),
    /// HMAC with SHA-256, a secret in the config file.
    Hs256(Secret),
    /// HMAC with SHA-256, a secret in a file of its own.
    Hs256File(PathBuf),
}

/// A secret of at least 32 bytes. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Minimum length in bytes. An HMAC key shorter than the hash can be guessed offline from any token.
    pub const LEAST: usize = 32;

    /// Keeps a secret that is long enough.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() >= Self::LEAST).then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: "quip".to_owned(),
            leeway: Duration::from_secs(60),
            keys: KeySource::Development,
            jwks: Vec::new(),
        }
    }
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    cert: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
}

impl RawTls {
    /// Both files or none.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<TlsConfig, ConfigError> {
        match (self.cert, self.key) {
            (None, None) => Ok(TlsConfig::SelfSigned),
            (Some(cert), Some(key)) => {
                Ok(TlsConfig::Files { cert: source.resolve(cert.get_ref()), key: source.resolve(key.get_ref()) })
            }
            (Some(cert), None) => Err(source.complain(cert.span(), "cert without key", "name the private key too")),
            (None, Some(key)) => Err(source.complain(key.span(), "key without cert", "name the certificate too")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    Token,
    None,
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    mode: Option<Spanned<RawMode>>,
    issuer: Option<Spanned<String>>,
    audience: Option<Spanned<String>>,
    leeway: Option<Spanned<Period>>,
    keys: Option<Vec<Spanned<RawKey>>>,
    jwks: Option<Vec<Spanned<RawJwks>>>,
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    kid: Option<String>,
    alg: Spanned<RawAlgorithm>,
    file: Option<Spanned<String>>,
    secret: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum RawAlgorithm {
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "HS256")]
    Hs256,
}

impl RawAuth {
    /// `listen` is the final address, with the command line applied.
    pub(super) fn resolve(self, source: &Source<'_>, listen: SocketAddr) -> Result<AuthConfig, ConfigError> {
        match &self.mode {
            Some(mode) if *mode.get_ref() == RawMode::None => self.none(source, mode, listen),
            _ => self.token(source).map(AuthConfig::Token),
        }
    }

    fn none(
        &self,
        source: &Source<'_>,
        mode: &Spanned<RawMode>,
        listen: SocketAddr,
    ) -> Result<AuthConfig, ConfigError> {
        if !listen.ip().is_loopback() {
            let message = format!("mode \"none\" lets anyone be any user, and the relay would listen on {listen}");
            return Err(source.complain(mode.span(), message, "use \"token\", or listen on 127.0.0.1"));
        }
        let ignored = [
            self.issuer.as_ref().map(Spanned::span),
            self.audience.as_ref().map(Spanned::span),
            self.leeway.as_ref().map(Spanned::span),
            self.keys.as_ref().and_then(|keys| keys.first()).map(Spanned::span),
            self.jwks.as_ref().and_then(|sets| sets.first()).map(Spanned::span),
        ];
        match ignored.into_iter().flatten().next() {
            Some(at) => Err(source.complain(at, "mode \"none\" verifies nothing", "remove this, or mode")),
            None => Ok(AuthConfig::None),
        }
    }

    fn token(self, source: &Source<'_>) -> Result<TokenConfig, ConfigError> {
        let default = TokenConfig::default();
        let leeway = checked(source, "leeway", self.leeway.as_ref(), default.leeway, Duration::ZERO..=MOST_LEEWAY)?;
        let issuer = self.issuer.map(|issuer| not_empty(source, "issuer", issuer)).transpose()?;
        let audience = self.audience.map(|audience| not_empty(source, "audience", audience)).transpose()?;
        let jwks = jwks::resolve(source, self.jwks.unwrap_or_default())?;
        let keys = match self.keys.unwrap_or_default() {
            keys if keys.is_empty() && jwks.is_empty() => KeySource::Development,
            keys => KeySource::Listed(listed(source, keys)?),
        };
        Ok(TokenConfig { issuer, audience: audience.unwrap_or(default.audience), leeway, keys, jwks })
    }
}

fn not_empty(source: &Source<'_>, key: &str, text: Spanned<String>) -> Result<String, ConfigError> {
    if text.get_ref().is_empty() {
        return Err(source.complain(text.span(), format!("{key} is empty"), "leave it out, or name one"));
    }
    Ok(text.into_inner())
}

fn listed(source: &Source<'_>, keys: Vec<Spanned<RawKey>>) -> Result<Vec<KeyConfig>, ConfigError> {
    if let Some(extra) = keys.get(MOST_KEYS) {
        return Err(source.complain(extra.span(), format!("more than {MOST_KEYS} keys"), "remove retired ones"));
    }
    keys.into_iter().map(|key| one_key(source, key)).collect()
}

fn one_key(source: &Source<'_>, key: Spanned<RawKey>) -> Result<KeyConfig, ConfigError> {
    let whole = key.span();
    let RawKey { kid, alg, file, secret } = key.into_inner();
    let path = |file: Spanned<String>| source.resolve(file.get_ref());
    let material = match (*alg.get_ref(), file, secret) {
        (_, Some(_), Some(secret)) => {
            return Err(source.complain(secret.span(), "file and secret in one key", "keep one of them"));
        }
        (_, None, None) => {
            let help = "name a file with the public key, or for HS256 a file or secret";
            return Err(source.complain(whole, "a key without file or secret", help));
        }
        (RawAlgorithm::Hs256, None, Some(secret)) => KeyMaterial::Hs256(long_enough(source, &secret)?),
        (_, None, Some(secret)) => {
            return Err(source.complain(secret.span(), "secret is only for HS256", "name a file with the public key"));
        }
        (RawAlgorithm::Hs256, Some(file), None) => KeyMaterial::Hs256File(path(file)),
        (RawAlgorithm::EdDsa, Some(file), None) => KeyMaterial::EdDsa(path(file)),
        (RawAlgorithm::Es256, Some(file), None) => KeyMaterial::Es256(path(file)),
        (RawAlgorithm::Rs256, Some(file), None) => KeyMaterial::Rs256(path(file)),
    };
    Ok(KeyConfig { kid, material })
}

fn long_enough(source: &Source<'_>, secret: &Spanned<String>) -> Result<Secret, ConfigError> {
    Secret::new(secret.get_ref()).ok_or_else(|| {
        let help = format!("at least {} bytes; `openssl rand -base64 32` prints a good one", Secret::LEAST);
        source.complain(secret.span(), "the secret is too short", help)
    })
}

/// With more leeway an expired token would be accepted for too long.
const MOST_LEEWAY: Duration = Duration::from_secs(600);

/// A token without a `kid` is tried against every key of its algorithm.
const MOST_KEYS: usize = 16;
