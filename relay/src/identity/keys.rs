//! The relay's own secrets: QUIC keys that outlive a restart, and the key that signs development tokens.

use std::{fmt, fs, path::Path};

use rcgen::{KeyPair, PKCS_ED25519};

use super::{
    IdentityError,
    files::{Readable, create_once, private_folder},
    hex,
};

/// Secrets of the QUIC endpoint. Kept, because with new ones the clients of a restarted relay would wait out their
/// idle timeout: it could neither reset their connections nor accept their address tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKeys {
    /// Makes stateless reset tokens.
    pub reset: [u8; 32],
    /// Makes connection ids recognisable as this relay's.
    pub connection_id: [u8; 32],
    /// Seals address validation tokens.
    pub token: [u8; 32],
}

impl NodeKeys {
    pub(super) fn read_or_create(data: &Path) -> Result<Self, IdentityError> {
        let path = data.join("keys").join("node.key");
        if !path.exists() {
            let mut fresh = [0; 96];
            rand::fill(&mut fresh[..]);
            create_secret(&path, &fresh)?;
        }
        let bytes = fs::read(&path).map_err(IdentityError::io("read", &path))?;
        let mut keys = Self { reset: [0; 32], connection_id: [0; 32], token: [0; 32] };
        if bytes.len() != 96 {
            return Err(IdentityError::bad_key(&path)("96 bytes expected; delete it to get a new one"));
        }
        keys.reset.copy_from_slice(&bytes[..32]);
        keys.connection_id.copy_from_slice(&bytes[32..64]);
        keys.token.copy_from_slice(&bytes[64..]);
        Ok(keys)
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKeys")
    }
}

/// The Ed25519 key in the data folder that signs development tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    pem: String,
    public: Vec<u8>,
}

impl SigningKey {
    /// Reads the key of a data folder, or `None` when none was made yet.
    ///
    /// # Errors
    /// When the file cannot be read or is no Ed25519 key.
    pub fn read(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join("keys").join("signing.pem");
        match fs::read_to_string(&path) {
            Ok(pem) => Self::from_pem(pem, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IdentityError::io("read", &path)(error)),
        }
    }

    /// Reads the key of a data folder, after making folder and key when they are missing. Needs no lock: of two
    /// processes that do so at once, both get the same key.
    ///
    /// # Errors
    /// As [`SigningKey::read`], or when the files cannot be made.
    pub fn read_or_create(data: &Path) -> Result<Self, IdentityError> {
        if let Some(key) = Self::read(data)? {
            return Ok(key);
        }
        let path = data.join("keys").join("signing.pem");
        let fresh = KeyPair::generate_for(&PKCS_ED25519).map_err(IdentityError::bad_key(&path))?;
        create_secret(&path, fresh.serialize_pem().as_bytes())?;
        let pem = fs::read_to_string(&path).map_err(IdentityError::io("read", &path))?;
        Self::from_pem(pem, &path)
    }

    /// The private key, PKCS#8 in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The name that tokens give this key: a hash of its public part, so that the key of another folder is noticed.
    pub fn kid(&self) -> String {
        hex(&blake3::hash(&self.public).as_bytes()[..8])
    }

    fn from_pem(pem: String, path: &Path) -> Result<Self, IdentityError> {
        let pair = KeyPair::from_pem(&pem).map_err(IdentityError::bad_key(path))?;
        if !pair.is_compatible(&PKCS_ED25519) {
            return Err(IdentityError::bad_key(path)("an Ed25519 key expected; delete it to get a new one"));
        }
        Ok(Self { public: pair.public_key_raw().to_vec(), pem })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.kid()).finish()
    }
}

fn create_secret(path: &Path, contents: &[u8]) -> Result<(), IdentityError> {
    let folder = path.parent().unwrap_or(path);
    private_folder(folder).map_err(IdentityError::io("make the folder", folder))?;
    create_once(path, contents, Readable::Owner).map_err(IdentityError::io("write", path))
}
