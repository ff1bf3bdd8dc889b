//! Tokens, good and bad, against every kind of key.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use quip_protocol::RoomName;
use quip_relay::{
    auth::{AuthError, Authenticator, Grants, Identity, KeyError, MintError, MintKey, Permission, TokenRequest, mint},
    config::{AuthConfig, Config, KeyConfig, KeyMaterial, KeySource, Overrides, Secret, TokenConfig},
    identity::SigningKey,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 60;
const SECRET: &str = "a secret of more than thirty-two bytes";

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn claims() -> Value {
    json!({ "sub": "alice", "aud": "quip", "exp": NOW + 100 })
}

/// The claims with one changed; `null` takes it away.
fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(key);
    } else {
        claims[key] = value;
    }
    claims
}

fn hs256(kid: Option<&str>, secret: &str) -> KeyConfig {
    KeyConfig { kid: kid.map(str::to_owned), material: KeyMaterial::Hs256(Secret::new(secret).unwrap()) }
}

fn relay(config: TokenConfig) -> Authenticator {
    Authenticator::open(&AuthConfig::Token(config), Path::new("/nonexistent")).unwrap()
}

fn relay_with(keys: Vec<KeyConfig>) -> Authenticator {
    relay(TokenConfig { keys: KeySource::Listed(keys), ..TokenConfig::default() })
}

fn relay_with_secret() -> Authenticator {
    relay_with(vec![hs256(None, SECRET)])
}

fn signed(claims: &Value) -> String {
    signed_as(Header::new(Algorithm::HS256), claims, SECRET)
}

fn signed_as(header: Header, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn named(kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) }
}

#[track_caller]
fn refused(relay: &Authenticator, token: &str) -> AuthError {
    let error = relay.authenticate(token, now()).expect_err("refused");
    for part in token.split('.').filter(|part| part.len() > 4) {
        assert!(!error.to_string().contains(part), "the token is in the error: {error}");
    }
    error
}

#[test]
fn a_good_token_names_its_user() {
    let identity = relay_with_secret().authenticate(&signed(&claims()), now()).unwrap();
    assert_eq!((identity.user.as_str(), identity.grants), ("alice", Grants::default()));
    assert_eq!(identity.expires_at, Some(at(NOW + 100 + LEEWAY)));
}

#[test]
fn bad_claims_are_refused_for_what_they_are() {
    let relay = relay_with_secret();
    let audience = AuthError::WrongAudience { wanted: "quip".to_owned() };
    let no_exp = AuthError::Malformed("it has no `exp`");
    let unlike = AuthError::Malformed("its claims are not well-formed");
    for (key, value, expected) in [
        ("exp", json!(NOW - LEEWAY), AuthError::Expired),
        ("exp", json!(-1), AuthError::Expired),
        ("exp", Value::Null, no_exp),
        ("exp", json!("tomorrow"), unlike.clone()),
        ("nbf", json!(NOW + LEEWAY + 1), AuthError::NotYetValid),
        ("nbf", json!("now"), unlike),
        ("aud", json!("other"), audience.clone()),
        ("aud", json!(["other", "another"]), audience.clone()),
        ("aud", json!(7), audience.clone()),
        ("aud", Value::Null, audience),
        ("sub", Value::Null, AuthError::BadSubject),
        ("sub", json!(""), AuthError::BadSubject),
        ("sub", json!(7), AuthError::BadSubject),
        ("sub", json!("a\nb"), AuthError::BadSubject),
        ("sub", json!("a".repeat(65)), AuthError::BadSubject),
        ("join", json!("*"), AuthError::BadGrant { claim: "join" }),
        ("post", json!(["lobby"]), AuthError::BadGrant { claim: "post" }),
        ("create", json!([1]), AuthError::BadGrant { claim: "create" }),
        ("moderate", json!(vec!["*"; 65]), AuthError::BadGrant { claim: "moderate" }),
    ] {
        let claims = with(key, value);
        assert_eq!(refused(&relay, &signed(&claims)), expected, "{claims}");
    }
}

#[test]
fn claims_at_their_bounds_are_good() {
    let relay = relay_with_secret();
    for (key, value) in [
        ("exp", json!(NOW - LEEWAY + 1)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW + LEEWAY)),
        ("aud", json!(["other", "quip"])),
        ("sub", json!("ü".repeat(32))),
        ("post", json!(vec!["*"; 64])),
        ("iss", json!("whoever")),
        ("other", json!({ "deep": [1, 2] })),
    ] {
        let claims = with(key, value);
        relay.authenticate(&signed(&claims), now()).unwrap_or_else(|error| panic!("{claims}: {error}"));
    }
}

#[test]
fn the_issuer_is_enforced_when_the_config_names_one() {
    let keys = KeySource::Listed(vec![hs256(None, SECRET)]);
    let relay = relay(TokenConfig { issuer: Some("us".to_owned()), keys, ..TokenConfig::default() });
    let wrong = AuthError::WrongIssuer { wanted: "us".to_owned() };
    for value in [json!("them"), json!(7), Value::Null, json!(["them"])] {
        assert_eq!(refused(&relay, &signed(&with("iss", value))), wrong);
    }
    assert!(relay.authenticate(&signed(&with("iss", json!("us"))), now()).is_ok());
}

#[test]
fn what_is_not_a_jwt_is_malformed() {
    let relay = relay_with_secret();
    let good = signed(&claims());
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    let rest = good.split_once('.').unwrap().1;
    for token in [
        String::new(),
        "alice".to_owned(),
        "..".to_owned(),
        format!("{good}.x"),
        format!("!{good}"),
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode("{}")),
        signed_as(critical, &claims(), SECRET),
        format!("{good}{}", "A".repeat(8 * 1024)),
    ] {
        assert!(matches!(refused(&relay, &token), AuthError::Malformed(_)), "{token}");
    }
}

#[test]
fn a_changed_token_is_refused_wherever_it_was_changed() {
    let relay = relay_with_secret();
    let good = signed(&claims());
    assert!(relay.authenticate(&good, now()).is_ok());
    for position in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        assert!(relay.authenticate(&token, now()).is_err(), "changed at {position}: {token}");
    }
    let (head, signature) = good.rsplit_once('.').unwrap();
    let header = head.split_once('.').unwrap().0;
    let mallory = URL_SAFE_NO_PAD.encode(with("sub", json!("mallory")).to_string());
    assert_eq!(refused(&relay, &format!("{header}.{mallory}.{signature}")), AuthError::BadSignature);
    assert_eq!(refused(&relay, &format!("{head}.")), AuthError::BadSignature);
    let other = signed_as(Header::new(Algorithm::HS256), &claims(), "another secret of thirty-two bytes or so");
    assert_eq!(refused(&relay, &other), AuthError::BadSignature);
}

#[test]
fn the_key_is_chosen_by_its_name() {
    let old = "the old secret, thirty-two bytes or more";
    let relay = relay_with(vec![hs256(Some("old"), old), hs256(Some("new"), SECRET)]);
    let token = |header, secret| signed_as(header, &claims(), secret);
    assert!(relay.authenticate(&token(named("old"), old), now()).is_ok());
    assert!(relay.authenticate(&token(named("new"), SECRET), now()).is_ok());
    assert_eq!(refused(&relay, &token(named("new"), old)), AuthError::BadSignature);
    assert_eq!(refused(&relay, &token(named("third"), old)), AuthError::UnknownKey);
    let unnamed = Header::new(Algorithm::HS256);
    assert!(relay.authenticate(&token(unnamed.clone(), old), now()).is_ok(), "a token without a name tries them all");
    assert!(relay.authenticate(&token(unnamed, SECRET), now()).is_ok());
    let any_name = relay_with(vec![hs256(None, SECRET)]);
    assert!(any_name.authenticate(&token(named("whatever"), SECRET), now()).is_ok(), "a key without a name takes all");
}

/// A key pair of each algorithm: the config's public key file, and what signs.
struct Pair {
    algorithm: Algorithm,
    config: KeyConfig,
    public_pem: String,
    private: EncodingKey,
}

fn pairs(folder: &TempDir) -> Vec<Pair> {
    type FromPem = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
    type Material = fn(std::path::PathBuf) -> KeyMaterial;
    let kinds: [(Algorithm, _, FromPem, Material); 3] = [
        (Algorithm::EdDSA, &PKCS_ED25519, EncodingKey::from_ed_pem, KeyMaterial::EdDsa),
        (Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem, KeyMaterial::Es256),
        (Algorithm::RS256, &PKCS_RSA_SHA256, EncodingKey::from_rsa_pem, KeyMaterial::Rs256),
    ];
    let pair = |(algorithm, kind, from_pem, material): (Algorithm, _, FromPem, Material)| {
        let pair = KeyPair::generate_for(kind).unwrap();
        let path = folder.path().join(format!("{algorithm:?}.pem"));
        fs::write(&path, pair.public_key_pem()).unwrap();
        let private = from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let config = KeyConfig { kid: None, material: material(path) };
        Pair { algorithm, config, public_pem: pair.public_key_pem(), private }
    };
    kinds.into_iter().map(pair).collect()
}

#[test]
fn every_algorithm_verifies_its_own_and_refuses_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs(&folder);
    for of_relay in &pairs {
        let relay = relay_with(vec![of_relay.config.clone()]);
        for of_token in &pairs {
            let token = jsonwebtoken::encode(&Header::new(of_token.algorithm), &claims(), &of_token.private).unwrap();
            if of_token.algorithm == of_relay.algorithm {
                assert_eq!(relay.authenticate(&token, now()).unwrap().user.as_str(), "alice");
            } else {
                let wanted = format!("{:?}", of_relay.algorithm);
                assert_eq!(refused(&relay, &token), AuthError::WrongAlgorithm { wanted });
            }
        }
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(claims().to_string())
        );
        assert!(matches!(refused(&relay, &unsigned), AuthError::WrongAlgorithm { .. }));
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for pair in pairs(&folder) {
        // Also beside a real HS256 key, where the algorithm by itself is allowed.
        for keys in [vec![pair.config.clone()], vec![pair.config.clone(), hs256(None, SECRET)]] {
            let relay = relay_with(keys);
            for secret in [pair.public_pem.as_str(), pair.public_pem.trim_end()] {
                let token = signed_as(Header::new(Algorithm::HS256), &claims(), secret);
                let error = refused(&relay, &token);
                let right = matches!(error, AuthError::WrongAlgorithm { .. } | AuthError::BadSignature);
                assert!(right, "{:?}: {error}", pair.algorithm);
            }
        }
    }
}

/// A key that can be broken.
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCx4VTzCNbXHPHeDBKkY1SXn5Ew
8USoTTfKKgN7eWzQolKZCZ/55tMElbtxuiy3aZq6tK3plwaUnWtxMCBkkWXFd6uC
qHFvtNNUegZz1ap6M5UX4QkC0ba6gx6Ma6oTy2vTLsk6rV23jtIWeU3b7Uq+lEge
EFx+Sf7nWUxIyJezSwIDAQAB
-----END PUBLIC KEY-----
";

#[test]
fn a_key_file_of_another_kind_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let kinds: [fn(std::path::PathBuf) -> KeyMaterial; 3] =
        [KeyMaterial::EdDsa, KeyMaterial::Es256, KeyMaterial::Rs256];
    let pem = |kind| KeyPair::generate_for(kind).unwrap();
    let (ed, p256, p384) = (pem(&PKCS_ED25519), pem(&PKCS_ECDSA_P256_SHA256), pem(&PKCS_ECDSA_P384_SHA384));
    let rsa = pem(&PKCS_RSA_SHA256);
    for (contents, fits) in [
        ("nonsense".to_owned(), [false; 3]),
        (ed.public_key_pem(), [true, false, false]),
        (p256.public_key_pem(), [false, true, false]),
        (p384.public_key_pem(), [false; 3]),
        (rsa.public_key_pem(), [false, false, true]),
        (ed.serialize_pem(), [false; 3]),
        (rsa.serialize_pem(), [false; 3]),
        (p256.serialize_pem(), [false; 3]),
        (RSA_1024.to_owned(), [false; 3]),
    ] {
        fs::write(&path, &contents).unwrap();
        for (material, fits) in kinds.iter().zip(fits) {
            let key = KeyConfig { kid: None, material: material(path.clone()) };
            let keys = KeySource::Listed(vec![key]);
            let opened = Authenticator::open(&AuthConfig::Token(TokenConfig { keys, ..TokenConfig::default() }), &path);
            assert_eq!(opened.is_ok(), fits, "{contents}");
        }
    }
}

#[test]
fn key_errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let open = |material| {
        let keys = KeySource::Listed(vec![KeyConfig { kid: None, material }]);
        let config = AuthConfig::Token(TokenConfig { keys, ..TokenConfig::default() });
        Authenticator::open(&config, folder.path()).expect_err("refused").to_string()
    };
    let shown = path.display();
    assert_eq!(
        open(KeyMaterial::Es256(path.clone())),
        format!("cannot read the key {shown}: No such file or directory (os error 2)")
    );
    fs::write(&path, "short\n").unwrap();
    assert_eq!(
        open(KeyMaterial::Hs256File(path.clone())),
        format!("the secret in {shown} has less than 32 bytes; `openssl rand -base64 32` prints a good one")
    );
    assert_eq!(
        open(KeyMaterial::Es256(path.clone())),
        format!(
            "{shown} is not an ECDSA P-256 public key in PEM (-----BEGIN PUBLIC KEY-----); fix the file or the key's alg"
        )
    );
}

#[test]
fn a_secret_in_a_file_loses_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, format!("{SECRET}\r\n")).unwrap();
    let relay = relay_with(vec![KeyConfig { kid: None, material: KeyMaterial::Hs256File(path) }]);
    assert!(relay.authenticate(&signed(&claims()), now()).is_ok());
}

#[test]
fn without_tokens_the_text_is_the_user() {
    let relay = Authenticator::open(&AuthConfig::None, Path::new("/nonexistent")).unwrap();
    let Identity { user, expires_at, grants } = relay.authenticate("bob", now()).unwrap();
    assert_eq!((user.as_str(), expires_at, grants), ("bob", None, Grants::everything()));
    assert_eq!(relay.authenticate("", now()), Err(AuthError::BadSubject));
}

#[test]
fn minted_tokens_are_good_for_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Authenticator::open(&AuthConfig::Token(TokenConfig::default()), folder.path()).unwrap();
    let key = MintKey::own(&SigningKey::read_or_create(folder.path()).unwrap()).unwrap();
    let [rooms, one] = [vec!["lobby:*".to_owned()], vec!["lobby:main".to_owned()]];
    let request = TokenRequest { join: &rooms, post: &one, ..TokenRequest::new("alice", Duration::from_secs(90)) };
    let identity = relay.authenticate(&mint(&key, &request, now()).unwrap(), now()).unwrap();
    assert_eq!(identity.user.as_str(), "alice");
    assert_eq!(identity.expires_at, Some(at(NOW + 90 + LEEWAY)));
    let [main, other] = ["lobby:main", "lobby:other"].map(|name| RoomName::parse(name).unwrap());
    let granted =
        Permission::ALL.map(|permission| [&main, &other].map(|room| identity.grants.allows(permission, room)));
    assert_eq!(granted, [[true, true], [true, false], [false, false], [false, false]]);
}

#[test]
fn a_token_of_another_data_folder_is_refused() {
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let relay = Authenticator::open(&AuthConfig::Token(TokenConfig::default()), ours.path()).unwrap();
    let key = MintKey::accepted_by(&KeySource::Development, theirs.path()).unwrap();
    let token = mint(&key, &TokenRequest::new("alice", Duration::from_secs(90)), now()).unwrap();
    assert_eq!(refused(&relay, &token), AuthError::UnknownKey);
}

#[test]
fn a_config_with_a_secret_mints_what_it_accepts() {
    let text = format!(
        "[auth]\nissuer = \"us\"\naudience = \"game\"\n[[auth.keys]]\nkid = \"k\"\nalg = \"HS256\"\nsecret = \"{SECRET}\"\n"
    );
    let config = Config::parse(Path::new("quip.toml"), &text, Overrides::default()).unwrap();
    let AuthConfig::Token(token) = &config.auth else { panic!("tokens") };
    let key = MintKey::accepted_by(&token.keys, &config.data).unwrap();
    let request = TokenRequest {
        audience: &token.audience,
        issuer: token.issuer.as_deref(),
        ..TokenRequest::new("alice", Duration::from_secs(90))
    };
    let minted = mint(&key, &request, now()).unwrap();
    let relay = Authenticator::open(&config.auth, &config.data).unwrap();
    assert_eq!(relay.authenticate(&minted, now()).unwrap().user.as_str(), "alice");
}

#[test]
fn what_the_relay_would_refuse_is_not_minted() {
    let folder = tempfile::tempdir().unwrap();
    let key = MintKey::accepted_by(&KeySource::Development, folder.path()).unwrap();
    let good = TokenRequest::new("alice", Duration::from_secs(90));
    let bad_patterns = ["lobby".to_owned()];
    let error = |request| mint(&key, &request, now()).expect_err("refused");
    assert!(matches!(error(TokenRequest { user: "", ..good.clone() }), MintError::User(_)));
    assert!(matches!(error(TokenRequest { ttl: Duration::from_millis(999), ..good.clone() }), MintError::Ttl));
    assert!(matches!(error(TokenRequest { ttl: Duration::MAX, ..good.clone() }), MintError::Ttl));
    let pattern = error(TokenRequest { join: &bad_patterns, ..good });
    assert_eq!(pattern.to_string(), "\"lobby\" is not a pattern; use \"*\", \"lobby:*\" or \"lobby:main\"");
    let public = KeyConfig { kid: None, material: KeyMaterial::EdDsa("x".into()) };
    let error = MintKey::accepted_by(&KeySource::Listed(vec![public]), folder.path()).expect_err("public keys only");
    assert!(matches!(error, MintError::OnlyPublicKeys), "{error}");
    let missing = KeyConfig { kid: None, material: KeyMaterial::Hs256File("/nonexistent".into()) };
    let error = MintKey::accepted_by(&KeySource::Listed(vec![missing]), folder.path()).expect_err("no file");
    assert!(matches!(error, MintError::Key(KeyError::Read { .. })), "{error}");
}
