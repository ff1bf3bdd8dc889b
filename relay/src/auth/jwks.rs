//! Parsing a JSON Web Key Set (RFC 7517). Pure.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::key::{VerifyingKey, is_sound};

/// Why a document is not an acceptable key set. None of its keys is used then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not JSON, or JSON of another shape.
    #[error("it is not a JSON Web Key Set (an object with the list `keys`)")]
    Malformed,
    /// More keys than allowed.
    #[error("it has {count} keys and at most {most} are allowed; raise `keys` if that is right")]
    TooManyKeys {
        /// How many there are.
        count: usize,
        /// The limit in the config.
        most: usize,
    },
    /// A secret in a public document.
    #[error(
        "it holds a symmetric key (kty \"oct\"): anyone who can read the document could sign tokens; remove that key"
    )]
    Symmetric,
    /// No key that could verify a token.
    #[error("none of its {count} keys can verify tokens: Ed25519, P-256 or RSA of 2,048 to 8,192 bits is needed")]
    NoUsableKey {
        /// How many there are.
        count: usize,
    },
}

/// The keys of a document that verify tokens; never empty.
pub(super) struct Document {
    pub(super) keys: Vec<VerifyingKey>,
    /// Keys that do not verify tokens.
    pub(super) skipped: usize,
}

/// The document. Each key is parsed by itself, so that one of an unknown type does not invalidate the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Parses a document of at most `most` keys.
pub(super) fn parse(document: &[u8], most: usize) -> Result<Document, DocumentError> {
    let KeySet { keys: said } = serde_json::from_slice(document).map_err(|_| DocumentError::Malformed)?;
    let count = said.len();
    if count > most {
        return Err(DocumentError::TooManyKeys { count, most });
    }
    if said.iter().any(|key| key.get("kty").is_some_and(|kty| kty == "oct")) {
        return Err(DocumentError::Symmetric);
    }
    let mut keys = Vec::with_capacity(count);
    for key in &said {
        match verifying_key(key) {
            Ok(key) => keys.push(key),
            Err(why) => tracing::debug!(kid = ?key.get("kid"), why, "a key of the set is skipped"),
        }
    }
    if keys.is_empty() {
        return Err(DocumentError::NoUsableKey { count });
    }
    Ok(Document { skipped: count - keys.len(), keys })
}

/// The key with its only algorithm, or why it is skipped.
fn verifying_key(key: &Value) -> Result<VerifyingKey, &'static str> {
    let jwk = Jwk::deserialize(key).map_err(|_| "it is not of a known type")?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures");
    }
    if jwk.common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("it is not for verifying");
    }
    let (algorithm, own_name) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        _ => return Err("it is not of a type that verifies tokens"),
    };
    if jwk.common.key_algorithm.is_some_and(|said| said != own_name) {
        return Err("it is for another algorithm");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not base64url")?;
    if !is_sound(&key, algorithm) {
        return Err("its numbers are not a key, or the key is weak");
    }
    Ok(VerifyingKey { kid: jwk.common.key_id, algorithm, key })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::EncodingKey;
    use rcgen::{
        KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
    };
    use serde_json::json;

    use super::*;

    type FromPem = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;

    fn key(kind: &'static SignatureAlgorithm, from_pem: FromPem, algorithm: Algorithm) -> Value {
        let private = from_pem(KeyPair::generate_for(kind).unwrap().serialize_pem().as_bytes()).unwrap();
        serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap()
    }

    fn ed25519() -> Value {
        let public = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public.public_key_raw()), "alg": "EdDSA" })
    }

    fn p256() -> Value {
        key(&PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem, Algorithm::ES256)
    }

    fn rsa() -> Value {
        key(&PKCS_RSA_SHA256, EncodingKey::from_rsa_pem, Algorithm::RS256)
    }

    /// The key with some of its members changed; `null` removes one.
    fn with(mut key: Value, changes: Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => key.as_object_mut().unwrap().remove(name),
                value => key.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        key
    }

    fn set(keys: &[Value]) -> Result<Document, DocumentError> {
        parse(json!({ "keys": keys }).to_string().as_bytes(), 16)
    }

    #[test]
    fn each_type_of_key_has_its_one_algorithm() {
        let ed = with(ed25519(), json!({ "kid": "a", "use": "sig" }));
        let ec = with(p256(), json!({ "kid": "b", "alg": null, "key_ops": ["verify"] }));
        let document = set(&[ed, ec, with(rsa(), json!({ "x5c": ["certificate"], "custom": {} }))]).unwrap();
        let found: Vec<_> = document.keys.iter().map(|key| (key.kid.as_deref(), key.algorithm)).collect();
        assert_eq!(found, [(Some("a"), Algorithm::EdDSA), (Some("b"), Algorithm::ES256), (None, Algorithm::RS256)]);
        assert_eq!(document.skipped, 0);
    }

    #[test]
    fn keys_for_something_else_are_skipped() {
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let p384 = key(&PKCS_ECDSA_P384_SHA384, EncodingKey::from_ec_pem, Algorithm::ES384);
        for skipped in [
            with(ed25519(), json!({ "use": "enc" })),
            with(ed25519(), json!({ "use": "other" })),
            with(p256(), json!({ "key_ops": ["sign"] })),
            with(p256(), json!({ "key_ops": [] })),
            with(rsa(), json!({ "alg": "RS512" })),
            with(rsa(), json!({ "alg": "PS256" })),
            with(rsa(), json!({ "alg": "HS256" })),
            with(rsa(), json!({ "alg": "RSA-OAEP" })),
            with(rsa(), json!({ "alg": "something new" })),
            p384.clone(),
            with(p256(), json!({ "crv": "secp256k1" })),
            with(ed25519(), json!({ "crv": "X25519" })),
            // The numbers of one curve under the name of another.
            with(p384, json!({ "crv": "P-256", "alg": "ES256" })),
            with(ed25519(), json!({ "crv": "P-256" })),
            // No numbers, or none that are a key.
            with(ed25519(), json!({ "x": base64(&[1; 31]) })),
            with(ed25519(), json!({ "x": "not base64url" })),
            with(ed25519(), json!({ "x": null })),
            with(ed25519(), json!({ "x": 7 })),
            with(p256(), json!({ "y": base64(&[0; 32]) })),
            with(p256(), json!({ "y": null })),
            with(rsa(), json!({ "n": "" })),
            with(rsa(), json!({ "e": "" })),
            // RSA of 1,024 and of 2,040 bits; of 16,384 bits, which would take long to check.
            with(rsa(), json!({ "n": base64(&[0xff; 128]) })),
            with(rsa(), json!({ "n": base64(&[0xff; 255]) })),
            with(rsa(), json!({ "n": base64(&[0xff; 2048]) })),
            with(rsa(), json!({ "kty": "AKP" })),
            json!({ "kid": "a" }),
            json!({}),
            json!(null),
            json!("oct"),
            json!([1, 2]),
        ] {
            let document = set(&[skipped.clone(), ed25519()]).unwrap();
            let found: Vec<_> = document.keys.iter().map(|key| key.algorithm).collect();
            assert_eq!((found, document.skipped), (vec![Algorithm::EdDSA], 1), "{skipped}");
            assert_eq!(set(&[skipped]).err(), Some(DocumentError::NoUsableKey { count: 1 }));
        }
    }

    #[test]
    fn a_symmetric_key_spoils_the_whole_set() {
        for secret in [json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }), json!({ "kty": "oct", "use": "enc" })]
        {
            assert_eq!(set(&[ed25519(), secret]).err(), Some(DocumentError::Symmetric));
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in
            ["", "null", "[]", "{}", "<html>", "{\"keys\":{}}", "{\"keys\":[}", "{\"keys\":[]} more", "\u{feff}"]
        {
            assert_eq!(parse(text.as_bytes(), 16).err(), Some(DocumentError::Malformed), "{text}");
        }
        let deep = format!("{{\"keys\":[{}", "[".repeat(100_000));
        assert_eq!(parse(deep.as_bytes(), 16).err(), Some(DocumentError::Malformed));
        assert_eq!(parse(b"\xff\xfe", 16).err(), Some(DocumentError::Malformed));
        assert_eq!(parse(b"{\"keys\":[]}", 16).err(), Some(DocumentError::NoUsableKey { count: 0 }));
    }

    #[test]
    fn more_keys_than_allowed_are_refused() {
        let key = ed25519();
        assert_eq!(set(&vec![key.clone(); 16]).unwrap().keys.len(), 16);
        assert_eq!(set(&vec![key.clone(); 17]).err(), Some(DocumentError::TooManyKeys { count: 17, most: 16 }));
        let others = vec![json!({}); 10_000];
        assert_eq!(set(&others).err(), Some(DocumentError::TooManyKeys { count: 10_000, most: 16 }));
    }
}
