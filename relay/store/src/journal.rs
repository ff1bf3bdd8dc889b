//! A look at the engine's journals before the engine opens them.
//!
//! After a power loss the newest journal may be torn from where it was last synced: some of the sectors reached the disk, others
//! did not. The engine refuses to open such a journal; and where a damaged byte happens to be a tag, it silently drops
//! everything behind it. So it is cut off here where it is torn, and the log has what is lost (`crate::log` knows if not). In
//! a store that has no log yet only a last commit may be torn, of which nobody was told. Anything else is a refusal: the
//! engine syncs a journal as a whole before it begins the next, and no row is in a table before it is synced (the sequencer
//! syncs each commit while there is something to flush).
//!
//! Layout (fjall 3.1, little-endian, no header, no padding, zeros behind the end): a batch is
//! start = 1 ‖ items u32 ‖ seqno u64;
//! for each item 2 ‖ value type u8 ‖ compression u8 ‖ keyspace u64 ‖ key length u16 ‖ value length u32 ‖ stored length u32
//! ‖ key ‖ value, or clear = 4 ‖ keyspace u64;
//! end = 3 ‖ XXH3-64 of what stands between start and end ‖ `FJL\x03`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    ops::RangeInclusive,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use crate::{OpenError, folder};

/// A larger rest than this is no torn commit: a batch is bounded by the weight of its commands, and that bounds what they
/// write.
pub(crate) const LARGEST_COMMIT: u64 = 32 << 20;
/// By how much the seqno of a later batch may differ: the engine takes a few for itself in between. The bound keeps
/// content that was made to look like a batch from being taken for one.
const LATER: u64 = 64;

/// What a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repaired {
    /// Nothing was missing.
    Whole,
    /// Something was cut off behind the commit with this seqno, if there is one before it.
    Cut(Option<u64>),
}

/// Checks every journal in the engine's folder and cuts off a torn last commit, or `with_log` everything behind a damage.
///
/// # Errors
/// When a journal is damaged otherwise, or cannot be read or written.
pub(crate) fn repair(folder: &Path, with_log: bool) -> Result<Repaired, OpenError> {
    let journals = list(folder).map_err(OpenError::io(folder))?;
    let newest = journals.len().saturating_sub(1);
    let (mut repaired, mut before) = (Repaired::Whole, None);
    for (i, path) in journals.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Look { end, seqno, tail } = look(path).map_err(OpenError::io(path))?;
        before = seqno.or(before);
        match tail {
            Tail::Clean if i < newest => {}
            Tail::Clean => write_again(path, end).map_err(OpenError::io(path))?,
            Tail::Damaged if i < newest || !with_log => return Err(damaged(folder, &name, end)),
            Tail::Torn if i < newest => return Err(damaged(folder, &name, end)),
            Tail::Torn | Tail::Damaged => {
                cut(path, end).and_then(|()| write_again(path, end)).map_err(OpenError::io(path))?;
                repaired = Repaired::Cut(before);
            }
        }
    }
    Ok(repaired)
}

fn damaged(folder: &Path, name: &str, end: u64) -> OpenError {
    OpenError::damaged(folder, format!("journal {name} holds a commit at byte {end} that is not what was written"))
}

/// The journals, oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// What is cut off stays beside it until the store is open: the log may turn out not to have it.
fn cut(path: &Path, end: u64) -> io::Result<()> {
    let copy = path.with_extension(CUT);
    tracing::warn!(journal = %path.display(), end, copy = %copy.display(), "a power loss tore the journal, which is cut off here");
    let mut file = File::options().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(end))?;
    let mut rest = File::create(&copy)?;
    io::copy(&mut file, &mut rest)?;
    rest.sync_all()?;
    folder::sync_name(path)?;
    file.set_len(end)?;
    file.sync_all()
}

/// What was read may not be on the disk, though it is in memory: after a sync that failed, no later one covers it.
fn write_again(path: &Path, end: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < end {
        let part = &mut buffer[..(end - at).min(1 << 20) as usize];
        file.read_exact_at(part, at)?;
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    file.sync_all()
}

/// Removes the copies of journals that were cut.
pub(crate) fn forget_cut(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == CUT) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What a journal holds.
struct Look {
    /// Where the intact batches end that it begins with, in bytes from its start.
    end: u64,
    /// The seqno of the last of them.
    seqno: Option<u64>,
    tail: Tail,
}

/// What follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Clean,
    /// A part of one batch.
    Torn,
    /// More than that.
    Damaged,
}

fn look(path: &Path) -> io::Result<Look> {
    let mut file = BufReader::with_capacity(ZEROS.len(), File::open(path)?);
    let (mut end, mut seqno) = (0, None);
    while let Some(batch) = batch(&mut file, &(0..=u64::MAX))? {
        end += batch.length;
        seqno = Some(batch.seqno);
    }
    let later = seqno.map_or(0..=u64::MAX, |seqno| seqno + 1..=seqno.saturating_add(LATER));
    file.seek(SeekFrom::Start(end))?;
    let tail = match rest(&mut file)? {
        Some(rest) if rest.is_empty() => Tail::Clean,
        Some(rest) if !has_batch(&rest, &later)? => Tail::Torn,
        _ => Tail::Damaged,
    };
    Ok(Look { end, seqno, tail })
}

/// What is left up to the last byte that is not zero; `None` when that is more than a commit.
fn rest(file: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut rest = Vec::new();
    let mut zeros = 0;
    loop {
        let chunk = file.fill_buf()?;
        let length = chunk.len();
        if length == 0 {
            return Ok(Some(rest));
        }
        // Compared as a whole: nearly all of a preallocated journal is zeros.
        let last = if *chunk == ZEROS[..length] { None } else { chunk.iter().rposition(|byte| *byte != 0) };
        match last {
            Some(last) if rest.len() + zeros + last >= LARGEST_COMMIT as usize => return Ok(None),
            Some(last) => {
                rest.resize(rest.len() + zeros, 0);
                rest.extend_from_slice(&chunk[..=last]);
                zeros = length - last - 1;
            }
            None => zeros += length,
        }
        file.consume(length);
    }
}

/// Whether an intact later batch begins anywhere behind the first byte.
fn has_batch(bytes: &[u8], later: &RangeInclusive<u64>) -> io::Result<bool> {
    for at in (1..bytes.len()).filter(|at| bytes[*at] == START) {
        if batch(&mut &bytes[at..], later)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Batch {
    length: u64,
    seqno: u64,
}

/// The intact batch that comes next, if one with such a seqno does.
fn batch(from: &mut impl Read, seqnos: &RangeInclusive<u64>) -> io::Result<Option<Batch>> {
    match read_batch(from, seqnos) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

fn read_batch(from: &mut impl Read, seqnos: &RangeInclusive<u64>) -> io::Result<Option<Batch>> {
    let mut from = Hashing { from, hash: Xxh3::new(), length: 0 };
    if from.number(1)? != u64::from(START) {
        return Ok(None);
    }
    let (items, seqno) = (from.number(4)?, from.number(8)?);
    if !seqnos.contains(&seqno) {
        return Ok(None);
    }
    from.hash.reset();
    for _ in 0..items {
        if !skip_item(&mut from)? {
            return Ok(None);
        }
    }
    let hash = from.hash.digest();
    let intact = from.number(1)? == END && from.number(8)? == hash && from.number(4)? == MAGIC;
    Ok(intact.then_some(Batch { length: from.length, seqno }))
}

/// False when there is no item.
fn skip_item<R: Read>(from: &mut Hashing<'_, R>) -> io::Result<bool> {
    match from.number(1)? {
        ITEM => {
            let (kind, compression, _keyspace) = (from.number(1)?, from.number(1)?, from.number(8)?);
            let (key, value, stored) = (from.number(2)?, from.number(4)?, from.number(4)?);
            let sound = kind <= 2 && compression <= 1 && (compression == 1 || value == stored);
            if sound {
                from.skip(key + stored)?;
            }
            Ok(sound)
        }
        CLEAR => from.skip(8).map(|()| true),
        _ => Ok(false),
    }
}

/// Counts and hashes what is read.
struct Hashing<'a, R> {
    from: &'a mut R,
    hash: Xxh3,
    length: u64,
}

impl<R: Read> Hashing<'_, R> {
    /// A little-endian number of that many bytes.
    fn number(&mut self, bytes: usize) -> io::Result<u64> {
        let mut number = [0; 8];
        self.fill(&mut number[..bytes])?;
        Ok(u64::from_le_bytes(number))
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while bytes > 0 {
            let part = bytes.min(buffer.len() as u64);
            self.fill(&mut buffer[..part as usize])?;
            bytes -= part;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(buffer)?;
        self.hash.update(buffer);
        self.length += buffer.len() as u64;
        Ok(())
    }
}

/// The ending of a copy's name.
const CUT: &str = "cut";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

const START: u8 = 1;
const ITEM: u64 = 2;
const END: u64 = 3;
const CLEAR: u64 = 4;
const MAGIC: u64 = u32::from_le_bytes(*b"FJL\x03") as u64;

#[cfg(test)]
mod tests;
