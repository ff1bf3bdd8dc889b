//! What a power failure leaves of one file's bytes.
//!
//! A file reaches the disk sector by sector, from the page cache: each sector on disk is in some state that it had
//! since the last sync. So a sector that shows a write also shows every earlier write to it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use rand::{Rng, rngs::StdRng};

use super::{
    Report,
    log::{Chunk, Entry, Operation},
};

/// The unit that a disk writes whole, bytes.
const SECTOR: u64 = 512;
/// The unit that the page cache writes back, sectors.
const PAGE: u64 = 8;

/// Changes of one file, oldest first, from the first unsynced one on.
pub(super) struct History<'a> {
    changes: Vec<Change<'a>>,
}

struct Change<'a> {
    at: u64,
    /// What a write overwrote; empty for a change of size alone.
    written: Range<u64>,
    old_size: u64,
    old: &'a [Chunk],
    safety: Safety,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Safety {
    Unsynced,
    Synced,
    /// A sync of it failed: no later sync covers it.
    Doomed,
}

/// Which changes survive where.
enum Plan {
    /// All before this one, and this one up to a sector.
    Cut { change: usize, until: u64 },
    /// Each on its own.
    Each(Vec<Fate>),
    /// Each in each unit of so many sectors by a coin: write-back in any order.
    Scatter { unit: u64, seed: u64 },
}

#[derive(Clone, Copy)]
enum Fate {
    Keep,
    Drop,
    /// Up to this sector.
    Prefix(u64),
}

impl<'a> History<'a> {
    /// The history of `inode`, or nothing when all of it is synced.
    pub(super) fn of(entries: &'a [Entry], inode: u64) -> Option<Self> {
        let mut changes: Vec<Change<'a>> = Vec::new();
        let mut settled = 0;
        for Entry { at, action } in entries {
            match action {
                Operation::Write { inode: of, from, to, old_size, old } if *of == inode => {
                    changes.push(Change::new(*at, *from..*to, *old_size, old));
                }
                Operation::Resize { inode: of, old_size, old } if *of == inode => {
                    changes.push(Change::new(*at, 0..0, *old_size, old));
                }
                Operation::Sync { inode: of, begin, failed, .. } if *of == inode => {
                    settle(&mut changes, &mut settled, *begin, *failed);
                }
                Operation::SyncAll { begin } => settle(&mut changes, &mut settled, *begin, false),
                _ => {}
            }
        }
        let first = changes.iter().position(|change| change.safety != Safety::Synced)?;
        changes.drain(..first);
        Some(Self { changes })
    }

    /// Rewrites the file at `path`, which has all changes, so that it shows some of them.
    pub(super) fn roll_back(&self, path: &Path, rng: &mut StdRng, report: &mut Report) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let plan = self.draw(rng);
        let size = self.draw_size(&plan, file.metadata()?.len(), rng);
        let mut survival = vec![Survival::default(); self.changes.len()];
        for (sector, touching) in self.sectors() {
            self.roll_back_sector(&file, sector, &touching, &plan, &mut survival)?;
        }
        file.set_len(size)?;
        for (change, survival) in self.changes.iter().zip(survival) {
            match survival {
                _ if change.safety == Safety::Synced => {}
                Survival { lost: false, .. } => report.kept += 1,
                Survival { kept: false, .. } => report.dropped += 1,
                Survival { .. } => report.torn += 1,
            }
        }
        Ok(())
    }

    fn roll_back_sector(
        &self,
        file: &File,
        sector: u64,
        touching: &[usize],
        plan: &Plan,
        survival: &mut [Survival],
    ) -> io::Result<()> {
        let now = read_sector(file, sector)?;
        let mut then = now;
        let mut newest_first = touching.iter().rev().copied();
        for index in newest_first.by_ref() {
            let change = &self.changes[index];
            if change.safety == Safety::Synced || plan.keeps(index, sector) {
                survival[index].kept = true;
                break;
            }
            survival[index].lost = true;
            change.undo(sector, &mut then);
        }
        newest_first.for_each(|index| survival[index].kept = true);
        if then != now { file.write_all_at(&then, sector * SECTOR) } else { Ok(()) }
    }

    /// Each sector that unsynced changes touch, with all changes that touch it, oldest first.
    fn sectors(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut sectors = BTreeMap::<u64, Vec<usize>>::new();
        for (index, change) in self.changes.iter().enumerate() {
            for sector in change.sectors() {
                let touching = sectors.entry(sector).or_default();
                if touching.last() != Some(&index) {
                    touching.push(index);
                }
            }
        }
        sectors.retain(|_, touching| touching.iter().any(|index| self.changes[*index].safety != Safety::Synced));
        sectors
    }

    fn draw(&self, rng: &mut StdRng) -> Plan {
        let count = self.changes.len();
        match rng.random_range(0..8) {
            0 => Plan::Cut { change: count, until: 0 },
            1 => Plan::Cut { change: 0, until: 0 },
            2 | 3 => {
                let change = rng.random_range(0..count);
                Plan::Cut { change, until: self.changes[change].draw_sector(rng) }
            }
            4 | 5 => Plan::Each(self.changes.iter().map(|change| change.draw_fate(rng)).collect()),
            6 => Plan::Scatter { unit: 1, seed: rng.random() },
            _ => Plan::Scatter { unit: PAGE, seed: rng.random() },
        }
    }

    /// A size that the file had, not older than its last synced change. Sizes reach the disk in order.
    fn draw_size(&self, plan: &Plan, now: u64, rng: &mut StdRng) -> u64 {
        let count = self.changes.len();
        let synced = self.changes.iter().rposition(|change| change.safety == Safety::Synced).map_or(0, |last| last + 1);
        let version = match plan {
            Plan::Cut { change, .. } => rng.random_range(*change..=(change + 1).min(count)).max(synced),
            Plan::Each(_) | Plan::Scatter { .. } => rng.random_range(synced..=count),
        };
        self.changes.get(version).map_or(now, |next| next.old_size)
    }
}

impl<'a> Change<'a> {
    fn new(at: u64, written: Range<u64>, old_size: u64, old: &'a [Chunk]) -> Self {
        Self { at, written, old_size, old, safety: Safety::Unsynced }
    }

    /// Sectors whose bytes it changed, ascending; some may come twice.
    fn sectors(&self) -> impl Iterator<Item = u64> {
        let chunks = self.old.iter().map(|chunk| chunk.offset..chunk.offset + chunk.bytes.len() as u64);
        let ranges: Vec<_> = if self.written.is_empty() { chunks.collect() } else { vec![self.written.clone()] };
        ranges
            .into_iter()
            .filter(|range| !range.is_empty())
            .flat_map(|range| range.start / SECTOR..range.end.div_ceil(SECTOR))
    }

    fn draw_sector(&self, rng: &mut StdRng) -> u64 {
        rng.random_range(self.written.start / SECTOR..=self.written.end.div_ceil(SECTOR))
    }

    fn draw_fate(&self, rng: &mut StdRng) -> Fate {
        match rng.random_range(0..3) {
            0 => Fate::Keep,
            1 => Fate::Drop,
            _ => Fate::Prefix(self.draw_sector(rng)),
        }
    }

    /// Puts back what it overwrote in one sector.
    fn undo(&self, sector: u64, bytes: &mut [u8; SECTOR as usize]) {
        let start = sector * SECTOR;
        let within = |offset: u64| offset.clamp(start, start + SECTOR);
        let inside = |offset: u64| (within(offset) - start) as usize;
        bytes[inside(self.written.start)..inside(self.written.end)].fill(0);
        for chunk in self.old {
            let (from, to) = (within(chunk.offset), within(chunk.offset + chunk.bytes.len() as u64));
            if from < to {
                let old = &chunk.bytes[(from - chunk.offset) as usize..(to - chunk.offset) as usize];
                bytes[inside(from)..inside(to)].copy_from_slice(old);
            }
        }
    }
}

impl Plan {
    fn keeps(&self, index: usize, sector: u64) -> bool {
        match self {
            Self::Cut { change, until } => index < *change || (index == *change && sector < *until),
            Self::Each(fates) => match fates[index] {
                Fate::Keep => true,
                Fate::Drop => false,
                Fate::Prefix(until) => sector < until,
            },
            Self::Scatter { unit, seed } => {
                let mut hasher = DefaultHasher::new();
                (seed, index, sector / unit).hash(&mut hasher);
                hasher.finish() & 1 == 0
            }
        }
    }
}

/// Whether sectors of a change survived, and whether some did not.
#[derive(Clone, Copy, Default)]
struct Survival {
    kept: bool,
    lost: bool,
}

/// Notes the end of a sync. Each change is settled by the first sync that began after it.
fn settle(changes: &mut [Change<'_>], settled: &mut usize, begin: u64, failed: bool) {
    let to = changes.partition_point(|change| change.at < begin).max(*settled);
    for change in &mut changes[*settled..to] {
        change.safety = if failed { Safety::Doomed } else { Safety::Synced };
    }
    *settled = to;
}

/// Reads one sector; what lies behind the end of the file reads as zeros.
fn read_sector(file: &File, sector: u64) -> io::Result<[u8; SECTOR as usize]> {
    let mut bytes = [0; SECTOR as usize];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], sector * SECTOR + read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(bytes)
}
