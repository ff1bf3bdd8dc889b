//! A log of commands in front of the engine, which makes them durable.
//!
//! The engine's journal grows, so that a sync of it also writes the file system's metadata and waits for whatever else that
//! is writing. This log never grows: it has two files that were filled with zeros when they were made, and are written in
//! turn. The engine is synced a little later, by a thread that nobody waits for, and a file is begun anew once it holds
//! nothing that the engine may lose. What was lost is folded again when the store is opened. [`segment`] has the format.

mod segment;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use quip_core::{Command, CommandError, Timestamp};
use quip_order::Ordered;
use thiserror::Error;

use self::segment::{BadHeader, HEADER, Header, Tail};
use crate::folder;

/// Why a log cannot be used. Nothing that was kept in it is changed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk refuses, or is full.
    #[error("the store could not commit to its log {} or read it: {source}; check the disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written, or not what was written here.
    #[error("the log {} is damaged: {what}; restore the store from a backup", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
    /// It was written by a version of Quip that writes another one.
    #[error("the log {} has a format that this version of Quip does not know; use the version that wrote it", .0.display())]
    Format(PathBuf),
    /// It holds a command that this version cannot decide.
    #[error(
        "the log {} holds a command from another version of Quip: {source}; start that one once and stop it with SIGTERM",
        path.display()
    )]
    Command {
        /// The file.
        path: PathBuf,
        /// Which.
        source: CommandError,
    },
}

impl LogError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// An open log. The store keeps other processes away from it.
pub(crate) struct Log {
    folder: PathBuf,
    generation: u64,
    files: [Segment; 2],
    /// The file that is written, once something was kept.
    writing: Option<usize>,
    /// The last position that was kept or applied.
    last: u64,
    /// The engine survives a power loss up to here.
    synced: u64,
    /// What it held when it was opened, by position.
    found: Vec<Found>,
    /// Kept for its allocation.
    block: Vec<u8>,
}

/// One of the two files.
struct Segment {
    path: PathBuf,
    file: File,
    size: u64,
    header: Option<Header>,
    /// The last position in it.
    last: u64,
    /// Where the next block goes.
    end: u64,
}

struct Found {
    position: u64,
    at: Timestamp,
    command: Result<Command, CommandError>,
}

/// Where a batch goes.
#[derive(Clone, Copy)]
enum Room {
    /// Behind what is there.
    In(usize),
    /// Into a file that is begun anew, once the engine is synced up to a position.
    Anew { place: usize, needs: u64 },
}

impl Log {
    /// Opens the log in `folder`, or makes one of two files of half of `bytes` each; one that is there keeps its size.
    ///
    /// # Errors
    /// When it is damaged or the disk fails.
    pub(crate) fn open(folder: &Path, bytes: u64) -> Result<Self, LogError> {
        fs::create_dir_all(folder).map_err(LogError::io(folder))?;
        let mut found = Vec::new();
        let files =
            [Segment::open(folder, 0, bytes / 2, &mut found)?, Segment::open(folder, 1, bytes / 2, &mut found)?];
        found.sort_by_key(|found| found.position);
        let folder = folder.to_owned();
        Ok(Self { folder, generation: 0, files, writing: None, last: 0, synced: 0, found, block: Vec::new() })
    }

    /// Whether anything was ever kept in it.
    pub(crate) fn is_begun(&self) -> bool {
        self.headers().next().is_some()
    }

    /// What it holds beyond the position up to which the store of this generation has it.
    ///
    /// # Errors
    /// When it is another store's, does not go on where this one ends, or has a command that is not known here.
    pub(crate) fn after(&mut self, generation: u64, applied: u64) -> Result<Vec<Ordered>, LogError> {
        let damaged = |what| Err(LogError::Damaged { path: self.folder.clone(), what });
        if let Some(other) = self.headers().find(|header| header.generation != generation) {
            return damaged(format!("it is of the store {:016x}, and this one is {generation:016x}", other.generation));
        }
        let mut found = std::mem::take(&mut self.found);
        // A file that was begun and has nothing yet counts too: it goes on where the other one ended.
        let first = self.headers().map(|header| header.first).min().unwrap_or(1);
        let dense = (first..).zip(&found).take_while(|(position, found)| found.position == *position).count();
        let last = first + dense as u64 - 1;
        if dense < found.len() || self.headers().any(|header| header.first > last + 1) {
            return damaged(format!("what follows command {last} is missing"));
        }
        if !(first - 1..=last).contains(&applied) {
            let has = if last < first { "nothing".to_owned() } else { format!("the commands {first} to {last}") };
            return damaged(format!("it has {has}, and the store ends at {applied}"));
        }
        (self.generation, self.last) = (generation, last);
        found.retain(|found| found.position > applied);
        let ordered = |Found { position, at, command }| {
            let command = command.map_err(|source| LogError::Command { path: self.folder.clone(), source })?;
            Ok(Ordered { partition: 0, position, at, command })
        };
        found.into_iter().map(ordered).collect()
    }

    /// Makes commands durable. [`Self::is_full`] must be false of them.
    ///
    /// # Errors
    /// When the disk fails. Whether they are kept shows when the log is opened.
    pub(crate) fn keep(&mut self, batch: &[Ordered]) -> Result<(), LogError> {
        let Some(first) = batch.first().map(|first| first.position) else { return Ok(()) };
        let place = match self.room(batch) {
            Room::In(place) => place,
            Room::Anew { place, needs } => {
                assert!(
                    needs <= self.synced,
                    "the log is needed up to {needs}, the engine is synced to {}",
                    self.synced
                );
                self.begin(place, first)?
            }
        };
        let file = &mut self.files[place];
        let salt = file.header.map_or(0, |header| header.salt);
        segment::encode(batch, salt, &mut self.block);
        assert!(file.end + self.block.len() as u64 <= file.size, "a batch must fit into a file of the log");
        file.write(&self.block, file.end)?;
        file.end += self.block.len() as u64;
        file.last = first + batch.len() as u64 - 1;
        self.last = file.last;
        Ok(())
    }

    /// Whether more must be [`Self::synced`] before a batch can be kept.
    pub(crate) fn is_full(&self, batch: &[Ordered]) -> bool {
        matches!(self.room(batch), Room::Anew { needs, .. } if needs > self.synced)
    }

    /// The engine survives a power loss up to this position.
    pub(crate) fn synced(&mut self, position: u64) {
        self.synced = position;
    }

    fn headers(&self) -> impl Iterator<Item = Header> {
        self.files.iter().filter_map(|file| file.header)
    }

    fn room(&self, batch: &[Ordered]) -> Room {
        match self.writing {
            Some(place) if self.files[place].has_room(batch) => Room::In(place),
            Some(place) => Room::Anew { place: 1 - place, needs: self.files[1 - place].last },
            // Nothing goes behind what was found: it may end in a torn batch.
            None => Room::Anew { place: self.older(), needs: self.last },
        }
    }

    fn older(&self) -> usize {
        let number = |file: &Segment| file.header.map_or(0, |header| header.number);
        usize::from(number(&self.files[1]) < number(&self.files[0]))
    }

    /// Begins a file anew. Its header is on the disk before anything follows it.
    fn begin(&mut self, place: usize, first: u64) -> Result<usize, LogError> {
        let number = self.headers().map(|header| header.number).max().unwrap_or(0) + 1;
        let file = &mut self.files[place];
        let header = Header { generation: self.generation, number, first, salt: rand::random(), size: file.size };
        file.write(&header.encode(), 0)?;
        (file.header, file.last, file.end) = (Some(header), first - 1, HEADER as u64);
        self.writing = Some(place);
        Ok(place)
    }
}

impl Segment {
    /// Opens the file, or makes it, and appends what it holds.
    fn open(folder: &Path, place: usize, size: u64, into: &mut Vec<Found>) -> Result<Self, LogError> {
        let path = folder.join(format!("{place}.log"));
        let other = folder.join(format!("{}.log", 1 - place));
        let damaged = |what: String| LogError::Damaged { path: path.clone(), what };
        if !path.try_exists().map_err(LogError::io(&path))? {
            // The first file is made first and begun first.
            let is_lost = match place {
                0 => other.try_exists(),
                _ => is_begun(&other),
            };
            if is_lost.map_err(LogError::io(&other))? {
                return Err(damaged("it is missing".to_owned()));
            }
            make(&path, size).map_err(LogError::io(&path))?;
        }
        let file = File::options().write(true).open(&path).map_err(LogError::io(&path))?;
        let bytes = fs::read(&path).map_err(LogError::io(&path))?;
        let header = Header::decode(&bytes).map_err(|bad| match bad {
            BadHeader::Damaged => damaged("its beginning or its length is not what was written".to_owned()),
            BadHeader::UnknownFormat => LogError::Format(path.clone()),
        })?;
        let mut opened = Self { path: path.clone(), file, size: bytes.len() as u64, header, last: 0, end: 0 };
        if let Some(header) = header {
            let read = segment::read(&bytes, header);
            if let Tail::Damaged { at } = read.tail {
                return Err(damaged(format!("the batch at byte {at} is not what was written")));
            }
            (opened.last, opened.end) = (header.first + read.commands.len() as u64 - 1, read.end);
            // What was read may not be on the disk: whoever wrote it may have ended before the sync, or the sync failed.
            opened.write(&bytes[..read.end as usize], 0)?;
            let found = (header.first..).zip(read.commands);
            into.extend(found.map(|(position, (at, command))| Found { position, at, command }));
        }
        Ok(opened)
    }

    fn has_room(&self, batch: &[Ordered]) -> bool {
        self.end + segment::length(batch) as u64 <= self.size
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), LogError> {
        let written = self.file.write_all_at(bytes, at).and_then(|()| self.file.sync_data());
        written.map_err(LogError::io(&self.path))
    }
}

/// Whether a file that is there was begun, or is not what was written.
fn is_begun(path: &Path) -> io::Result<bool> {
    let mut sector = [0; HEADER];
    File::open(path)?.read_exact_at(&mut sector, 0)?;
    Ok(sector.iter().any(|byte| *byte != 0))
}

/// Under another name until it is complete, so that an interrupted start leaves nothing that looks like a log.
fn make(path: &Path, size: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let unfinished = path.with_extension("new");
    let file = File::create(&unfinished)?;
    for at in (0..size).step_by(ZEROS.len()) {
        file.write_all_at(&ZEROS[..ZEROS.len().min((size - at) as usize)], at)?;
    }
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    folder::sync_name(path)
}

#[cfg(test)]
mod tests;
