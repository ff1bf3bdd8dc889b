//! Who a client is and what it may do, from the token in its `Hello`.
//!
//! A token is a JWT, signed by an issuer that the operator trusts: `sub` is the user, `exp` the end, and `join`, `post`,
//! `create`, `moderate` list the rooms for each permission. A claim that is absent grants nothing.
//! Direct conversations and groups need no grant: their members decide.
//!
//! Keys are fixed (`keys`), or belong to key sets that login servers rotate and a thread follows (`follow`).

use std::{fmt, path::Path, time::SystemTime};

use quip_protocol::UserId;

use crate::config::AuthConfig;

mod fetch;
mod follow;
mod grants;
mod jwks;
mod key;
mod keys;
mod mint;
mod token;

pub use fetch::FetchError;
pub use follow::{FollowError, JwksError, KeySetReport, look_at};
pub use grants::{Grants, Permission};
pub use jwks::DocumentError;
pub use keys::KeyError;
pub use mint::{MintError, MintKey, TokenRequest, mint};
pub use token::{AuthError, Identity};

use token::Verifier;

/// Verifies tokens. Cheap to clone. Never blocks: background threads keep the key sets up to date.
pub struct Authenticator(Mode);

enum Mode {
    Token(Box<Verifier>),
    None,
}

impl Authenticator {
    /// Loads the keys of the config; the data folder's own signing key is created if needed. Waits for the first fetch of each
    /// key set, at most its timeout.
    ///
    /// # Errors
    /// If a key cannot be read or used, or no key set could be fetched and there is no other key.
    pub fn open(config: &AuthConfig, data: &Path) -> Result<Self, KeyError> {
        Ok(Self(match config {
            AuthConfig::Token(token) => {
                let fixed = keys::load(&token.keys, data)?;
                let followed = follow::follow(&token.jwks, !fixed.is_empty())?;
                Mode::Token(Box::new(Verifier::new(token.clone(), fixed, followed)))
            }
            AuthConfig::None => Mode::None,
        }))
    }

    /// Verifies a token: one signature check.
    ///
    /// # Errors
    /// If the token is not valid at `now`.
    pub fn authenticate(&self, token: &str, now: SystemTime) -> Result<Identity, AuthError> {
        match &self.0 {
            Mode::Token(verifier) => verifier.verify(token, now),
            Mode::None => {
                let user = UserId::parse(token).map_err(|_| AuthError::BadSubject)?;
                Ok(Identity { user, expires_at: None, grants: Grants::everything() })
            }
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}
