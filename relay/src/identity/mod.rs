//! The data folder: who this relay is, kept over restarts.
//!
//! ```text
//! DATA/lock              held while a relay runs, with its process id
//! DATA/fingerprint       SHA-256 of the certificate, for clients on this machine
//! DATA/listen            the address in use, for clients on this machine
//! DATA/tls/cert.pem      the self-signed certificate, unless the config names another
//! DATA/tls/key.pem       its key
//! DATA/keys/signing.pem  signs development tokens (Ed25519)
//! DATA/keys/node.key     secrets of the QUIC endpoint
//! DATA/log/              the log of what was accepted
//! DATA/store/            the store, which follows the log
//! DATA/restoring         generations of the log, before and after, while it is restored
//! ```
//! `tls`, `keys`, `log` and `store` are closed to other users.

use std::{
    fmt::{self, Display},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::config::TlsConfig;

mod certificate;
mod facts;
mod files;
mod keys;
mod restoring;

pub use certificate::Certificate;
pub use keys::{NodeKeys, SigningKey};
pub use restoring::Renewal;

use files::{private_folder, replace};

/// Why the data folder cannot be used. The text says what to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Another relay has it.
    #[error(
        "the data folder {} is in use by another relay{}; stop that one, or give this one its own folder with --data",
        path.display(), OfProcess(*pid)
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other relay's process, where it could be read.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {error}; check the disk and the rights on the folder", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// There is no log or store.
    #[error(
        "there is no {} in {}; put the copy of a whole data folder there first, or name another folder with --data",
        missing, path.display()
    )]
    NothingToRestore {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// A restoration was interrupted.
    #[error("restoring the data folder {} was interrupted; run `quip-relay restore` again", .0.display())]
    Restoring(PathBuf),
    /// A file holds no certificate that TLS can use.
    #[error("{} is not a certificate chain in PEM: {why}", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file holds no key of the kind that it should.
    #[error("{} is not a usable key: {why}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key are of different pairs.
    #[error("{} does not belong to the key {}; replace one of them", cert.display(), key.display())]
    NotAPair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl IdentityError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }

    fn bad_key<E: Display>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |why| Self::BadKey { path, why: why.to_string() }
    }

    fn bad_certificate<E: Display>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |why| Self::BadCertificate { path, why: why.to_string() }
    }
}

struct OfProcess(Option<u32>);

impl Display for OfProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}

/// A data folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder when it is missing, and locks it.
    ///
    /// # Errors
    /// When another relay has it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(path).map_err(IdentityError::io("make the data folder", path))?;
        let lock = lock(path)?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        private_folder(&folder.store()).map_err(IdentityError::io("make the folder", &folder.store()))?;
        Ok(folder)
    }

    /// Locks a folder that has a log and a store.
    ///
    /// # Errors
    /// When another relay has it, or one of the two is missing.
    pub fn open_existing(path: &Path) -> Result<Self, IdentityError> {
        for missing in ["log", "store"] {
            if !path.join(missing).is_dir() {
                return Err(IdentityError::NothingToRestore { path: path.to_owned(), missing });
            }
        }
        Self::open(path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store lives.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The certificate, self-signed when the config names none; its fingerprint is left in the folder.
    ///
    /// # Errors
    /// When files cannot be read or written, or are not what they should be.
    pub fn certificate(&self, tls: &TlsConfig) -> Result<Certificate, IdentityError> {
        let certificate = Certificate::read_or_create(&self.path, tls)?;
        self.leave("fingerprint", &certificate.fingerprint())?;
        Ok(certificate)
    }

    /// The secrets of the QUIC endpoint, the same after a restart.
    ///
    /// # Errors
    /// When the file cannot be read or written, or was damaged.
    pub fn node_keys(&self) -> Result<NodeKeys, IdentityError> {
        NodeKeys::read_or_create(&self.path)
    }

    /// Leaves the address in use in the folder, for clients on this machine.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_endpoint(&self, listen: SocketAddr) -> Result<(), IdentityError> {
        self.leave("listen", &listen.to_string())
    }

    fn leave(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        let path = self.path.join(name);
        replace(&path, format!("{text}\n").as_bytes()).map_err(IdentityError::io("write", &path))
    }
}

/// The operating system lets go of the lock however the process ends, so that a stale file means nothing.
fn lock(folder: &Path) -> Result<File, IdentityError> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(IdentityError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(IdentityError::InUse { path: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(IdentityError::io("lock", &path)(error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(IdentityError::io("write", &path))?;
    Ok(file)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
