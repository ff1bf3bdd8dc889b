//! The floor of the disk: the latency of a durable batch on this machine.
//!
//! A message is three rows, as in the relay's store: the event, the conversation's head and the sender's mark. For comparison,
//! `fdatasync` of the same bytes on a plain file, preallocated like the store's journal, so that the sync has no metadata to
//! write.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{
    load::PAYLOAD,
    meter::Meter,
    report::{Options, Report, Sample},
    stats::Latencies,
};

const CACHE: u64 = 64 * 1024 * 1024;
const MEMTABLE: u64 = 64 * 1024 * 1024;
const FILE: u64 = 64 * 1024 * 1024;
/// Number of conversations of the rows.
const CONVERSATIONS: u64 = 1000;
/// Bytes around the text in an event row: version, user, device, number, times.
const EVENT_HEADER: usize = 56;
/// Bytes of a conversation's head row and of a part of a device's send outcomes.
const HEAD_ROW: usize = 64;
const MARK_ROW: usize = 64;
/// Batches of the warmup.
const WARMUP: u32 = 100;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measured seconds of each row and run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Messages in a batch.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256])]
    batch: Vec<u32>,
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("commit", options);
    report.setting("seconds", args.seconds);
    report.setting("payload_bytes", PAYLOAD);
    let length = Duration::from_secs_f64(args.seconds);
    for _ in 0..options.runs() {
        for &messages in &args.batch {
            let batches = measure_store(&options.dir, messages, length, None)?;
            report.add(&format!("store {messages}"), batches);
            let syncs = measure_file(&options.dir, messages, length, None)?;
            report.add(&format!("fdatasync {messages}"), syncs);
        }
    }
    Ok(report)
}

/// One run of durable batches in a new store under `dir`: back to back, or one per `interval`, which leaves disk and processor
/// idle in between as a relay's load does.
pub(crate) fn measure_store(dir: &Path, messages: u32, length: Duration, interval: Option<Duration>) -> Result<Sample> {
    let folder = tempfile::tempdir_in(dir)?;
    let store = Store::open(folder.path())?;
    let mut seq = 0;
    repeat(messages, length, interval, || {
        store.commit(seq, messages)?;
        seq += u64::from(messages);
        Ok(())
    })
}

/// As [`measure_store`], with writes and `fdatasync` of as many bytes as the rows of a batch have.
pub(crate) fn measure_file(dir: &Path, messages: u32, length: Duration, interval: Option<Duration>) -> Result<Sample> {
    let mut file = tempfile::tempfile_in(dir)?;
    preallocate(&mut file)?;
    let row = [7; EVENT_HEADER + PAYLOAD + HEAD_ROW + MARK_ROW];
    let bytes = row.repeat(messages as usize);
    let mut at = 0;
    repeat(messages, length, interval, || {
        if at + bytes.len() as u64 > FILE {
            at = file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&bytes)?;
        at += bytes.len() as u64;
        Ok(file.sync_data()?)
    })
}

fn repeat(
    messages: u32,
    length: Duration,
    interval: Option<Duration>,
    mut commit: impl FnMut() -> Result<()>,
) -> Result<Sample> {
    for _ in 0..WARMUP {
        commit()?;
    }
    let mut latencies = Latencies::new();
    let meter = Meter::start(process::id())?;
    let start = Instant::now();
    let mut due = start;
    while start.elapsed() < length {
        let mut began = Instant::now();
        if let Some(interval) = interval {
            due += interval;
            if due > began {
                thread::sleep(due - began);
                began = Instant::now();
            } else {
                // The batch before took longer than the interval: this one has been waiting since then.
                began = due;
            }
        }
        commit()?;
        latencies.record(began.elapsed());
    }
    let count = latencies.count() as f64 * f64::from(messages);
    let mut sample = Sample::default();
    sample.push_latency(&latencies);
    sample.push("messages_per_s", count / start.elapsed().as_secs_f64());
    meter.finish()?.add_alone_to(&mut sample);
    Ok(sample)
}

fn preallocate(file: &mut File) -> Result<()> {
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..FILE / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

struct Store {
    database: Database,
    events: Keyspace,
    conversations: Keyspace,
    sends: Keyspace,
}

impl Store {
    /// With the settings of the relay's store.
    fn open(path: &Path) -> Result<Self> {
        let database = Database::builder(path)
            .manual_journal_persist(true)
            .cache_size(CACHE)
            .journal_compression(CompressionType::None)
            .worker_threads(3)
            .open()
            .with_context(|| format!("cannot open a store in {}", path.display()))?;
        let options = || KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(MEMTABLE);
        Ok(Self {
            events: database.keyspace("events", options)?,
            conversations: database.keyspace("conversations", options)?,
            sends: database.keyspace("sends", options)?,
            database,
        })
    }

    fn commit(&self, first: u64, messages: u32) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for number in first..first + u64::from(messages) {
            let conversation = number % CONVERSATIONS;
            let head = [&(conversation as u16).to_be_bytes()[..], &[conversation as u8; 16]].concat();
            let event = [&head[..], &number.to_be_bytes()].concat();
            batch.insert(&self.events, event, [7; EVENT_HEADER + PAYLOAD]);
            batch.insert(&self.sends, [&head[..], &[1; 24]].concat(), [number as u8; MARK_ROW]);
            batch.insert(&self.conversations, head, [number as u8; HEAD_ROW]);
        }
        Ok(batch.commit()?)
    }
}
