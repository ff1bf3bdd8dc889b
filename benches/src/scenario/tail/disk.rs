//! The kernel's counters of a disk and of the processors.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::fs::{major, minor};

use crate::proc;

/// Bytes of a sector in the kernel's counters, independent of the disk's sector size.
const SECTOR: u64 = 512;

/// The counters of the disk that holds a folder.
pub(super) struct Disk(Option<PathBuf>);

/// Counters since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) written_bytes: u64,
    /// Writes and flushes in flight now.
    pub(super) in_flight: u64,
    /// Time with anything in flight.
    pub(super) busy: Duration,
    /// Flushes of the disk's own cache, and the time they took.
    pub(super) flushes: u64,
    pub(super) flushing: Duration,
}

/// All counters at one moment.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// `None` if the file system is not on a disk with counters.
    pub(super) disk: Option<Counters>,
    /// Time that all processors together were not idle.
    pub(super) processors: Duration,
}

impl Disk {
    /// The kernel counts flushes only for whole disks, so a partition uses the counters of its disk.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let device = fs::metadata(folder)?.dev();
        let at = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        let stat = if at.join("partition").exists() { at.join("../stat") } else { at.join("stat") };
        Ok(Self(stat.exists().then_some(stat)))
    }

    pub(super) fn look(&self) -> Result<Look> {
        let at = Instant::now();
        let text = self.0.as_ref().map(fs::read_to_string).transpose()?;
        Ok(Look { at, disk: text.and_then(|text| parse(&text)), processors: proc::machine_busy()? })
    }
}

/// Fields as in the kernel's `Documentation/block/stat.rst`; those of flushes exist since Linux 5.5.
fn parse(stat: &str) -> Option<Counters> {
    let fields: Vec<u64> = stat.split_whitespace().map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let millis = |index: usize| Some(Duration::from_millis(*fields.get(index)?));
    Some(Counters {
        written_bytes: fields.get(6)? * SECTOR,
        in_flight: *fields.get(8)?,
        busy: millis(9)?,
        flushes: *fields.get(15)?,
        flushing: millis(16)?,
    })
}

/// The difference between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Between {
    pub(super) written_bytes: u64,
    pub(super) flushes: u64,
    /// Mean time of one flush of the disk.
    pub(super) flush: Duration,
    pub(super) busy_percent: f64,
    /// Maximum in flight at a reading.
    pub(super) in_flight: u64,
}

/// The difference over the shortest series of readings around a span; `None` without counters, or without readings before and
/// after.
pub(super) fn between(looks: &[Look], from: Instant, to: Instant) -> Option<Between> {
    let looks = around(looks, from, to)?;
    let (first, last) = (looks.first()?, looks.last()?);
    let (before, after) = (first.disk?, last.disk?);
    let flushes = after.flushes - before.flushes;
    let time = (last.at - first.at).as_secs_f64();
    Some(Between {
        written_bytes: after.written_bytes - before.written_bytes,
        flushes,
        flush: (after.flushing - before.flushing) / u32::try_from(flushes.max(1)).ok()?,
        busy_percent: 100.0 * (after.busy - before.busy).as_secs_f64() / time,
        in_flight: looks.iter().filter_map(|look| Some(look.disk?.in_flight)).max()?,
    })
}

/// Usage of all processors around a span, in percent.
pub(super) fn processors_percent(looks: &[Look], from: Instant, to: Instant) -> Option<f64> {
    let looks = around(looks, from, to)?;
    let (first, last) = (looks.first()?, looks.last()?);
    let all = (last.at - first.at).as_secs_f64() * std::thread::available_parallelism().ok()?.get() as f64;
    Some(100.0 * last.processors.saturating_sub(first.processors).as_secs_f64() / all)
}

fn around(looks: &[Look], from: Instant, to: Instant) -> Option<&[Look]> {
    let first = looks.partition_point(|look| look.at <= from).checked_sub(1)?;
    let last = looks.partition_point(|look| look.at < to);
    looks.get(first..=last).filter(|looks| looks.len() > 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn counters_are_read_where_the_kernel_puts_them() {
        let stat = "10285677 327900 561243010 15390360 15955188 1786657 625096824 3627654 3 1735224 19648462 1609834 \
                    78 431554136 219766 5501743 410680";
        let expected = Counters {
            written_bytes: 625_096_824 * SECTOR,
            in_flight: 3,
            busy: Duration::from_millis(1_735_224),
            flushes: 5_501_743,
            flushing: Duration::from_millis(410_680),
        };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("1 2 3"), None);
    }

    #[test]
    fn a_span_is_what_the_looks_around_it_say() {
        let start = Instant::now();
        let look = |millis: u64, flushes, in_flight| Look {
            at: start + Duration::from_millis(millis),
            disk: Some(Counters {
                flushes,
                in_flight,
                flushing: Duration::from_millis(2 * flushes),
                busy: Duration::from_millis(millis / 2),
                written_bytes: 10 * flushes,
            }),
            processors: Duration::ZERO,
        };
        let looks = [look(0, 1, 0), look(50, 3, 7), look(100, 11, 1), look(150, 12, 9)];
        let at = |millis| start + Duration::from_millis(millis);
        let found = between(&looks, at(10), at(60)).unwrap();
        let flush = Duration::from_millis(2);
        let expected = Between { written_bytes: 100, flushes: 10, flush, busy_percent: 50.0, in_flight: 7 };
        assert_eq!(found, expected);
        assert_eq!(between(&looks, at(110), at(200)), None);
        assert_eq!(between(&looks, at(50), at(90)).unwrap().flushes, 8);
    }
}
