//! Why opening or reading fails.

use std::{
    fmt::{self, Display},
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process; stop that one or choose another folder", .0.display())]
    InUse(PathBuf),
    /// It was written by a version of Quip that stores things differently.
    #[error(
        "the store in {} has format {found}, and this version of Quip knows format {known}; use the version that wrote it, or \
         move the folder away to begin an empty store",
        path.display()
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is known here.
        known: u32,
    },
    /// It follows another log than the one that it was opened with.
    #[error(
        "the store in {} follows the log {store:016x}, and the log here is {log:016x}: one of the two is missing or was \
         replaced; mount what is not mounted, or put a backup in the place of the whole data folder and run \
         `quip-relay restore`",
        path.display()
    )]
    OtherLog {
        /// The folder.
        path: PathBuf,
        /// The generation of the log that it follows.
        store: u64,
        /// The generation of the log that is there.
        log: u64,
    },
    /// Something that had been committed cannot be read.
    #[error(
        "the store in {} is damaged: {what}; put a backup in the place of the whole data folder and run `quip-relay restore`",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
    /// The operating system refuses.
    #[error("the store in {} cannot be opened: {source}; check the disk and the rights on the folder", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn commit(path: &Path) -> impl FnOnce(EngineError) -> Self {
        let engine = Self::engine(path);
        move |error| engine(error.0)
    }

    pub(crate) fn engine(path: &Path) -> impl FnOnce(fjall::Error) -> Self {
        let path = path.to_owned();
        move |error| match error {
            fjall::Error::Locked => Self::InUse(path),
            fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause))
                if cause.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Self::Damaged { path, what: "a file of the storage engine is too short".to_owned() }
            }
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => Self::Io { path, source },
            fjall::Error::InvalidVersion(_) => {
                Self::Format { path, found: "of another storage engine".to_owned(), known: crate::store::FORMAT }
            }
            other => Self::Damaged { path, what: other.to_string() },
        }
    }
}

/// What the engine says, or the operating system behind it in its own words.
struct Plain<'a>(&'a fjall::Error);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => cause.fmt(f),
            other => other.fmt(f),
        }
    }
}

/// Why the engine under the store takes no more commits. What was accepted is in the log.
#[derive(Debug, Error)]
#[error("{}", Plain(.0))]
pub struct EngineError(#[from] fjall::Error);

/// Why a read has no answer.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A stored record is not what was written.
    #[error(
        "a {kind} record is damaged, at or after key {key}: {why}; to have it back, put a backup in the place of the data \
         folder and run `quip-relay restore`"
    )]
    Damaged {
        /// Of which kind.
        kind: &'static str,
        /// Its key, or the first key of the range that was read, in hexadecimal.
        key: String,
        /// How.
        why: String,
    },
    /// The engine or the disk failed.
    #[error("the store could not be read: {}; check the disk", Plain(.0))]
    Store(#[source] fjall::Error),
    /// What was announced before the read could not be stored. The log has it, and the next start stores it.
    #[error("the relay stops, because it could not store what it had accepted; try again after its next start")]
    Stopped,
}

impl ReadError {
    /// Whether the same read may succeed later.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Stopped)
    }

    pub(crate) fn damaged(kind: &'static str, key: &[u8], why: impl ToString) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Damaged { kind, key, why: why.to_string() }
    }

    /// The engine checks a 128-bit checksum of every block that it reads from the disk, so whatever it says about
    /// content is damage. Only the operating system's errors are not.
    pub(crate) fn engine(kind: &'static str, key: &[u8], error: fjall::Error) -> Self {
        use fjall::{Error, LsmError};
        match error {
            Error::Io(ref cause) | Error::Storage(LsmError::Io(ref cause))
                if cause.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Self::Store(error)
            }
            Error::Poisoned | Error::KeyspaceDeleted | Error::Locked => Self::Store(error),
            _ => Self::damaged(kind, key, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_stands_in_its_own_words() {
        let full = || io::Error::from_raw_os_error(28);
        let errors = [fjall::Error::Io(full()), fjall::Error::Storage(fjall::LsmError::Io(full()))];
        assert_eq!(errors.map(|error| EngineError(error).to_string()), [full(), full()].map(|error| error.to_string()));
        let read = ReadError::Store(fjall::Error::Io(full())).to_string();
        assert_eq!(read, format!("the store could not be read: {}; check the disk", full()));
    }
}
