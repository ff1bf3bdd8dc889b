//! Looks at the journals of a fjall 3.1 database before fjall does.
//!
//! A power failure may leave the last batch with holes. fjall then refuses to open (`ChecksumMismatch`), or, where a
//! hole hits a marker, drops that batch and everything after it without a word, even acknowledged batches. When every
//! batch is synced before the next one is written, only the last batch can be torn, and it was not acknowledged: so an
//! intact batch behind a broken one means damage, and truncating before a broken last one loses nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Marker, u32 number of items, u64 seqno.
const START_BYTES: usize = 13;
/// Marker, type, compression, u64 keyspace, u16 key length, u32 value length, u32 stored length; key, stored value.
const ITEM_BYTES: usize = 21;
/// Marker, u64 keyspace.
const CLEAR_BYTES: usize = 9;
/// Marker, u64 xxh3 of all items, magic.
const END_BYTES: usize = 13;
const MAGIC: &[u8] = b"FJL\x03";

/// What follows the last intact batch of a journal that begins at offset 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Zeros, or nothing.
    Clean,
    /// A broken batch at `at`, and no intact one behind it.
    Torn { at: usize },
    /// A broken batch at `at`, and an intact one behind it.
    Damaged { at: usize, intact: usize },
}

/// Cuts a torn batch off the newest journal. Refuses any other damage.
pub(crate) fn repair(folder: &Path) -> anyhow::Result<()> {
    let journals = journals(folder)?;
    let Some((newest, sealed)) = journals.split_last() else { return Ok(()) };
    for journal in sealed {
        if find_tail(journal)? != Tail::Clean {
            bail!("{} is damaged", journal.display());
        }
    }
    match find_tail(newest)? {
        Tail::Clean => Ok(()),
        Tail::Torn { at } => {
            eprintln!("cutting the torn last batch off {} at {at}", newest.display());
            let file = OpenOptions::new().write(true).open(newest)?;
            file.set_len(at as u64)?;
            Ok(file.sync_all()?)
        }
        Tail::Damaged { at, intact } => bail!("{} is damaged at {at}, batch {intact} is whole", newest.display()),
    }
}

/// The journals, oldest first.
fn journals(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a journal without a name")?;
            journals.push((stem.parse::<u64>()?, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn find_tail(journal: &Path) -> anyhow::Result<Tail> {
    let mut bytes = Vec::new();
    File::open(journal)?.read_to_end(&mut bytes)?;
    Ok(classify(&bytes))
}

fn classify(bytes: &[u8]) -> Tail {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut at = 0;
    while let Some(len) = batch(&bytes[at..]) {
        at += len;
    }
    if used <= at {
        return Tail::Clean;
    }
    match (at + 1..used).find(|from| batch(&bytes[*from..]).is_some()) {
        Some(intact) => Tail::Damaged { at, intact },
        None => Tail::Torn { at },
    }
}

/// Length of the intact batch that `bytes` begins with.
fn batch(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != START {
        return None;
    }
    let count = number(bytes, 1)?;
    let mut at = START_BYTES;
    for _ in 0..count {
        at += match *bytes.get(at)? {
            ITEM => {
                ITEM_BYTES
                    + usize::from(*bytes.get(at + 11)?)
                    + 256 * usize::from(*bytes.get(at + 12)?)
                    + number(bytes, at + 17)?
            }
            CLEAR => CLEAR_BYTES,
            _ => return None,
        };
    }
    let end = bytes.get(at..at + END_BYTES)?;
    let sum = u64::from_le_bytes(end[1..9].try_into().ok()?);
    (end[0] == END && &end[9..] == MAGIC && xxh3_64(&bytes[START_BYTES..at]) == sum).then_some(at + END_BYTES)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(number) as usize)
}
