//! Why opening or reading fails.

use std::path::PathBuf;

use thiserror::Error;

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process; stop that one or choose another folder", .0.display())]
    InUse(PathBuf),
}

/// Why a read has no answer.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A record does not parse or its checksum is wrong.
    #[error("a record in {keyspace} is damaged (key {key}); restore the store from a backup")]
    Damaged {
        /// Where.
        keyspace: &'static str,
        /// Its key, in hexadecimal.
        key: String,
    },
    /// The engine failed.
    #[error("the store could not be read: {0}")]
    Store(#[source] fjall::Error),
}
