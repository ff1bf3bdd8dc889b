//! The activity of the relay's store under load, observed through its files.
//!
//! The engine (fjall 3) has journals `N.jnl`, of which the one with the highest number is written to, and a folder for each
//! keyspace. There, `current` begins with the number of a version, and `vN` lists the tables of version N. A flush adds tables
//! to the list, a compaction replaces tables, and a move changes no table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};

use super::disk::{Disk, Look};

/// Interval of reading the files.
const PAUSE: Duration = Duration::from_millis(50);

/// A kind of activity of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A new journal was started because the old one was full.
    Rotation,
    /// Rows in memory were written to tables.
    Flush,
    /// Tables were replaced by new ones.
    Compaction,
    /// Tables moved to another level unchanged.
    Move,
}

/// One activity of the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) keyspace: String,
    /// When its first file was created.
    pub(super) from: Instant,
    /// When the new version took effect.
    pub(super) to: Instant,
    /// Bytes of the written tables.
    pub(super) bytes: u64,
}

/// All observations.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    pub(super) looks: Vec<Look>,
}

/// The watching thread.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

impl Watch {
    /// Watches the engine's folder; `names` are those of keyspaces by their folder.
    pub(super) fn start(folder: PathBuf, names: &BTreeMap<String, String>) -> Result<Self> {
        let mut watcher = Watcher::new(folder, names)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                watcher.look()?;
                thread::sleep(PAUSE);
            }
            watcher.look()?;
            Ok(watcher.seen)
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the thread that watches the store has panicked"))?
    }
}

struct Watcher {
    folder: PathBuf,
    disk: Disk,
    /// The same moment on the clock of files and on ours.
    clock: (SystemTime, Instant),
    journal: u64,
    keyspaces: Vec<Keyspace>,
    seen: Seen,
}

struct Keyspace {
    name: String,
    folder: PathBuf,
    version: u64,
    tables: BTreeSet<u64>,
}

impl Watcher {
    fn new(folder: PathBuf, names: &BTreeMap<String, String>) -> Result<Self> {
        let mut keyspaces = Vec::new();
        for entry in fs::read_dir(folder.join(KEYSPACES))? {
            let (folder, number) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let number = number.to_string_lossy().into_owned();
            let version = current(&folder)?;
            let tables = tables(&folder, version)?;
            let name = names.get(&number).cloned().unwrap_or(number);
            keyspaces.push(Keyspace { name, folder, version, tables });
        }
        let (disk, clock) = (Disk::of(&folder)?, (SystemTime::now(), Instant::now()));
        let journal = journals(&folder)?.into_iter().max().context("the store has no journal")?;
        Ok(Self { folder, disk, clock, journal, keyspaces, seen: Seen::default() })
    }

    fn look(&mut self) -> Result<()> {
        self.seen.looks.push(self.disk.look()?);
        let last = self.journal;
        for number in journals(&self.folder)?.into_iter().filter(|number| *number > last) {
            let at = made(&self.folder.join(format!("{number}.jnl")), self.clock).unwrap_or_else(Instant::now);
            let keyspace = String::new();
            self.seen.events.push(Event { kind: Kind::Rotation, keyspace, from: at, to: at, bytes: 0 });
            self.journal = self.journal.max(number);
        }
        for keyspace in &mut self.keyspaces {
            keyspace.look(self.clock, &mut self.seen.events)?;
        }
        Ok(())
    }
}

impl Keyspace {
    /// Records every version since the last reading. One that is deleted already counts as part of the next.
    fn look(&mut self, clock: (SystemTime, Instant), events: &mut Vec<Event>) -> Result<()> {
        let latest = current(&self.folder)?;
        for version in self.version + 1..=latest {
            let Ok(tables) = tables(&self.folder, version) else { continue };
            let file = self.folder.join(format!("v{version}"));
            let to = changed(&file, clock).unwrap_or_else(Instant::now);
            let new = tables.difference(&self.tables).map(|table| self.folder.join(format!("{TABLES}/{table}")));
            let mut event =
                Event { kind: kind(&self.tables, &tables), keyspace: self.name.clone(), from: to, to, bytes: 0 };
            for table in new {
                event.bytes += fs::metadata(&table).map_or(0, |table| table.len());
                event.from = made(&table, clock).map_or(event.from, |made| made.min(event.from));
            }
            events.push(event);
            (self.version, self.tables) = (version, tables);
        }
        Ok(())
    }
}

fn kind(before: &BTreeSet<u64>, after: &BTreeSet<u64>) -> Kind {
    match (before.is_subset(after), after.is_subset(before)) {
        (true, true) => Kind::Move,
        (true, false) => Kind::Flush,
        (false, _) => Kind::Compaction,
    }
}

fn journals(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// The number of the current version.
fn current(keyspace: &Path) -> Result<u64> {
    let mut number = [0; 8];
    let path = keyspace.join("current");
    File::open(&path).and_then(|mut file| file.read_exact(&mut number)).with_context(|| path.display().to_string())?;
    Ok(u64::from_le_bytes(number))
}

/// The tables of a version, of all levels.
fn tables(keyspace: &Path, version: u64) -> Result<BTreeSet<u64>> {
    let path = keyspace.join(format!("v{version}"));
    let mut file = File::open(&path).with_context(|| path.display().to_string())?;
    let reader = sfa::Reader::from_reader(&mut file).map_err(|error| anyhow!("{}: {error:?}", path.display()))?;
    let section = reader.toc().section(b"tables").with_context(|| format!("{} lists no tables", path.display()))?;
    let mut bytes = vec![0; section.len() as usize];
    file.seek(SeekFrom::Start(section.pos()))?;
    file.read_exact(&mut bytes)?;
    parse_tables(&bytes).with_context(|| format!("{} has a list of tables in an unknown format", path.display()))
}

/// Levels, of runs, of tables: the count of levels (1 byte), of runs (1 byte) and of tables (4 bytes), and for each table its
/// number (8 bytes) and fields that are skipped.
fn parse_tables(mut bytes: &[u8]) -> Option<BTreeSet<u64>> {
    let mut tables = BTreeSet::new();
    for _level in 0..take::<1>(&mut bytes)?[0] {
        for _run in 0..take::<1>(&mut bytes)?[0] {
            for _table in 0..u32::from_le_bytes(*take(&mut bytes)?) {
                tables.insert(u64::from_le_bytes(*take(&mut bytes)?));
                take::<REST_OF_TABLE>(&mut bytes)?;
            }
        }
    }
    bytes.is_empty().then_some(tables)
}

fn take<'a, const LENGTH: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; LENGTH]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

fn made(path: &Path, clock: (SystemTime, Instant)) -> Option<Instant> {
    instant(fs::metadata(path).ok()?.created().ok()?, clock)
}

fn changed(path: &Path, clock: (SystemTime, Instant)) -> Option<Instant> {
    instant(fs::metadata(path).ok()?.modified().ok()?, clock)
}

fn instant(time: SystemTime, (system, ours): (SystemTime, Instant)) -> Option<Instant> {
    match time.duration_since(system) {
        Ok(after) => ours.checked_add(after),
        Err(before) => ours.checked_sub(before.duration()),
    }
}

/// The folders of the keyspaces in the engine, and of the tables in a keyspace.
pub(super) const KEYSPACES: &str = "keyspaces";
const TABLES: &str = "tables";
/// Kind of checksum, checksum, and a sequence number.
const REST_OF_TABLE: usize = 1 + 16 + 8;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    /// Writes rows over the same range of keys in every call, so that tables of two calls overlap.
    fn flush(database: &Database, keyspace: &fjall::Keyspace) {
        for number in 0..100u8 {
            keyspace.insert([number], [number; 100]).unwrap();
        }
        database.persist(fjall::PersistMode::Buffer).unwrap();
        keyspace.rotate_memtable_and_wait().unwrap();
    }

    #[test]
    fn the_engines_own_flushes_and_compactions_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path()).open().unwrap();
        let keyspace = database.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
        let number = keyspace.path().file_name().unwrap().to_string_lossy().into_owned();
        let names = BTreeMap::from([(number, "rows".to_owned())]);
        let mut watcher = Watcher::new(folder.path().to_owned(), &names).unwrap();
        watcher.look().unwrap();
        assert_eq!(watcher.seen.events, []);
        let before = Instant::now();
        let mut expected = Vec::new();
        for step in [Kind::Flush, Kind::Flush, Kind::Compaction] {
            match step {
                Kind::Flush => flush(&database, &keyspace),
                _ => keyspace.major_compact().unwrap(),
            }
            watcher.look().unwrap();
            expected.push(step);
        }
        // The engine decides when it moves tables.
        let events: Vec<&Event> = watcher.seen.events.iter().filter(|event| event.kind != Kind::Move).collect();
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), expected);
        for event in events {
            // File times have the resolution of the kernel's tick.
            let tick = Duration::from_millis(20);
            assert!(event.from <= event.to && event.from + tick >= before && event.to <= Instant::now(), "{event:?}");
            assert!(event.bytes > 0 && event.keyspace == "rows", "{event:?}");
        }
        assert_eq!(watcher.seen.looks.len(), 4);
    }

    #[test]
    fn a_new_journal_is_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let _database = Database::builder(folder.path()).open().unwrap();
        let mut watcher = Watcher::new(folder.path().to_owned(), &BTreeMap::new()).unwrap();
        let next = watcher.journal + 1;
        File::create(folder.path().join(format!("{next}.jnl"))).unwrap();
        watcher.look().unwrap();
        watcher.look().unwrap();
        let kinds: Vec<Kind> = watcher.seen.events.iter().map(|event| event.kind).collect();
        assert_eq!((kinds, watcher.journal), (vec![Kind::Rotation], next));
    }

    #[test]
    fn a_list_of_tables_is_read_to_its_end() {
        let table = |number: u64| [&number.to_le_bytes()[..], &[0; REST_OF_TABLE]].concat();
        let mut bytes =
            [&[2, 1][..], &2u32.to_le_bytes(), &table(7), &table(9), &[1], &1u32.to_le_bytes(), &table(300)];
        assert_eq!(parse_tables(&bytes.concat()), Some(BTreeSet::from([7, 9, 300])));
        bytes[6] = &[];
        assert_eq!(parse_tables(&bytes.concat()), None);
    }
}
