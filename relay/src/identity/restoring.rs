//! The note that a data folder is being restored. A start is refused while it is there, and restoring goes on by it.

use std::{fs, io, path::PathBuf};

use super::{DataFolder, IdentityError, files::replace};

/// The generations of a log that is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The one that the copy has.
    pub from: u64,
    /// The new one.
    pub to: u64,
}

impl DataFolder {
    /// What was begun and not ended.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn renewal(&self) -> Result<Option<Renewal>, IdentityError> {
        let path = self.note();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(IdentityError::io("read", &path))?,
        };
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[from, to]) => Ok(Some(Renewal { from, to })),
            _ => Err(IdentityError::io("read", &path)(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Notes what begins.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_renewal(&self, Renewal { from, to }: Renewal) -> Result<(), IdentityError> {
        let path = self.note();
        replace(&path, format!("{from} {to}\n").as_bytes()).map_err(IdentityError::io("write", &path))
    }

    /// Takes the note away.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn end_renewal(&self) -> Result<(), IdentityError> {
        let path = self.note();
        fs::remove_file(&path).map_err(IdentityError::io("remove", &path))
    }

    /// Refuses a folder that is being restored.
    ///
    /// # Errors
    /// When it is.
    pub fn is_whole(&self) -> Result<(), IdentityError> {
        match self.renewal()? {
            Some(_) => Err(IdentityError::Restoring(self.path.clone())),
            None => Ok(()),
        }
    }

    fn note(&self) -> PathBuf {
        self.path.join("restoring")
    }
}
