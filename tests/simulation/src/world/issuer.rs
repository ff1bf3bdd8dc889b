//! Who makes the tokens of a run's users.

use std::time::{Duration, SystemTime};

use quip_protocol::UserId;
use quip_relay::{
    auth::{MintKey, TokenRequest, mint},
    config::{KeyConfig, KeyMaterial, KeySource, Secret},
};

/// An issuer of tokens that expire soon.
pub(super) struct Issuer(MintKey);

impl Issuer {
    /// An issuer with the one key.
    pub(super) fn new() -> Self {
        let material = KeyMaterial::Hs256(Secret::new(SECRET).expect("it is long enough"));
        let keys = KeySource::Listed(vec![KeyConfig { kid: None, material }]);
        Self(MintKey::accepted_by(&keys, "nowhere".as_ref()).expect("a secret signs"))
    }

    /// What a relay's configuration says of it.
    pub(super) fn config(&self) -> String {
        format!("[auth]\nleeway = \"0s\"\n[[auth.keys]]\nalg = \"HS256\"\nsecret = \"{SECRET}\"\n")
    }

    /// A token for a user, and when it expires. Both are times since the start of the run.
    pub(super) fn issue(&self, user: &UserId, now: Duration) -> (String, Duration) {
        let every = ["*".to_owned()];
        let request = TokenRequest {
            join: &every,
            post: &every,
            create: &every,
            moderate: &every,
            ..TokenRequest::new(user.as_str(), LIFE)
        };
        let token = mint(&self.0, &request, SystemTime::UNIX_EPOCH + BEGIN + now).expect("a good request");
        (token, now + LIFE)
    }

    /// How long a token is good.
    pub(super) fn life(&self) -> Duration {
        LIFE
    }
}

/// The wall clock at the start of a run, since 1970.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_700_000_000);
const LIFE: Duration = Duration::from_secs(10);
const SECRET: &str = "known to the relay and to the issuer";
