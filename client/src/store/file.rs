//! State in one file.
//!
//! The file is 8 bytes of magic, a version byte, and records: length (u32, little endian), CRC-32 of the content (likewise),
//! content. A record holds the changes ([`record`]) of one save, which is therefore atomic.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Change, Saved, StateError, StateStore, record};

/// Stores everything in one append-only file, which is compacted when it has grown.
///
/// Saved state survives a crash of the process. It is not synced: a power loss may lose the last moments, that is, unanswered
/// commands, and repeat a few events.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: File,
    /// Length of the valid part of the file.
    length: u64,
    /// The length at which the file is compacted.
    compact_at: u64,
    /// Locks out other processes while it is open.
    _lock: File,
}

impl FileStore {
    /// Opens or creates the file. A lock file beside it (`PATH.lock`) prevents other processes from sharing the device. A torn
    /// tail, left by a crash, is truncated.
    ///
    /// # Errors
    /// If it cannot be opened, has an unknown version, or is in use by another process.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let path = path.as_ref().to_owned();
        let failed = |error: io::Error| StateError(format!("{}: {error}", path.display()));
        let lock = lock(&path)?;
        let saved = match std::fs::read(&path) {
            Ok(bytes) => read(&bytes).map_err(|text| StateError(format!("{}: {text}", path.display())))?.0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(failed(error)),
        };
        let (file, length) = rewrite(&path, &saved).map_err(failed)?;
        Ok(Self { path, file, length, compact_at: compact_at(length), _lock: lock })
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(record) {
            // A partial record would hide the records after it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += record.len() as u64;
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let bytes = std::fs::read(&self.path)?;
        let (saved, _) = read(&bytes).map_err(io::Error::other)?;
        (self.file, self.length) = rewrite(&self.path, &saved)?;
        Ok(())
    }
}

impl StateStore for FileStore {
    fn load(&mut self) -> Result<Saved, StateError> {
        let bytes = std::fs::read(&self.path).map_err(|error| StateError(error.to_string()))?;
        read(&bytes).map(|(saved, _)| saved).map_err(|text| StateError(text.to_owned()))
    }

    fn save(&mut self, changes: &[Change]) -> Result<(), StateError> {
        let failed = |error: io::Error| StateError(error.to_string());
        self.append(&record(changes)).map_err(failed)?;
        if self.length >= self.compact_at {
            if let Err(error) = self.compact() {
                tracing::warn!(%error, "could not compact the state file");
            }
            self.compact_at = compact_at(self.length);
        }
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let path = beside(path, ".lock");
    let failed = |error: &dyn std::fmt::Display| StateError(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(failed(&"in use by another process: use one file for each process"))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The content of the file, and the length of its valid part.
fn read(bytes: &[u8]) -> Result<(Saved, usize), &'static str> {
    let mut saved = Saved::default();
    let Some(mut rest) = bytes.strip_prefix(HEAD) else {
        return match bytes.get(..MAGIC) {
            None => Ok((saved, 0)),
            Some(magic) if magic == &HEAD[..MAGIC] => Err("unsupported version of the state file"),
            Some(_) => Err("not a state file"),
        };
    };
    while let Some((changes, after)) = next(rest) {
        changes.iter().for_each(|change| saved.apply(change));
        rest = after;
    }
    if !rest.is_empty() {
        tracing::warn!(bytes = rest.len(), "truncating the torn tail of the state file");
    }
    Ok((saved, bytes.len() - rest.len()))
}

/// The changes of the first record and the bytes after it; `None` at the end or at a torn record.
fn next(bytes: &[u8]) -> Option<(Vec<Change>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let good = crc32fast::hash(content) == u32::from_le_bytes(*crc);
    Some((record::decode(content).filter(|_| good)?, rest))
}

fn record(changes: &[Change]) -> Vec<u8> {
    let content = record::encode(changes);
    let mut out = Vec::with_capacity(content.len() + 8);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    out.extend_from_slice(&content);
    out
}

/// Atomically replaces the file; returns the new file and its length.
fn rewrite(path: &Path, saved: &Saved) -> io::Result<(File, u64)> {
    let new = beside(path, ".new");
    let mut bytes = HEAD.to_vec();
    bytes.extend_from_slice(&record(&saved.changes()));
    std::fs::write(&new, &bytes)?;
    let file = OpenOptions::new().append(true).open(&new)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok((file, bytes.len() as u64))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn compact_at(length: u64) -> u64 {
    COMPACT.max(length.saturating_mul(4))
}

/// Magic and version.
const HEAD: &[u8] = b"quipkeep\x02";
const MAGIC: usize = 8;
/// The length below which a file is not compacted.
const COMPACT: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quip_protocol::{ConversationId, DeviceId, UserId};

    use super::*;
    use crate::Cursor;

    const ID: ConversationId = ConversationId([3; 16]);

    fn changes() -> Vec<Change> {
        vec![
            Change::Identity(UserId::parse("alice").expect("a user"), DeviceId([7; 16])),
            Change::Queued(ID, 1, Bytes::from_static(b"one")),
            Change::Queued(ID, 2, Bytes::from_static(b"two")),
            Change::Settled(ID, 1),
            Change::Cursor(ID, Cursor { generation: 9, seq: 300, digest: [1, 2, 3, 4] }),
            Change::Outbox(ID, 5, vec![(5, Bytes::from_static(b"five"))]),
        ]
    }

    fn sum(changes: &[Change]) -> Saved {
        let mut saved = Saved::default();
        changes.iter().for_each(|change| saved.apply(change));
        saved
    }

    #[test]
    fn the_bytes_of_a_file_are_fixed() {
        let mut expected = HEAD.to_vec();
        expected.extend([134, 0, 0, 0]); // length
        expected.extend(crc32fast::hash(&expected_content()).to_le_bytes());
        expected.extend(expected_content());
        let mut found = HEAD.to_vec();
        found.extend(record(&changes()));
        assert_eq!(found, expected);
        assert_eq!(HEAD, b"quipkeep\x02");
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    fn expected_content() -> Vec<u8> {
        let id = [3; 16];
        let parts: [&[u8]; 6] = [
            &[&[1, 5][..], b"alice", &[7; 16]].concat(), // identity: user, device
            &[&[2][..], &id, &[1, 3], b"one"].concat(),  // queued: conversation, n, frame
            &[&[2][..], &id, &[2, 3], b"two"].concat(),  //
            &[&[3][..], &id, &[1]].concat(),             // settled: conversation, n
            &[&[5][..], &id, &[9, 0xac, 2, 1, 2, 3, 4]].concat(), // cursor: conversation, generation, seq, digest
            &[&[4][..], &id, &[5, 1, 5, 4], b"five"].concat(), // outbox: conversation, last n, [n, frame]
        ];
        parts.concat()
    }

    #[test]
    fn what_was_saved_is_there_after_reopening() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let mut store = FileStore::open(&path).expect("a new store");
        for change in changes() {
            store.save(&[change]).expect("saved");
        }
        drop(store);
        let mut store = FileStore::open(&path).expect("the same store");
        assert_eq!(store.load().expect("loaded"), sum(&changes()));
    }

    #[test]
    fn a_tail_torn_anywhere_is_cut_and_the_rest_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let mut whole = HEAD.to_vec();
        whole.extend(record(&changes()[..3]));
        let kept = whole.len();
        whole.extend(record(&changes()[3..]));
        for cut in kept..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let mut store = FileStore::open(&path).expect("opens");
            assert_eq!(store.load().expect("loaded"), sum(&changes()[..3]), "cut at {cut}");
            store.save(&changes()[3..]).expect("saved");
            drop(store);
            assert_eq!(FileStore::open(&path).expect("opens").load().expect("loaded"), sum(&changes()), "cut at {cut}");
        }
        for cut in 0..HEAD.len() - 1 {
            std::fs::write(&path, &whole[..cut]).expect("written");
            assert_eq!(FileStore::open(&path).expect("opens").load().expect("loaded"), Saved::default());
        }
    }

    #[test]
    fn a_damaged_byte_never_panics_and_never_invents() {
        let mut whole = HEAD.to_vec();
        changes().iter().for_each(|change| whole.extend(record(std::slice::from_ref(change))));
        let prefixes: Vec<Saved> = (0..=changes().len()).map(|count| sum(&changes()[..count])).collect();
        for at in HEAD.len()..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            let (saved, _) = read(&damaged).expect("the head is good");
            assert!(prefixes.contains(&saved), "byte {at}");
        }
    }

    #[test]
    fn another_version_and_another_file_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        std::fs::write(&path, b"quipkeep\x01").expect("written");
        assert!(FileStore::open(&path).expect_err("refused").0.contains("version"));
        std::fs::write(&path, b"something else").expect("written");
        assert!(FileStore::open(&path).expect_err("refused").0.contains("not a state file"));
        assert_eq!(std::fs::read(&path).expect("still there"), b"something else");
    }

    #[test]
    fn a_second_process_is_kept_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let store = FileStore::open(&path).expect("a new store");
        assert!(FileStore::open(&path).expect_err("locked").0.contains("another process"));
        drop(store);
        FileStore::open(&path).expect("free again");
    }

    #[test]
    fn a_file_that_grows_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let mut store = FileStore::open(&path).expect("a new store");
        store.save(&changes()).expect("saved");
        let body = Bytes::from(vec![1; 16 * 1024]);
        for n in 6..300 {
            store.save(&[Change::Queued(ID, n, body.clone())]).expect("saved");
            store.save(&[Change::Settled(ID, n)]).expect("saved");
            assert!(std::fs::metadata(&path).expect("there").len() < COMPACT + 20_000);
        }
        let mut expected = sum(&changes());
        expected.conversations.entry(ID).or_default().last_n = 299;
        assert_eq!(store.load().expect("loaded"), expected);
    }

    #[test]
    fn a_save_that_fails_leaves_a_good_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let mut store = FileStore::open(&path).expect("a new store");
        store.save(&changes()).expect("saved");
        // A handle that cannot be written to stands for a full disk.
        let good = std::mem::replace(&mut store.file, File::open(&path).expect("read only"));
        assert!(store.save(&[Change::Settled(ID, 5)]).is_err());
        store.file = good;
        store.save(&[Change::Queued(ID, 6, Bytes::from_static(b"six"))]).expect("saved");
        let loaded = store.load().expect("loaded");
        assert_eq!(loaded.conversations[&ID].outbox.len(), 2);
    }
}
