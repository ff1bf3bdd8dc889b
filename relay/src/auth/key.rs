//! One key that verifies tokens.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::PublicEncryptingKey,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// A key with its name and its only algorithm.
pub(super) struct VerifyingKey {
    /// `None` = tried for tokens with any name.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// True if this is a public key of the algorithm, with 2,048 to 8,192 bits for RSA. jsonwebtoken accepts nearly any bytes. A
/// key that could never verify anything is refused when it is loaded, instead of every client later.
pub(super) fn is_sound(key: &DecodingKey, algorithm: Algorithm) -> bool {
    let parsed = match (key.kind(), algorithm) {
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) => ParsedPublicKey::new(&ED25519, bytes),
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES256) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes)
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::RS256) => {
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes)
        }
        (DecodingKeyKind::RsaModulusExponent { n, e }, Algorithm::RS256) => {
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        }
        _ => return false,
    };
    parsed.is_ok_and(|key| algorithm != Algorithm::RS256 || has_good_size(&key))
}

/// Parsing a verification key leaves the size check to each verification. Parsing it as an encryption key checks it at once.
fn has_good_size(rsa: &ParsedPublicKey) -> bool {
    rsa.as_der().is_ok_and(|der| PublicEncryptingKey::from_der(der.as_ref()).is_ok())
}
