//! Writes that are on the disk when they return.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Once,
};

use super::segment::SECTOR;

/// One warning for all files of a log.
static SAID: Once = Once::new();

/// A file that is written by whole sectors.
///
/// Where the filesystem allows it, a write bypasses the page cache: one request to the disk instead of a copy and a sync.
/// Elsewhere a sync follows the write.
pub(super) struct Durable {
    path: PathBuf,
    direct: Option<File>,
    cached: File,
}

impl Durable {
    /// Opens a file that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let cached = File::options().write(true).open(path)?;
        Ok(Self { path: path.to_owned(), direct: direct(path), cached })
    }

    /// Writes whole sectors to the beginning of a sector.
    pub(super) fn write_at(&mut self, sectors: &Sectors, at: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct {
            match direct.write_all_at(sectors.as_slice(), at) {
                // The disk has larger sectors, or the filesystem opens what it cannot write.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    SAID.call_once(|| {
                        tracing::warn!(path = %self.path.display(), "no direct writes here: the log uses the page cache");
                    });
                    self.direct = None;
                }
                written => return written,
            }
        }
        self.cached.write_all_at(sectors.as_slice(), at)?;
        self.cached.sync_data()
    }
}

/// Where the filesystem allows it.
#[cfg(target_os = "linux")]
fn direct(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path).ok()
}

/// Other systems have neither flag with this meaning.
#[cfg(not(target_os = "linux"))]
fn direct(_: &Path) -> Option<File> {
    None
}

/// Bytes that begin at a multiple of a sector in memory, as direct writes need.
pub(super) struct Sectors {
    bytes: Vec<u8>,
    start: usize,
}

impl Sectors {
    /// Room for `capacity` bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let bytes: Vec<u8> = Vec::with_capacity(capacity + SECTOR);
        let start = bytes.as_ptr().align_offset(SECTOR);
        let mut sectors = Self { bytes, start };
        sectors.bytes.resize(start, 0);
        sectors
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Lets `write` append, up to the capacity.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (place, length) = (self.bytes.as_ptr(), self.bytes.len());
        write(&mut self.bytes);
        assert!(self.bytes.as_ptr() == place && self.bytes.len() >= length, "sectors stay where they are");
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes twice into the same buffer, as the log does, and looks at the file.
    fn write(durable: &mut Durable, path: &Path, seed: usize) {
        let mut sectors = Sectors::with_capacity(4 * SECTOR);
        for length in [3 * SECTOR, SECTOR] {
            let bytes: Vec<u8> = (0..length).map(|i| (seed + i) as u8).collect();
            sectors.clear();
            sectors.append(|buffer| buffer.extend_from_slice(&bytes));
            durable.write_at(&sectors, SECTOR as u64).unwrap();
            assert_eq!(fs::read(path).unwrap()[SECTOR..SECTOR + length], bytes);
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [0; 4 * SECTOR]).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_there_with_and_without_direct_writes() {
        let (_folder, path) = file();
        let mut durable = Durable::open(&path).unwrap();
        write(&mut durable, &path, 1);
        durable.direct = None;
        write(&mut durable, &path, 2);
    }

    #[test]
    fn sectors_are_aligned_in_memory() {
        for capacity in (SECTOR..9 * SECTOR).step_by(100) {
            let mut sectors = Sectors::with_capacity(capacity);
            sectors.append(|buffer| buffer.resize(buffer.len() + capacity, 1));
            assert_eq!(sectors.as_slice().as_ptr().align_offset(SECTOR), 0);
        }
    }

    #[test]
    fn a_direct_write_that_is_refused_goes_through_the_page_cache() {
        let (_folder, path) = file();
        let mut durable = Durable::open(&path).unwrap();
        // As where sectors are larger than this one. Some filesystems take it.
        let mut sectors = Sectors::with_capacity(4 * SECTOR);
        sectors.append(|buffer| buffer.extend_from_slice(&[7; 100]));
        let taken = durable.direct.as_ref().is_some_and(|file| file.write_all_at(sectors.as_slice(), 0).is_ok());
        durable.write_at(&sectors, 0).unwrap();
        assert_eq!(fs::read(&path).unwrap()[..100], [7; 100]);
        assert_eq!(durable.direct.is_some(), taken);
    }
}
