//! A small fjall database to cut the power of: `fjall-writer write FOLDER FIRST [--no-sync]` commits batches and prints
//! the number of each once it is committed; `fjall-writer check FOLDER LAST [--raw]` opens what is left, checks that
//! the batches up to LAST are whole, and prints the number of the last one there.

mod journal;

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, ensure};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// Small, so that flushes and compactions happen within a second.
const MEMTABLE_BYTES: u64 = 1 << 20;
/// Of one value: from a short message to the longest.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 32..=16 * 1024;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["write", folder, first, ref flags @ ..] => write(folder.as_ref(), first, !flags.contains(&"--no-sync")),
        ["check", folder, last, ref flags @ ..] => check(folder.as_ref(), last, !flags.contains(&"--raw")),
        _ => Err(anyhow::anyhow!("usage: fjall-writer write FOLDER FIRST [--no-sync] | check FOLDER LAST [--raw]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Store {
    database: Database,
    events: Keyspace,
    heads: Keyspace,
}

impl Store {
    fn open(folder: &Path, repair: bool) -> anyhow::Result<Self> {
        if repair {
            journal::repair(folder).context("before opening")?;
        }
        let builder = Database::builder(folder).manual_journal_persist(true).worker_threads(2);
        let database = builder.journal_compression(CompressionType::None).open().context("fjall does not open")?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let (events, heads) = (database.keyspace("events", options)?, database.keyspace("heads", options)?);
        // fjall does not: by POSIX a new keyspace may vanish with all that was synced in it.
        File::open(folder.join("keyspaces"))?.sync_all()?;
        Ok(Self { database, events, heads })
    }

    fn commit(&self, number: u64, sync: bool) -> anyhow::Result<()> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in rows(number) {
            batch.insert(&self.events, key, value);
        }
        batch.insert(&self.heads, "head", number.to_be_bytes());
        Ok(batch.commit()?)
    }
}

fn write(folder: &Path, first: &str, sync: bool) -> anyhow::Result<()> {
    let store = Store::open(folder, true)?;
    let mut out = io::stdout().lock();
    for number in first.parse()?.. {
        store.commit(number, sync).with_context(|| format!("committing {number}"))?;
        writeln!(out, "{number}")?;
    }
    Ok(())
}

fn check(folder: &Path, last: &str, repair: bool) -> anyhow::Result<()> {
    let last: u64 = last.parse()?;
    let store = Store::open(folder, repair)?;
    let snapshot = store.database.snapshot();
    let head =
        snapshot.get(&store.heads, "head")?.map_or(Ok(0), |head| head.as_ref().try_into().map(u64::from_be_bytes))?;
    ensure!(head >= last, "batch {last} was committed, {head} is the last one there");
    let mut found = snapshot.iter(&store.events);
    for number in 1..=head {
        for (key, value) in rows(number) {
            let row = found.next().with_context(|| format!("batch {number} is missing"))?.into_inner()?;
            ensure!(row.0 == key && row.1 == value, "batch {number} is damaged");
        }
    }
    ensure!(found.next().is_none(), "rows of a batch that its head does not know");
    println!("{head}");
    Ok(())
}

/// What batch `number` consists of: up to eight values, most of them short, and sometimes up to 128 long ones, as when
/// many commands waited for one commit.
fn rows(number: u64) -> Vec<([u8; 9], Vec<u8>)> {
    let mut rng = StdRng::seed_from_u64(number);
    let large = rng.random_ratio(1, 8);
    let count = rng.random_range(1..=if large { 128 } else { 8 });
    let row = |index: u8| {
        let longest = if large || rng.random_ratio(1, 4) { *VALUE_BYTES.end() } else { 512 };
        let mut value = vec![0; rng.random_range(*VALUE_BYTES.start()..=longest)];
        rng.fill_bytes(&mut value);
        let mut key = [index; 9];
        key[..8].copy_from_slice(&number.to_be_bytes());
        (key, value)
    };
    (0..count).map(row).collect()
}
