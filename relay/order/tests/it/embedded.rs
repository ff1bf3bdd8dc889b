//! The order of a single relay, on a log on the disk and in memory.

use std::{path::PathBuf, sync::Arc, thread};

use quip_order::{
    Batch, BatchLimit, EmbeddedConfig, LOG_BYTES_MIN, Limits, LogError, MemoryLog, Next, Order, Ordered, Positions,
    Submit, SubmitError, embedded, embedded_in_memory,
};
use tempfile::TempDir;

use crate::suite::{Ends, Engine, at, drain, filled, keeps_the_contract, n_of, post};

struct OnDisk {
    _folder: TempDir,
    path: PathBuf,
}

impl OnDisk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("log"), _folder: folder }
    }
}

impl Engine for OnDisk {
    fn open(&self) -> Ends {
        let config = EmbeddedConfig { log_bytes: LOG_BYTES_MIN, ..EmbeddedConfig::default() };
        let (submit, order) = embedded(&self.path, config).unwrap();
        (submit, order)
    }
}

pub(crate) struct InMemory(pub(crate) MemoryLog);

impl Engine for InMemory {
    fn open(&self) -> Ends {
        let (submit, order) = embedded_in_memory(self.0.clone(), EmbeddedConfig::default());
        (submit, order)
    }
}

#[test]
fn a_log_on_the_disk_keeps_the_contract() {
    keeps_the_contract(3, |_| OnDisk::new());
}

#[test]
fn a_log_in_memory_keeps_the_contract() {
    keeps_the_contract(3, |seed| InMemory(MemoryLog::new(seed + 1)));
}

fn with_limits(limits: Limits) -> (Arc<dyn Submit>, Box<dyn Order>) {
    let config = EmbeddedConfig { limits, ..EmbeddedConfig::default() };
    let (submit, mut order) = embedded_in_memory(MemoryLog::new(1), config);
    order.start(&Positions::default()).unwrap();
    (submit, order)
}

fn take(order: &mut dyn Order, commands: usize) -> Vec<Ordered> {
    let mut batch = Batch::default();
    let next = order.next_batch(BatchLimit { commands, bytes: usize::MAX }, &mut batch).unwrap();
    assert_eq!(next, Next::Batch);
    batch.commands
}

fn is_full(result: Result<(), SubmitError>) -> bool {
    matches!(result, Err(SubmitError::Full { retry_after_ms }) if retry_after_ms > 0)
}

#[test]
fn delivers_exactly_once_in_order() {
    let log = OnDisk::new();
    let (submit, mut order) = log.open();
    order.start(&Positions::default()).unwrap();
    let taken: Vec<_> = (1..=3000).map(|n| post((n % 50) as u8, n, 1)).collect();
    taken.iter().for_each(|command| submit.submit(command.clone()).unwrap());
    submit.close();
    let mut seen = Default::default();
    drain(&mut *order, &mut seen);
    assert!(seen.into_values().map(|ordered| ordered.command).eq(taken));
}

#[test]
fn keeps_each_submitters_order_under_contention() {
    let limits = Limits { conversation_commands: usize::MAX, ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { limits, ..EmbeddedConfig::default() };
    let (submit, mut order) = embedded(&folder.path().join("log"), config).unwrap();
    order.start(&Positions::default()).unwrap();
    let submitters: Vec<_> = (0..4)
        .map(|of| {
            let submit = submit.clone();
            thread::spawn(move || {
                for n in 1..=2000 {
                    while submit.submit(post(of, n, 1)).is_err() {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = [1; 4];
    while next != [2001; 4] {
        for ordered in take(&mut *order, 100) {
            let (of, n) = (usize::from(ordered.command.conversation.0[1]), n_of(&ordered.command));
            assert_eq!(n, std::mem::replace(&mut next[of], n + 1));
        }
    }
    submitters.into_iter().for_each(|submitter| submitter.join().unwrap());
}

#[test]
fn counts_the_commands_of_a_conversation() {
    let (submit, mut order) = with_limits(Limits { conversation_commands: 3, ..Limits::default() });
    (1..=3).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 4, 1))));
    assert!(submit.submit(post(2, 1, 1)).is_ok(), "another conversation is not affected");
    take(&mut *order, 1);
    assert!(submit.submit(post(1, 4, 1)).is_ok(), "what was handed out no longer waits");
    assert!(is_full(submit.submit(post(1, 5, 1))));
    take(&mut *order, usize::MAX);
    (5..=7).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 8, 1))));
}

#[test]
fn counts_the_bytes_of_a_conversation_and_of_all() {
    let weight = post(1, 1, 1000).weight();
    let (submit, mut order) = with_limits(Limits { conversation_bytes: 2 * weight, ..Limits::default() });
    (1..=2).for_each(|n| submit.submit(post(1, n, 1000)).unwrap());
    assert!(is_full(submit.submit(post(1, 3, 1))));
    take(&mut *order, 1);
    assert!(submit.submit(post(1, 3, 1000)).is_ok());

    let (submit, mut order) = with_limits(Limits { total_bytes: 3 * weight, ..Limits::default() });
    (1..=3).for_each(|of| submit.submit(post(of, 1, 1000)).unwrap());
    assert!(is_full(submit.submit(post(4, 1, 1))));
    take(&mut *order, 1);
    assert!(submit.submit(post(4, 1, 1000)).is_ok());
}

#[test]
fn defaults_are_the_documented_ones() {
    let (submit, _order) = with_limits(Limits::default());
    (1..=64).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 65, 1))), "64 commands of a conversation");
    let fitting = (1..).take_while(|n| submit.submit(post(2, *n, 16_000)).is_ok()).count();
    assert_eq!(fitting, (256 << 10) / post(2, 1, 16_000).weight(), "256 KiB of a conversation");
}

#[test]
fn a_log_is_open_once() {
    let log = OnDisk::new();
    let _open = log.open();
    let again = embedded(&log.path, EmbeddedConfig::default());
    assert!(matches!(again, Err(LogError::InUse(path)) if path == log.path));
}

#[test]
fn a_full_log_waits_for_a_checkpoint_and_loses_nothing() {
    let log = OnDisk::new();
    let (submit, mut order) = log.open();
    order.start(&Positions::default()).unwrap();
    let (mut batch, mut last, mut full, mut wanted) = (Batch::default(), 0, 0, 0);
    for n in 1..=2500 {
        submit.submit(post(1, n, 16_000)).unwrap();
        wanted += u64::from(order.wants_checkpoint());
        while order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Full {
            full += 1;
            order.checkpoint(&at(last)).unwrap();
        }
        assert_eq!(batch.commands[0].position, last + 1);
        last += batch.commands.len() as u64;
    }
    assert!(full >= 1 && wanted > 500, "full {full} times, wanted {wanted} times");
    drop((submit, order));
    let (_submit, mut order) = log.open();
    assert!(order.start(&at(0)).is_err(), "the first commands were given up");
    drop(order);
    let (seen, _) = filled(&log, 0, last - 100);
    assert!(seen.keys().copied().eq(last - 99..=last));
}
