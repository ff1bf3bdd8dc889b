//! The bytes of a segment of the log. Numbers are little-endian and fixed for ever.
//!
//! Everything begins at a sector of 512 bytes and is filled up with zeros to the next one. The first sector is the header:
//! `QUIPLOG` ‖ format u8 = 2 ‖ generation u64 ‖ number u64 ‖ first position u64 ‖ salt u64 ‖ size of the file u64 ‖ fold
//! version u64 ‖ XXH3-64 of all that. Blocks follow, each one batch: length of the records u32 ‖ first position u64,
//! exclusive-or'ed with the salt ‖ time u64 ‖ records ‖ XXH3-64 of all that, with the salt as its seed. A record is length
//! u32 ‖ command (`Command::encode`).
//!
//! The salt is new each time a segment is begun, so that neither what it held before is taken for its content, nor a message
//! that was made to look like a block.

use quip_core::{Command, CommandError, Timestamp, command::BESIDE};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{BatchLimit, Ordered};

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
const MAGIC: [u8; 8] = *b"QUIPLOG\x02";
/// Length, first position and time.
const BLOCK: usize = 20;
/// Length.
const RECORD: usize = 4;
const SUM: usize = 8;
/// Bytes of the header that its checksum covers.
const SUMMED: usize = 56;
/// Bytes of the smallest segment: it has room for the largest batch, which holds one more command than its bytes allow.
pub(super) const LARGEST: u64 = 3 << 20;

const _: () = {
    let most = BatchLimit { commands: 4096, bytes: 1 << 20 };
    let block = BLOCK + SUM + most.bytes + (most.commands + 1) * (RECORD + BESIDE) + (64 << 10);
    assert!(((SECTOR + block + SECTOR) as u64) < LARGEST);
};

/// What the first sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u64,
    /// Counts the segments that were begun.
    pub(super) number: u64,
    /// The position of the first command.
    pub(super) first: u64,
    pub(super) salt: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// The version of the fold that decided its commands.
    pub(super) fold: u64,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is not what was written.
    Damaged,
    /// Another version wrote it.
    UnknownFormat,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.generation, self.number, self.first, self.salt, self.size, self.fold];
        for (i, number) in numbers.into_iter().enumerate() {
            bytes[8 + 8 * i..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64(&bytes[..SUMMED]);
        bytes[SUMMED..][..SUM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Nothing of a segment that was never begun: its first sector is zeros.
    pub(super) fn decode(sector: &[u8; SECTOR]) -> Result<Option<Self>, BadHeader> {
        if sector.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if sector[..7] != MAGIC[..7] {
            return Err(BadHeader::Damaged);
        }
        // Formats before this one end their checksum elsewhere.
        if sector[7] != MAGIC[7] {
            return Err(BadHeader::UnknownFormat);
        }
        let number = |i: usize| sector[8 * i..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if number(SUMMED / 8) != xxh3_64(&sector[..SUMMED]) {
            return Err(BadHeader::Damaged);
        }
        let [generation, number, first, salt, size, fold] = [1, 2, 3, 4, 5, 6].map(number);
        Ok(Some(Self { generation, number, first, salt, size, fold }))
    }
}

/// Appends a batch, whose positions are dense and whose times are equal, as a block.
pub(super) fn encode(batch: &[Ordered], salt: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let (first, at) = batch.first().map_or((0, 0), |first| (first.position, first.at));
    debug_assert!(batch.iter().all(|ordered| ordered.at == at), "one batch, one time");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(first ^ salt).to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    for Ordered { command, .. } in batch {
        let start = out.len();
        out.extend_from_slice(&[0; RECORD]);
        command.encode_to(out);
        let length = (out.len() - start - RECORD) as u32;
        out[start..start + RECORD].copy_from_slice(&length.to_le_bytes());
    }
    let length = (out.len() - start - BLOCK) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let sum = xxh3_64_with_seed(&out[start..], salt);
    out.extend_from_slice(&sum.to_le_bytes());
    out.resize(start + sectors(out.len() - start), 0);
}

/// A length filled up to whole sectors.
fn sectors(length: usize) -> usize {
    length.next_multiple_of(SECTOR)
}

/// An intact block.
pub(super) struct Block<'a> {
    pub(super) first: u64,
    pub(super) at: Timestamp,
    records: &'a [u8],
}

impl<'a> Block<'a> {
    /// The intact block that `bytes` begin with, if one does whose first position is `expected`.
    pub(super) fn read(bytes: &'a [u8], salt: u64, expected: impl Fn(u64) -> bool) -> Option<Self> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let first = number(4)? ^ salt;
        if !expected(first) {
            return None;
        }
        let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let (whole, rest) = bytes.split_at_checked(BLOCK + length)?;
        let sum = u64::from_le_bytes(*rest.first_chunk()?);
        let intact = length > 0 && sum == xxh3_64_with_seed(whole, salt);
        Some(Self { first, at: number(12)?, records: &whole[BLOCK..] }).filter(|_| intact)
    }

    /// Bytes of the block in the segment.
    pub(super) fn len(&self) -> usize {
        sectors(BLOCK + self.records.len() + SUM)
    }

    /// Its commands.
    pub(super) fn commands(&self) -> impl Iterator<Item = Result<Command, CommandError>> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<RECORD>()?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = after.get(length..).unwrap_or_default();
            Some(after.get(..length).map_or(Err(CommandError::Malformed), Command::decode))
        })
    }

    /// How many there are.
    fn count(&self) -> u64 {
        let mut rest = self.records;
        let next = || {
            let (length, after) = rest.split_first_chunk::<RECORD>()?;
            rest = after.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default();
            Some(())
        };
        std::iter::from_fn(next).count() as u64
    }
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// The last position; the one before the first when it has none.
    pub(super) last: u64,
    /// Where the next block would go.
    pub(super) end: usize,
}

/// Looks through the bytes of a segment with this header.
///
/// # Errors
/// With the place of a block that is not what was written, although another one follows it. What follows the last intact
/// block otherwise was never synced: a batch that a power loss tore, what the segment held before, or zeros.
pub(super) fn scan(bytes: &[u8], header: Header) -> Result<Content, usize> {
    let (mut end, mut next) = (SECTOR, header.first);
    while let Some(block) = bytes.get(end..).and_then(|rest| Block::read(rest, header.salt, |first| first == next)) {
        end += block.len();
        next += block.count();
    }
    let later = next + 1..=next + bytes.len() as u64;
    let follows = |at: usize| Block::read(&bytes[at..], header.salt, |first| later.contains(&first)).is_some();
    match (end + SECTOR..bytes.len()).step_by(SECTOR).any(follows) {
        true => Err(end),
        false => Ok(Content { last: next - 1, end }),
    }
}
