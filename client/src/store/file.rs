//! State in one file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{Change, Saved, StateError, StateStore, format, place::Place, snapshot::Snapshot};

/// Stores everything in one append-only file, which is compacted when it has grown.
///
/// Saved state survives a crash of the process. It is not synced: a power loss may lose the last moments, that is, unanswered
/// commands, and repeat a few events. Saving never waits for the disk: a thread writes and syncs the smaller file.
///
/// The file is for its owner alone (mode 0600) unless it was made otherwise: it keeps its mode and, where the system allows
/// that, its owner. A symbolic link is followed.
#[derive(Debug)]
pub struct FileStore {
    place: Place,
    file: File,
    /// Length of the valid part of the file.
    length: u64,
    /// Behind that part is what is left of a save that failed.
    is_torn: bool,
    /// The length at which the file is compacted.
    compact_at: u64,
    /// No file is compacted below this length.
    least: u64,
    /// The smaller file that is being written.
    snapshot: Option<Snapshot>,
    /// Locks out other clients while it is open.
    _lock: File,
}

impl FileStore {
    /// Opens or creates the file. A lock file beside it (`PATH.lock`) prevents other clients from sharing the device. On
    /// systems that do not have such locks, such as Android, an app must not open one file twice at the same time. The end of
    /// a save that a crash interrupted is removed.
    ///
    /// # Errors
    /// If it cannot be opened, is in use by another client, has an unknown version, or is damaged. The way out of the last two
    /// is to move the file away: this then is a new device, and unanswered commands in the file are lost.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        Self::open_with(path.as_ref(), COMPACT)
    }

    fn open_with(path: &Path, least: u64) -> Result<Self, StateError> {
        let failed = |error: io::Error| failed(path, &error);
        let place = Place::find(path).map_err(failed)?;
        let lock = place.lock().map_err(failed)?;
        let saved = load(&place)?;
        let bytes = format::file(&saved);
        let file = create(&place, &bytes).map_err(failed)?;
        let (length, compact_at) = (bytes.len() as u64, 0);
        let mut store = Self { place, file, length, is_torn: false, compact_at, least, snapshot: None, _lock: lock };
        store.pace(length);
        Ok(store)
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        // What is left of a record would be damage before the records after it.
        if self.is_torn {
            self.file.set_len(self.length)?;
        }
        self.is_torn = true;
        self.file.write_all(record)?;
        self.is_torn = false;
        self.length += record.len() as u64;
        Ok(())
    }

    /// Begins a smaller file when this one has grown, or takes over the one that is ready.
    fn compact(&mut self) -> io::Result<()> {
        let Some(snapshot) = self.snapshot.take() else {
            if self.length >= self.compact_at {
                self.snapshot = Some(Snapshot::begin(&self.place, self.length)?);
            }
            return Ok(());
        };
        match snapshot.poll() {
            None => self.snapshot = Some(snapshot),
            Some(length) => self.take_over(snapshot, length?)?,
        }
        Ok(())
    }

    /// Appends what was saved meanwhile, and puts the smaller file in its place.
    fn take_over(&mut self, snapshot: Snapshot, length: u64) -> io::Result<()> {
        let Snapshot { file: mut new, from, .. } = snapshot;
        let since = self.length - from;
        let mut old = &self.file;
        old.seek(SeekFrom::Start(from))?;
        if io::copy(&mut old.take(since), &mut new)? != since {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.place.put(&new)?;
        (self.file, self.length) = (new, length + since);
        self.pace(length);
        Ok(())
    }

    /// Compacts next when the file has grown by so much over this length.
    fn pace(&mut self, length: u64) {
        self.compact_at = self.least.max(length.saturating_mul(GROWTH));
    }
}

impl StateStore for FileStore {
    fn load(&mut self) -> Result<Saved, StateError> {
        load(&self.place)
    }

    fn save(&mut self, changes: &[Change]) -> Result<(), StateError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.append(&format::encode(changes)).map_err(|error| failed(self.place.path(), &error))?;
        if let Err(error) = self.compact() {
            tracing::warn!(file = %self.place.path().display(), %error, "could not compact the state file");
            self.place.remove_new().ok();
            self.pace(self.length);
        }
        Ok(())
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if self.snapshot.is_some() {
            self.place.remove_new().ok();
        }
    }
}

fn load(place: &Place) -> Result<Saved, StateError> {
    let path = place.path();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(path, &error)),
    };
    let content = format::read(&bytes).map_err(|error| failed(path, &error))?;
    let torn = bytes.len() - content.length;
    if torn > 0 {
        tracing::warn!(file = %path.display(), bytes = torn, "leaving out a save that was interrupted");
    }
    Ok(content.saved)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> StateError {
    StateError(format!("{}: {error}", path.display()))
}

/// Puts a file with these bytes in its place.
fn create(place: &Place, bytes: &[u8]) -> io::Result<File> {
    let mut file = place.create_new()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    place.put(&file)?;
    Ok(file)
}

/// The length below which a file is not compacted.
const COMPACT: u64 = 1024 * 1024;
/// A file is compacted when it has grown by this factor.
const GROWTH: u64 = 4;

#[cfg(test)]
mod tests;
