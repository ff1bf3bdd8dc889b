//! Verifying a token: key, signature, audience, issuer, times and user.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use quip_protocol::{UserId, limit};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use thiserror::Error;

use super::{
    follow::{Followed, Known},
    grants::{Grants, Pattern, Permission},
    key::VerifyingKey,
};
use crate::config::TokenConfig;

/// Who a client is, until when, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// When the relay stops accepting the token: its `exp` plus the configured leeway. `None` = never.
    pub expires_at: Option<SystemTime>,
    /// What it grants in rooms.
    pub grants: Grants,
}

/// Why a token is not valid. The text says what to do and contains nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// It cannot be read.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// It has expired.
    #[error("token expired; get a new one")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet; check the clocks of its issuer and of this relay")]
    NotYetValid,
    /// It is for another audience.
    #[error("the token is not for this relay: its `aud` must be \"{wanted}\"")]
    WrongAudience {
        /// The audience in the config.
        wanted: String,
    },
    /// It is from another issuer.
    #[error("the token is from another issuer: its `iss` must be \"{wanted}\"")]
    WrongIssuer {
        /// The issuer in the config.
        wanted: String,
    },
    /// No key of its name is for its algorithm.
    #[error("the token's `alg` is not the one of the relay's key; sign it with {wanted}")]
    WrongAlgorithm {
        /// The algorithms in the config.
        wanted: String,
    },
    /// No key has its name.
    #[error(
        "the token's `kid` names a key that this relay does not have; sign it with a key of its config, or for a test \
         use `quip-relay token` with its data folder"
    )]
    UnknownKey,
    /// No key has its name yet; key sets are being read.
    #[error("the token's `kid` names a key that this relay does not know yet; it is fetching its key set; try again")]
    KeyPending,
    /// It was changed, or another key signed it.
    #[error("the token's signature is not valid: it was changed, or signed with another key")]
    BadSignature,
    /// It names no user.
    #[error("the token's `sub` is not a user id: 1 to 64 bytes without control characters")]
    BadSubject,
    /// A grant is not well-formed.
    #[error("the token's `{claim}` must be a list of at most 64 patterns such as \"*\", \"lobby:*\" or \"lobby:main\"")]
    BadGrant {
        /// The claim.
        claim: &'static str,
    },
}

/// Verifies tokens against fixed keys and key sets.
pub(super) struct Verifier {
    config: TokenConfig,
    fixed: Vec<VerifyingKey>,
    followed: Vec<Followed>,
}

/// The part of the header that selects the key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// The claims that the relay uses.
#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    join: Option<Value>,
    post: Option<Value>,
    create: Option<Value>,
    moderate: Option<Value>,
}

impl Verifier {
    pub(super) fn new(config: TokenConfig, fixed: Vec<VerifyingKey>, followed: Vec<Followed>) -> Self {
        Self { config, fixed, followed }
    }

    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, AuthError> {
        if token.len() > limit::TOKEN {
            return Err(AuthError::Malformed("more than 8 KiB"));
        }
        let claims = self.signed_claims(token)?;
        let leeway = self.config.leeway;
        let expires_at = time(claims.exp.ok_or(AuthError::Malformed("it has no `exp`"))?) + leeway;
        if now >= expires_at {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now + leeway < time(nbf)) {
            return Err(AuthError::NotYetValid);
        }
        let user = claims.sub.as_ref().and_then(Value::as_str).and_then(|sub| UserId::parse(sub).ok());
        let user = user.ok_or(AuthError::BadSubject)?;
        Ok(Identity { user, expires_at: Some(expires_at), grants: claims.grants()? })
    }

    /// The claims, after checking signature, audience and issuer.
    fn signed_claims(&self, token: &str) -> Result<Claims, AuthError> {
        let header = header(token)?;
        let sets: Vec<_> = self.followed.iter().map(Followed::known).collect();
        let keys: Vec<_> = self.fixed.iter().chain(sets.iter().flat_map(|set| &set.keys)).collect();
        self.claims_by(&keys, &header, token).map_err(|refused| {
            let newer = could_be_by_newer(&refused, &header, &keys) && self.may_turn_up(&sets, header.kid.as_deref());
            if newer { AuthError::KeyPending } else { refused }
        })
    }

    fn claims_by(&self, keys: &[&VerifyingKey], header: &Header, token: &str) -> Result<Claims, AuthError> {
        let mut refused = AuthError::BadSignature;
        for key in candidates(keys, header)? {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refused = self.refusal(error.kind()),
            }
            // Another key may have signed it. Any other error would be the same with every key.
            if refused != AuthError::BadSignature {
                break;
            }
        }
        Err(refused)
    }

    /// True if a key of this name may be in a key set after the next fetch, which is requested here.
    fn may_turn_up(&self, sets: &[Arc<Known>], kid: Option<&str>) -> bool {
        if let Some(kid) = kid {
            self.followed.iter().for_each(|set| set.look_for(kid));
        }
        sets.iter().any(|set| set.may_lack(kid))
    }

    /// The checks of audience and issuer. [`Self::verify`] checks the times itself, against its `now`.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["aud"]);
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            // Without this, a token without an issuer would pass.
            validation.set_required_spec_claims(&["aud", "iss"]);
        }
        validation
    }

    fn refusal(&self, kind: &ErrorKind) -> AuthError {
        let issuer = || AuthError::WrongIssuer { wanted: self.config.issuer.clone().unwrap_or_default() };
        let audience = || AuthError::WrongAudience { wanted: self.config.audience.clone() };
        match kind {
            ErrorKind::InvalidSignature => AuthError::BadSignature,
            ErrorKind::InvalidAudience => audience(),
            ErrorKind::InvalidIssuer => issuer(),
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => issuer(),
            ErrorKind::MissingRequiredClaim(_) => audience(),
            ErrorKind::Base64(_) => AuthError::Malformed("its parts are not base64url"),
            _ => AuthError::Malformed("its claims are not well-formed"),
        }
    }
}

impl Claims {
    fn grants(&self) -> Result<Grants, AuthError> {
        let mut grants = Grants::default();
        for permission in Permission::ALL {
            let said = match permission {
                Permission::Join => &self.join,
                Permission::Post => &self.post,
                Permission::Create => &self.create,
                Permission::Moderate => &self.moderate,
            };
            if let Some(said) = said {
                let patterns = patterns(said).ok_or(AuthError::BadGrant { claim: permission.claim() })?;
                grants.set(permission, patterns);
            }
        }
        Ok(grants)
    }
}

fn patterns(claim: &Value) -> Option<Vec<Pattern>> {
    let texts = claim.as_array().filter(|texts| texts.len() <= Pattern::MOST)?;
    texts.iter().map(|text| Pattern::parse(text.as_str()?)).collect()
}

/// The keys that a token may be signed with: those of its name and algorithm. The header only chooses among the keys of the
/// config; it never decides the algorithm of a key.
fn candidates<'a>(keys: &[&'a VerifyingKey], header: &Header) -> Result<Vec<&'a VerifyingKey>, AuthError> {
    let named = |key: &&&VerifyingKey| match (&key.kid, &header.kid) {
        (Some(of_key), Some(of_token)) => of_key == of_token,
        _ => true,
    };
    let of_name: Vec<_> = keys.iter().filter(named).copied().collect();
    if of_name.is_empty() {
        return Err(AuthError::UnknownKey);
    }
    let fits: Vec<_> = of_name.iter().copied().filter(|key| name(key.algorithm) == header.alg).collect();
    if fits.is_empty() {
        let mut wanted: Vec<_> = of_name.iter().map(|key| name(key.algorithm)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        return Err(AuthError::WrongAlgorithm { wanted: wanted.join(" or ") });
    }
    Ok(fits)
}

/// True if a token may be valid although no known key fits: its `kid` is unknown, and its algorithm is one that key sets can
/// have.
fn could_be_by_newer(refused: &AuthError, header: &Header, keys: &[&VerifyingKey]) -> bool {
    let for_its_key =
        matches!(refused, AuthError::UnknownKey | AuthError::WrongAlgorithm { .. } | AuthError::BadSignature);
    let by_set = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256].map(name).contains(&header.alg.as_str());
    for_its_key && by_set && !keys.iter().any(|key| key.kid.is_some() && key.kid == header.kid)
}

fn header(token: &str) -> Result<Header, AuthError> {
    if token.split('.').count() != 3 {
        return Err(AuthError::Malformed("it is not a JWT (three parts separated by dots)"));
    }
    let first = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(first).map_err(|_| AuthError::Malformed("its parts are not base64url"))?;
    let header: Header =
        serde_json::from_slice(&json).map_err(|_| AuthError::Malformed("its header is not that of a JWT"))?;
    // RFC 7515: a token with critical extensions that are not understood must be refused.
    if header.crit.is_some() { Err(AuthError::Malformed("its header has `crit`")) } else { Ok(header) }
}

/// A NumericDate as a time, limited to what every platform's clock can hold.
fn time(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((seconds as u64).min(END_OF_9999))
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "EdDSA",
        Algorithm::ES256 => "ES256",
        Algorithm::RS256 => "RS256",
        Algorithm::HS256 => "HS256",
        _ => "an algorithm that no key can have",
    }
}

const END_OF_9999: u64 = 253_402_300_799;
