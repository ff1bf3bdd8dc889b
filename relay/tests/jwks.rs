//! Tokens against key sets that change, from files.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use quip_relay::{
    auth::{AuthError, Authenticator, KeyError, look_at},
    config::{AuthConfig, JwksConfig, JwksPlace, KeyConfig, KeyMaterial, KeySource, Secret, TokenConfig},
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};

const SECRET: &str = "a secret of more than thirty-two bytes";

/// A key that a login server signs with.
struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    pair: KeyPair,
}

impl Signer {
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        type FromPem = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
        let (kind, from_pem): (&'static SignatureAlgorithm, FromPem) = match algorithm {
            Algorithm::EdDSA => (&PKCS_ED25519, EncodingKey::from_ed_pem),
            Algorithm::ES256 => (&PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem),
            _ => (&PKCS_RSA_SHA256, EncodingKey::from_rsa_pem),
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let private = from_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { kid, algorithm, private, pair }
    }

    fn public(&self) -> Value {
        let mut key = match self.algorithm {
            Algorithm::EdDSA => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.pair.public_key_raw()) })
            }
            algorithm => serde_json::to_value(Jwk::from_encoding_key(&self.private, algorithm).unwrap()).unwrap(),
        };
        key["kid"] = json!(self.kid);
        key
    }

    fn token(&self) -> String {
        self.token_named(Some(self.kid))
    }

    fn token_named(&self, kid: Option<&str>) -> String {
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, &json!({ "sub": "alice", "aud": "quip", "exp": exp }), &self.private).unwrap()
    }
}

fn publish(path: &Path, signers: &[&Signer]) {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    let beside = path.with_extension("new");
    fs::write(&beside, json!({ "keys": keys }).to_string()).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// A set that is not read again for an hour, unless a token asks for it.
fn set(path: PathBuf, refetch_after: Duration) -> JwksConfig {
    let hour = Duration::from_secs(3600);
    JwksConfig { refresh: hour, refetch_after, ..JwksConfig::new(JwksPlace::File(path)) }
}

fn config(sets: Vec<JwksConfig>, keys: Vec<KeyConfig>) -> AuthConfig {
    AuthConfig::Token(TokenConfig { keys: KeySource::Listed(keys), jwks: sets, ..TokenConfig::default() })
}

fn relay(sets: Vec<JwksConfig>, keys: Vec<KeyConfig>) -> Authenticator {
    Authenticator::open(&config(sets, keys), Path::new("/nonexistent")).unwrap()
}

fn secret() -> KeyConfig {
    KeyConfig { kid: None, material: KeyMaterial::Hs256(Secret::new(SECRET).unwrap()) }
}

fn refused(relay: &Authenticator, token: &str) -> AuthError {
    relay.authenticate(token, SystemTime::now()).expect_err("refused")
}

/// What comes of a token once it is not "try again" any more.
fn in_the_end(relay: &Authenticator, token: &str) -> Result<String, AuthError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match relay.authenticate(token, SystemTime::now()) {
            Err(AuthError::KeyPending) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            other => return other.map(|identity| identity.user.as_str().to_owned()),
        }
    }
}

#[test]
fn a_token_is_checked_with_the_key_of_its_name_and_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let algorithms = [("ed", Algorithm::EdDSA), ("ec", Algorithm::ES256), ("rsa", Algorithm::RS256)];
    let signers = algorithms.map(|(kid, algorithm)| Signer::new(kid, algorithm));
    publish(&path, &signers.each_ref());
    let relay = relay(vec![set(path, Duration::from_secs(3600))], Vec::new());
    for signer in &signers {
        assert_eq!(in_the_end(&relay, &signer.token()).as_deref(), Ok("alice"), "{:?}", signer.algorithm);
        assert_eq!(in_the_end(&relay, &signer.token_named(None)).as_deref(), Ok("alice"), "without a name");
        for other in signers.iter().filter(|other| other.kid != signer.kid) {
            let error = refused(&relay, &signer.token_named(Some(other.kid)));
            assert_eq!(error, AuthError::WrongAlgorithm { wanted: format!("{:?}", other.algorithm) });
        }
        let stranger = Signer::new(signer.kid, signer.algorithm);
        assert_eq!(refused(&relay, &stranger.token()), AuthError::BadSignature);
        assert_eq!(refused(&relay, &stranger.token_named(None)), AuthError::BadSignature);
    }
}

#[test]
fn a_new_key_is_learnt_when_a_token_names_it_and_a_retired_one_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (old, new) = (Signer::new("old", Algorithm::EdDSA), Signer::new("new", Algorithm::EdDSA));
    publish(&path, &[&old]);
    let relay = relay(vec![set(path.clone(), Duration::from_millis(100))], Vec::new());
    assert_eq!(in_the_end(&relay, &old.token()).as_deref(), Ok("alice"));
    publish(&path, &[&old, &new]);
    assert_eq!(refused(&relay, &new.token()), AuthError::KeyPending, "not refused for good");
    assert_eq!(in_the_end(&relay, &new.token()).as_deref(), Ok("alice"));
    assert_eq!(in_the_end(&relay, &old.token()).as_deref(), Ok("alice"));
    publish(&path, &[&new]);
    let unknown = Signer::new("unknown", Algorithm::EdDSA);
    assert_eq!(in_the_end(&relay, &unknown.token()), Err(AuthError::UnknownKey), "looked for, and not there");
    assert_eq!(in_the_end(&relay, &old.token()), Err(AuthError::UnknownKey));
    assert_eq!(in_the_end(&relay, &new.token()).as_deref(), Ok("alice"));
}

#[test]
fn a_set_that_breaks_keeps_its_last_good_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (old, new) = (Signer::new("old", Algorithm::EdDSA), Signer::new("new", Algorithm::EdDSA));
    publish(&path, &[&old]);
    let good = fs::read_to_string(&path).unwrap();
    let relay = relay(vec![set(path.clone(), Duration::from_millis(100))], Vec::new());
    let with_secret = good.replace("[", r#"[{"kty":"oct","k":"c2VjcmV0"},"#);
    for broken in ["", "{\"keys\":[]}", &good[..good.len() - 9], &with_secret, &"x".repeat(65 << 10)] {
        fs::write(&path, broken).unwrap();
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(250) {
            assert_eq!(refused(&relay, &new.token()), AuthError::KeyPending, "nobody knows what the set says");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(in_the_end(&relay, &old.token()).as_deref(), Ok("alice"));
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&relay, &new.token()), AuthError::KeyPending);
    publish(&path, &[&new]);
    assert_eq!(in_the_end(&relay, &new.token()).as_deref(), Ok("alice"));
}

#[test]
fn only_keys_that_a_set_could_have_are_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let known = Signer::new("known", Algorithm::EdDSA);
    publish(&path, &[&known]);
    let relay = relay(vec![set(path, Duration::from_secs(3600))], vec![secret()]);
    let by_secret = |kid: Option<&str>, secret: &str| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        let claims = json!({ "sub": "bob", "aud": "quip", "exp": 4_000_000_000_u64 });
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    assert_eq!(in_the_end(&relay, &by_secret(Some("any"), SECRET)).as_deref(), Ok("bob"));
    assert_eq!(refused(&relay, &by_secret(Some("any"), "another secret of thirty-two bytes")), AuthError::BadSignature);
    let public = known.public().to_string();
    assert_eq!(
        refused(&relay, &by_secret(Some("known"), &public)),
        AuthError::BadSignature,
        "a public key is never a secret"
    );
    let nameless = Signer::new("nameless", Algorithm::EdDSA);
    assert_eq!(refused(&relay, &nameless.token_named(None)), AuthError::BadSignature, "no name, nothing to look for");
    assert_eq!(
        refused(&relay, &nameless.token_named(Some(&"x".repeat(257)))),
        AuthError::WrongAlgorithm { wanted: "HS256".into() }
    );
    // The secret has no name and takes tokens of every name, but this one is not by it.
    assert_eq!(refused(&relay, &nameless.token()), AuthError::KeyPending);
}

#[test]
fn a_relay_without_any_key_does_not_start_and_one_with_another_key_does() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, there) = (folder.path().join("missing.json"), folder.path().join("there.json"));
    let sets = |paths: &[&PathBuf]| paths.iter().map(|path| set((*path).clone(), Duration::from_millis(100))).collect();
    let error =
        Authenticator::open(&config(sets(&[&missing, &missing]), Vec::new()), folder.path()).expect_err("no key");
    assert!(matches!(error, KeyError::Sets(_)));
    let shown = missing.display();
    let said = "No such file or directory (os error 2)";
    assert_eq!(error.to_string(), format!("no keys from {shown}: cannot read {shown}: {said}"));

    let (early, late) = (Signer::new("early", Algorithm::EdDSA), Signer::new("late", Algorithm::EdDSA));
    publish(&there, &[&early]);
    for relay in [relay(sets(&[&missing, &there]), Vec::new()), relay(sets(&[&missing]), vec![secret()])] {
        assert_eq!(refused(&relay, &late.token()), AuthError::KeyPending);
    }
    let relay = relay(sets(&[&missing, &there]), Vec::new());
    assert_eq!(in_the_end(&relay, &early.token()).as_deref(), Ok("alice"));
    assert_eq!(refused(&relay, &late.token_named(None)), AuthError::KeyPending, "a set was never read");
    publish(&missing, &[&late]);
    assert_eq!(in_the_end(&relay, &late.token()).as_deref(), Ok("alice"), "it goes on trying");
    assert_eq!(in_the_end(&relay, &early.token()).as_deref(), Ok("alice"));
}

#[test]
fn looking_at_a_set_says_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    publish(&path, &[&Signer::new("a\n", Algorithm::EdDSA), &Signer::new("b", Algorithm::ES256)]);
    let document = fs::read_to_string(&path).unwrap().replace("[", "[{\"kty\":\"other\"},");
    fs::write(&path, &document).unwrap();
    let hour = Duration::from_secs(3600);
    let report = look_at(&set(path.clone(), hour)).unwrap();
    assert_eq!((report.keys.join(", "), report.skipped), ("EdDSA \"a\\n\", ES256 \"b\"".to_owned(), 1));
    let limits = JwksConfig { document_bytes: document.len(), keys: 3, ..set(path, hour) };
    assert!(look_at(&limits).is_ok());
    let error = look_at(&JwksConfig { document_bytes: document.len() - 1, ..limits.clone() }).expect_err("too long");
    assert!(error.to_string().ends_with("raise `document_bytes` if that is right"), "{error}");
    let error = look_at(&JwksConfig { keys: 2, ..limits }).expect_err("too many");
    assert_eq!(error.to_string(), "it has 3 keys and at most 2 are allowed; raise `keys` if that is right");
}
