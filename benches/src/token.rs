//! Tokens, signed with the key in a relay's data folder.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// Lifetime of tokens; longer than any scenario.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The key with which a relay without configured keys signs development tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<EncodingKey>);

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    join: [&'a str; 1],
    post: [&'a str; 1],
    create: [&'a str; 1],
}

impl SigningKey {
    /// Reads the key of a relay's data folder.
    pub(crate) fn read(data: &Path) -> Result<Self> {
        ensure!(
            data.is_dir(),
            "no data folder at {0}: start a relay with `quip-relay --data {0}`, or name its folder with --data",
            data.display()
        );
        let path = data.join("keys").join("signing.pem");
        let pem = match fs::read(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("no key at {}: the relay takes tokens from another issuer", path.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let key = EncodingKey::from_ed_pem(&pem);
        let key = key.with_context(|| format!("{} is not an Ed25519 key in PEM", path.display()))?;
        Ok(Self(Arc::new(key)))
    }

    /// A token that lets `user` do everything in any room.
    pub(crate) fn token(&self, user: &str) -> Result<String> {
        let any = ["*"];
        let exp = (SystemTime::UNIX_EPOCH.elapsed()? + LIFE).as_secs();
        let claims = Claims { sub: user, aud: "quip", exp, join: any, post: any, create: any };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.0)?)
    }
}
