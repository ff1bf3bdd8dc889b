//! Writes that are on the disk when they return.
//!
//! Where the filesystem allows it, they bypass the page cache (`O_DIRECT | O_DSYNC`): one request to the disk instead of a copy,
//! a write-back and a sync. Elsewhere, `fdatasync` follows the write.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

use super::segment::SECTOR;

/// A file that is written by whole sectors.
pub(super) struct Durable {
    file: File,
    /// Whether a write needs no sync.
    is_direct: bool,
}

impl Durable {
    /// Opens a file that is there, of one sector at least.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match Self::direct(path) {
            Ok(file) => Ok(Self { file, is_direct: true }),
            Err(_) => Ok(Self { file: File::options().write(true).open(path)?, is_direct: false }),
        }
    }

    /// Fails where the filesystem has no direct writes, or the disk's sectors are larger than ours.
    fn direct(path: &Path) -> io::Result<File> {
        let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut sector = Sectors::with_capacity(SECTOR);
        sector.bytes().resize(SECTOR, 0);
        file.read_exact_at(sector.as_mut_slice(), 0)?;
        Ok(file)
    }

    /// Writes whole sectors to the beginning of a sector.
    pub(super) fn write_at(&self, sectors: &Sectors, at: u64) -> io::Result<()> {
        self.file.write_all_at(sectors.as_slice(), at)?;
        if self.is_direct { Ok(()) } else { self.file.sync_data() }
    }
}

/// Bytes that begin at a multiple of a sector in memory, as direct reads and writes need.
pub(super) struct Sectors {
    bytes: Vec<u8>,
    start: usize,
}

impl Sectors {
    /// Room for `capacity` bytes, which is never exceeded.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + SECTOR);
        let start = bytes.as_ptr().align_offset(SECTOR);
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// For appending.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_there_with_and_without_direct_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [0; 4 * SECTOR]).unwrap();
        let buffered = Durable { file: File::options().write(true).open(&path).unwrap(), is_direct: false };
        for (place, durable) in [Durable::open(&path).unwrap(), buffered].iter().enumerate() {
            let mut sectors = Sectors::with_capacity(4 * SECTOR);
            // Used again, as the log does.
            for length in [3 * SECTOR, SECTOR] {
                sectors.clear();
                sectors.bytes().extend((0..length).map(|i| (place + i) as u8));
                durable.write_at(&sectors, SECTOR as u64).unwrap();
                let written: Vec<u8> = (0..length).map(|i| (place + i) as u8).collect();
                assert_eq!(fs::read(&path).unwrap()[SECTOR..SECTOR + length], written);
            }
        }
    }

    #[test]
    fn a_file_without_a_whole_sector_is_not_written_directly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [0; SECTOR - 1]).unwrap();
        assert!(!Durable::open(&path).unwrap().is_direct);
    }
}
