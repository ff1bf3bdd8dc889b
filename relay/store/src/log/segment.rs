//! What a file of the log is made of. Numbers are little-endian and fixed for ever.
//!
//! A header: `QUIPLOG` ‖ format u8 = 1 ‖ generation u64 ‖ number u64 ‖ first position u64 ‖ salt u64 ‖ size of the file u64 ‖
//! XXH3-64 of all that ‖ zeros. From byte 512 on follow blocks, each one batch: length of the records u32 ‖ first position u64,
//! exclusive-or'ed with the salt ‖ records ‖ XXH3-64 of all that, with the salt as its seed. A record is length u32 ‖ time u64 ‖
//! command (`Command::encode`).
//!
//! The salt is new each time a file is begun, so that what it held before is not taken for its content, nor is a message that
//! was made to look like a block.

use quip_core::{Command, CommandError, Timestamp, command::BESIDE};
use quip_order::Ordered;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Where blocks begin: a sector of its own for the header.
pub(super) const HEADER: usize = 512;
const MAGIC: [u8; 8] = *b"QUIPLOG\x01";
/// Length and first position.
const BLOCK: usize = 12;
/// Length and time.
const RECORD: usize = 12;
const SUM: usize = 8;
/// Bytes of the header that its checksum covers.
const SUMMED: usize = 48;
/// No block is longer: a batch is bounded.
const LARGEST: usize = 4 << 20;

/// What the first sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u64,
    /// Counts the files that were begun.
    pub(super) number: u64,
    /// The position of the first command.
    pub(super) first: u64,
    pub(super) salt: u64,
    /// Bytes of the file.
    pub(super) size: u64,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is not what was written.
    Damaged,
    /// A later version wrote it.
    UnknownFormat,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.generation, self.number, self.first, self.salt, self.size];
        for (i, number) in numbers.into_iter().enumerate() {
            bytes[8 + 8 * i..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64(&bytes[..SUMMED]);
        bytes[SUMMED..][..SUM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Nothing of a file that was never begun: its first sector is zeros, and a sector is written whole or not at all.
    pub(super) fn decode(file: &[u8]) -> Result<Option<Self>, BadHeader> {
        let bytes = file.get(..HEADER).ok_or(BadHeader::Damaged)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let number = |i: usize| bytes[8 * i..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if number(SUMMED / 8) != xxh3_64(&bytes[..SUMMED]) || bytes[..7] != MAGIC[..7] {
            return Err(BadHeader::Damaged);
        }
        if bytes[7] != MAGIC[7] {
            return Err(BadHeader::UnknownFormat);
        }
        let header =
            Self { generation: number(1), number: number(2), first: number(3), salt: number(4), size: number(5) };
        if header.size == file.len() as u64 { Ok(Some(header)) } else { Err(BadHeader::Damaged) }
    }
}

/// How many bytes a batch takes, at most.
pub(super) fn length(batch: &[Ordered]) -> usize {
    BLOCK + SUM + batch.iter().map(|ordered| RECORD + ordered.command.weight() + BESIDE).sum::<usize>()
}

/// Writes a batch, whose positions are dense, in the place of what `block` holds.
pub(super) fn encode(batch: &[Ordered], salt: u64, block: &mut Vec<u8>) {
    block.clear();
    block.extend_from_slice(&[0; 4]);
    let first = batch.first().map_or(0, |first| first.position);
    block.extend_from_slice(&(first ^ salt).to_le_bytes());
    for Ordered { at, command, .. } in batch {
        let start = block.len();
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&at.to_le_bytes());
        command.encode_to(block);
        let length = (block.len() - start - RECORD) as u32;
        block[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
    let length = (block.len() - BLOCK) as u32;
    block[..4].copy_from_slice(&length.to_le_bytes());
    let sum = xxh3_64_with_seed(block, salt);
    block.extend_from_slice(&sum.to_le_bytes());
}

/// What follows the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing that was synced: a batch that a power loss tore, what the file held before, or zeros.
    Free,
    /// A batch that was synced and is no more what it was, since another one follows it.
    Damaged { at: usize },
}

/// What a file holds.
pub(super) struct Blocks {
    pub(super) commands: Vec<(Timestamp, Result<Command, CommandError>)>,
    pub(super) end: u64,
    pub(super) tail: Tail,
}

/// Reads a file that begins with this header.
pub(super) fn read(file: &[u8], header: Header) -> Blocks {
    let (mut commands, mut end) = (Vec::new(), HEADER);
    while let Some(records) = block(&file[end..], header.salt, |first| first == header.first + commands.len() as u64) {
        end += BLOCK + records.len() + SUM;
        commands.extend(read_records(records));
    }
    let next = header.first + commands.len() as u64;
    let later = next + 1..=next + file.len() as u64;
    let follows =
        (end + 1..file.len()).any(|at| block(&file[at..], header.salt, |first| later.contains(&first)).is_some());
    let tail = if follows { Tail::Damaged { at: end } } else { Tail::Free };
    Blocks { commands, end: end as u64, tail }
}

/// The records of the intact block that `bytes` begin with, if one of such a position does.
fn block(bytes: &[u8], salt: u64, is_first: impl Fn(u64) -> bool) -> Option<&[u8]> {
    // With the salt, since messages are in the file too: nobody can make many that look as if a checksum were worth a try.
    let first = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?) ^ salt;
    if !is_first(first) {
        return None;
    }
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    if length > LARGEST {
        return None;
    }
    let (whole, rest) = bytes.split_at_checked(BLOCK + length)?;
    let sum = u64::from_le_bytes(*rest.first_chunk()?);
    (length > 0 && sum == xxh3_64_with_seed(whole, salt)).then(|| &whole[BLOCK..])
}

fn read_records(mut records: &[u8]) -> Vec<(Timestamp, Result<Command, CommandError>)> {
    let mut commands = Vec::new();
    while let Some((head, rest)) = records.split_first_chunk::<RECORD>() {
        let (length, at) = head.split_at(4);
        let length = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let at = at.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        let command = rest.get(..length).map_or(Err(CommandError::Malformed), Command::decode);
        commands.push((at, command));
        records = rest.get(length..).unwrap_or_default();
    }
    commands
}
