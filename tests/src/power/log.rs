//! The shim's log, parsed. Its format is described in `tests/powerloss/shim.c`.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::PathBuf};

const SYNC_DATA: u64 = 1;
const SYNC_FAILED: u64 = 2;

/// One change or sync, with its time: its offset in the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) action: Operation,
}

/// Bytes that were in a file.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Operation {
    Write {
        inode: u64,
        from: u64,
        to: u64,
        old_size: u64,
        old: Vec<Chunk>,
    },
    Resize {
        inode: u64,
        old_size: u64,
        old: Vec<Chunk>,
    },
    /// A sync covers what lies before `begin`.
    Sync {
        inode: u64,
        begin: u64,
        data_only: bool,
        failed: bool,
        path: PathBuf,
    },
    SyncAll {
        begin: u64,
    },
    Create {
        path: PathBuf,
    },
    Rename {
        inode: u64,
        replaced: Option<u64>,
        is_folder: bool,
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        inode: u64,
        path: PathBuf,
    },
    RemoveFolder {
        path: PathBuf,
    },
    Link {
        path: PathBuf,
    },
}

/// Parses a log. An unfinished record at its end belongs to a call that never began, and is left out.
pub(super) fn parse(log: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut old = Vec::new();
    let mut at = 0;
    while let Some((kind, payload, next)) = record(log, at) {
        let mut fields = Fields(payload);
        match kind {
            1 => old.push(Chunk { offset: fields.number()?, bytes: fields.0.to_vec() }),
            11 => drop(entries.pop()),
            _ => {
                let action = action(kind, &mut fields, &mut old)?;
                entries.push(Entry { at: at as u64, action });
            }
        }
        at = next;
    }
    Ok(entries)
}

fn record(log: &[u8], at: usize) -> Option<(u32, &[u8], usize)> {
    let head = log.get(at..at + 8)?;
    let kind = u32::from_le_bytes(head[..4].try_into().ok()?);
    let len = u32::from_le_bytes(head[4..].try_into().ok()?) as usize;
    Some((kind, log.get(at + 8..at + 8 + len)?, at + 8 + len))
}

fn action(kind: u32, fields: &mut Fields<'_>, old: &mut Vec<Chunk>) -> io::Result<Operation> {
    Ok(match kind {
        2 => {
            let (inode, from, len) = (fields.number()?, fields.number()?, fields.number()?);
            Operation::Write { inode, from, to: from + len, old_size: fields.number()?, old: std::mem::take(old) }
        }
        3 => Operation::Resize { inode: fields.number()?, old_size: fields.number()?, old: std::mem::take(old) },
        4 => {
            let (inode, begin, flags) = (fields.number()?, fields.number()?, fields.number()?);
            let (data_only, failed) = (flags & SYNC_DATA != 0, flags & SYNC_FAILED != 0);
            Operation::Sync { inode, begin, data_only, failed, path: path(fields.0) }
        }
        5 => Operation::SyncAll { begin: fields.number()? },
        6 => {
            fields.number()?;
            Operation::Create { path: path(fields.0) }
        }
        7 => {
            let (inode, replaced, is_folder) = (fields.number()?, fields.number()?, fields.number()? != 0);
            let nul = fields.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
            let (from, to) = (path(&fields.0[..nul]), path(&fields.0[nul + 1..]));
            Operation::Rename { inode, replaced: (replaced != 0).then_some(replaced), is_folder, from, to }
        }
        8 => Operation::Unlink { inode: fields.number()?, path: path(fields.0) },
        9 => Operation::RemoveFolder { path: path(fields.0) },
        10 => {
            fields.number()?;
            Operation::Link { path: path(fields.0) }
        }
        _ => return Err(malformed()),
    })
}

/// What is left of a payload.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> io::Result<u64> {
        let (number, rest) = self.0.split_first_chunk().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the shim's log has a record of unknown form")
}
