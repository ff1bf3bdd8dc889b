//! A log of commands on the disk.
//!
//! It has a fixed number of segments, files that were filled with zeros when they were made and never grow, so that a sync
//! has no metadata to write. They are written in turn; one is recycled once the view has everything in it for good.
//! [`segment`] has the format.

use std::{
    collections::VecDeque,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use quip_core::{CommandError, FOLD_VERSION};
use thiserror::Error;

use super::{
    CommandLog,
    direct::{Durable, Sectors},
    make::{file, is_made, make},
    segment::{self, BadHeader, Block, Header, SECTOR},
};
use crate::{BatchLimit, Ordered, Watch};

/// How many segments a log has.
pub(super) const SEGMENTS: usize = 8;
const BAD_LENGTH: &str = "its length is not what was written";

/// Why a log cannot be used. Nothing that is in it is changed.
#[derive(Debug, Error)]
pub enum LogError {
    /// Another process has it open.
    #[error("the log {} is in use by another process; stop that one or choose another folder", .0.display())]
    InUse(PathBuf),
    /// The disk refuses, or is full.
    #[error("could not read or write the log {}: {source}; check the disk and the rights on the folder", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written, or not what was written here.
    #[error(
        "the log {} is damaged: {what}; put a backup in the place of the data folder and run `quip-relay restore`",
        path.display()
    )]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
    /// It has another format.
    #[error("the log {} has a format that this version of Quip does not know; use the version that wrote it", .0.display())]
    Format(PathBuf),
    /// It holds commands that another version decided, and this one could decide otherwise.
    #[error(
        "the log {} holds commands of fold version {found}, and this version of Quip has {known}; start the version that \
         wrote it once and stop it with SIGTERM",
        path.display()
    )]
    FoldVersion {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What is known here.
        known: u64,
    },
    /// It holds a command that this version cannot read.
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
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// An open log.
pub(super) struct Log {
    folder: PathBuf,
    generation: u64,
    segments: Vec<Segment>,
    /// The segment that is written, once something was appended, and where its next block goes.
    current: Option<(usize, usize)>,
    last: u64,
    /// The view has everything up to here for good.
    checkpoint: u64,
    replay: Replay,
    /// Kept for its allocation.
    buffer: Sectors,
    watch: Watch,
}

/// One of the files.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    durable: Durable,
    size: u64,
    pub(super) header: Option<Header>,
    /// The last position in it; the one before the first when it has none.
    last: u64,
}

/// What was found and is still to be handed out.
#[derive(Default)]
struct Replay {
    /// Segments, oldest first.
    segments: VecDeque<usize>,
    /// The content of the first of them, and where its next block begins.
    bytes: Vec<u8>,
    at: usize,
}

impl Log {
    /// Opens the log in `folder`, or makes one whose segments have `segment_bytes`; one that is there keeps its size. The
    /// folder may be there without a log, as where another disk is mounted.
    ///
    /// # Errors
    /// When it is in use or damaged, or the disk fails.
    pub(super) fn open(folder: &Path, segment_bytes: u64, watch: Watch) -> Result<Self, LogError> {
        if !is_made(folder).map_err(LogError::io(folder))? {
            make(folder, segment_bytes).map_err(LogError::io(folder))?;
        }
        let segments = open_segments(folder)?;
        let mut generations = segments.iter().filter_map(|segment| segment.header).map(|header| header.generation);
        let damaged = |what: &str| LogError::Damaged { path: folder.to_owned(), what: what.to_owned() };
        let generation = generations.next().ok_or_else(|| damaged("all of its segments are empty"))?;
        if generations.any(|other| other != generation) {
            return Err(damaged("its segments are of different logs"));
        }
        let (folder, current, replay) = (folder.to_owned(), None, Replay::default());
        let buffer = Sectors::with_capacity(segment::LARGEST as usize);
        Ok(Self { folder, generation, segments, current, last: 0, checkpoint: 0, replay, buffer, watch })
    }

    fn damaged(&self, what: String) -> LogError {
        LogError::Damaged { path: self.folder.clone(), what }
    }

    /// The segments that were begun, oldest first, by their place.
    fn begun(&self) -> Vec<(usize, Header)> {
        let headers = self.segments.iter().map(|segment| segment.header).enumerate();
        let mut begun: Vec<_> = headers.filter_map(|(i, header)| Some((i, header?))).collect();
        begun.sort_unstable_by_key(|(_, header)| header.number);
        begun
    }

    /// Looks through the segments that hold something behind `after`, and keeps them for [`CommandLog::replay`].
    fn find(&mut self, after: u64) -> Result<(), LogError> {
        let begun = self.begun();
        let first = begun.first().map_or(1, |(_, header)| header.first);
        self.last = first - 1;
        for (k, (i, header)) in begun.iter().enumerate() {
            let next = begun.get(k + 1).map(|(_, next)| next);
            if next.is_some_and(|next| next.number != header.number + 1 || next.first < header.first) {
                return Err(self.damaged(format!("the segment behind number {} is missing", header.number)));
            }
            self.last = match next.filter(|next| next.first <= after + 1) {
                Some(next) => next.first - 1,
                None => self.look(*i, *header)?,
            };
            self.segments[*i].last = self.last;
            if next.is_some_and(|next| next.first != self.last + 1) {
                return Err(self.damaged(format!("what follows command {} is missing", self.last)));
            }
            if self.last > after && header.first <= self.last {
                self.check_version(*i, *header)?;
                self.replay.segments.push_back(*i);
            }
        }
        if !(first - 1..=self.last).contains(&after) {
            let (has, last) = (self.last >= first, self.last);
            let has = if has { format!("the commands {first} to {last}") } else { "nothing".to_owned() };
            return Err(self.damaged(format!("it has {has}, and the store ends at {after}")));
        }
        Ok(())
    }

    /// Checks a segment, and makes what it holds durable: the process that wrote it may have ended before the sync.
    fn look(&mut self, i: usize, header: Header) -> Result<u64, LogError> {
        let segment = &self.segments[i];
        let bytes = segment.read()?;
        let content = segment::scan(&bytes, header).map_err(|at| LogError::Damaged {
            path: segment.path.clone(),
            what: format!("the batch at byte {at} is not what was written"),
        })?;
        segment.rewrite(&bytes[..content.end], &self.watch)?;
        Ok(content.last)
    }

    fn check_version(&self, i: usize, header: Header) -> Result<(), LogError> {
        let (path, found, known) = (self.segments[i].path.clone(), header.fold, FOLD_VERSION);
        if found == known { Ok(()) } else { Err(LogError::FoldVersion { path, found, known }) }
    }

    /// Whether a segment holds nothing that is still needed.
    fn is_free(&self, i: usize) -> bool {
        let segment = &self.segments[i];
        let written = self.current.is_some_and(|(current, _)| current == i);
        !written && (segment.header.is_none() || segment.last <= self.checkpoint)
    }

    fn free(&self) -> impl Iterator<Item = usize> {
        (0..SEGMENTS).filter(|i| self.is_free(*i))
    }

    /// The segment to begin next, and its number: the newest one if it holds nothing, or else a free one that was never begun,
    /// or else the oldest free one. The others stay without a hole, and no command in the newest one is written over, which a
    /// power loss could do without its header.
    fn next(&self) -> Option<(usize, u64)> {
        let newest = self.begun().pop();
        let (newest_place, number) = newest.map_or((0, 0), |(i, header)| (i, header.number));
        if newest.is_some_and(|(i, header)| self.current.is_none() && self.segments[i].last < header.first) {
            return Some((newest_place, number));
        }
        let oldest = self.free().min_by_key(|i| self.segments[*i].header.map_or(0, |header| header.number));
        oldest.map(|i| (i, number + 1))
    }

    /// Puts the header of the next segment into the buffer and returns its place.
    fn begin(&mut self, first: u64) -> usize {
        let (i, number) = self.next().expect("append is not called while the log is full");
        let (generation, size, salt, fold) = (self.generation, self.segments[i].size, rand::random(), FOLD_VERSION);
        let header = Header { generation, number, first, salt, size, fold };
        self.buffer.append(|buffer| buffer.extend_from_slice(&header.encode()));
        self.segments[i].header = Some(header);
        i
    }

    fn room(&self) -> u64 {
        self.current.map_or(0, |(i, end)| self.segments[i].size - end as u64)
    }
}

impl CommandLog for Log {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn start(&mut self, after: u64) -> Result<u64, LogError> {
        self.checkpoint = after;
        self.find(after)?;
        Ok(self.last)
    }

    fn replay(&mut self, limit: BatchLimit, into: &mut Vec<Ordered>) -> Result<(), LogError> {
        let mut weight = 0;
        while let Some(i) = self.replay.segments.front() {
            let (segment, replay) = (&self.segments[*i], &mut self.replay);
            let Some(header) = segment.header else { break };
            if replay.bytes.is_empty() {
                (replay.bytes, replay.at) = (segment.read()?, SECTOR);
            }
            let Some(block) = Block::read(&replay.bytes[replay.at..], header.salt, |first| first <= segment.last)
            else {
                replay.bytes.clear();
                replay.segments.pop_front();
                continue;
            };
            let (before, at) = (into.len(), block.at);
            for (position, command) in (block.first..).zip(block.commands()) {
                let command = command.map_err(|source| LogError::Command { path: segment.path.clone(), source })?;
                if position > self.checkpoint {
                    weight += command.weight();
                    into.push(Ordered { position, at, command });
                }
            }
            if before > 0 && (into.len() > limit.commands || weight > limit.bytes) {
                into.truncate(before);
                return Ok(());
            }
            replay.at += block.len();
        }
        self.replay = Replay::default();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.room() < segment::LARGEST.min(self.segments[0].size) && self.next().is_none()
    }

    fn is_half_full(&self) -> bool {
        self.free().count() <= SEGMENTS / 2
    }

    fn last(&self) -> u64 {
        self.last
    }

    fn append(&mut self, batch: &[Ordered]) -> Result<(), LogError> {
        let Some(first) = batch.first().map(|first| first.position) else { return Ok(()) };
        debug_assert_eq!(first, self.last + 1, "positions are dense");
        self.buffer.clear();
        let (mut i, mut end) = self.current.unwrap_or((0, usize::MAX));
        if let Some(header) = self.segments[i].header.filter(|_| self.current.is_some()) {
            self.buffer.append(|buffer| segment::encode(batch, header.salt, buffer));
        }
        if self.current.is_none() || end as u64 + self.buffer.len() as u64 > self.segments[i].size {
            self.buffer.clear();
            (i, end) = (self.begin(first), 0);
            let salt = self.segments[i].header.map_or(0, |header| header.salt);
            self.buffer.append(|buffer| segment::encode(batch, salt, buffer));
        }
        let segment = &mut self.segments[i];
        assert!((end + self.buffer.len()) as u64 <= segment.size, "a batch fits into a segment");
        segment.write(&self.buffer, end as u64, &self.watch)?;
        self.last = first + batch.len() as u64 - 1;
        segment.last = self.last;
        self.current = Some((i, end + self.buffer.len()));
        Ok(())
    }

    fn checkpoint(&mut self, upto: u64) {
        self.checkpoint = self.checkpoint.max(upto);
    }
}

impl Segment {
    /// Opens one. The first is locked, before anything is looked at.
    fn open(folder: &Path, i: usize) -> Result<Self, LogError> {
        let path = file(folder, i);
        let damaged = |what: &str| LogError::Damaged { path: path.clone(), what: what.to_owned() };
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is missing")),
            file => file.map_err(LogError::io(&path))?,
        };
        match if i == 0 { file.try_lock() } else { Ok(()) } {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(LogError::Io { path, source }),
        }
        let size = file.metadata().map_err(LogError::io(&path))?.len();
        let mut sector = [0; SECTOR];
        if size < SECTOR as u64 {
            return Err(damaged(BAD_LENGTH));
        }
        file.read_exact_at(&mut sector, 0).map_err(LogError::io(&path))?;
        let header = Header::decode(&sector).map_err(|bad| match bad {
            BadHeader::Damaged => damaged("its beginning is not what was written"),
            BadHeader::UnknownFormat => LogError::Format(path.clone()),
        })?;
        if header.is_some_and(|header| header.size != size) {
            return Err(damaged(BAD_LENGTH));
        }
        let durable = Durable::open(&path).map_err(LogError::io(&path))?;
        Ok(Self { path, file, durable, size, header, last: 0 })
    }

    fn read(&self) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; self.size as usize];
        self.file.read_exact_at(&mut bytes, 0).map_err(LogError::io(&self.path))?;
        Ok(bytes)
    }

    fn write(&mut self, sectors: &Sectors, at: u64, watch: &Watch) -> Result<(), LogError> {
        watch.during(|| self.durable.write_at(sectors, at)).map_err(LogError::io(&self.path))
    }

    /// Writes what was read, from the beginning.
    fn rewrite(&self, bytes: &[u8], watch: &Watch) -> Result<(), LogError> {
        let write = || self.file.write_all_at(bytes, 0).and_then(|()| self.file.sync_data());
        watch.during(write).map_err(LogError::io(&self.path))
    }
}

/// Opens every segment. The log is this process's own for as long as they are open.
pub(super) fn open_segments(folder: &Path) -> Result<Vec<Segment>, LogError> {
    let segments = (0..SEGMENTS).map(|i| Segment::open(folder, i)).collect::<Result<Vec<_>, _>>()?;
    match segments.iter().find(|segment| segment.size != segments[0].size) {
        Some(other) => Err(LogError::Damaged { path: other.path.clone(), what: BAD_LENGTH.to_owned() }),
        None => Ok(segments),
    }
}
