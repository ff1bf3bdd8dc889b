//! The engine that does its worst.

use std::collections::BTreeMap;

use quip_order::{Batch, BatchLimit, EmbeddedConfig, Faults, MemoryLog, Next, Positions, embedded_in_memory, faulty};

use crate::suite::{Ends, Engine, keeps_the_contract, n_of, post};

struct OverMemory {
    log: MemoryLog,
    seed: u64,
}

impl Engine for OverMemory {
    fn open(&self) -> Ends {
        open(self.log.clone(), self.seed, Faults::default())
    }
}

fn open(log: MemoryLog, seed: u64, faults: Faults) -> Ends {
    let (submit, order) = embedded_in_memory(log, EmbeddedConfig::default());
    let (submit, order) = faulty((submit, order), seed, faults);
    (submit, order)
}

#[test]
fn keeps_the_contract_by_every_seed() {
    keeps_the_contract(20, |seed| OverMemory { log: MemoryLog::new(1), seed });
}

/// How many submits were refused, and every batch.
fn run(seed: u64, faults: Faults) -> (usize, Vec<Batch>) {
    let (submit, mut order) = open(MemoryLog::new(1), seed, faults);
    order.start(&Positions::default()).unwrap();
    let (mut refused, mut batches) = (0, Vec::new());
    for n in 1..=2000 {
        refused += usize::from(submit.submit(post(n as u8, n, 1)).is_err());
        if n % 40 == 0 {
            let mut batch = Batch::default();
            if order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Batch {
                batches.push(batch);
            }
        }
    }
    submit.close();
    let mut batch = Batch::default();
    while order.next_batch(BatchLimit::default(), &mut batch).unwrap() != Next::Ended {
        batches.push(batch.clone());
    }
    (refused, batches)
}

#[test]
fn repeats_itself_and_does_its_worst() {
    let strip = |(refused, batches): (usize, Vec<Batch>)| {
        let numbers = |batch: &Batch| batch.commands.iter().map(|c| (c.position, n_of(&c.command))).collect::<Vec<_>>();
        (refused, batches.iter().map(numbers).collect::<Vec<_>>())
    };
    let (refused, batches) = strip(run(7, Faults::default()));
    assert!((refused, batches.clone()) == strip(run(7, Faults::default())), "the same seed gives the same order");
    assert!(batches != strip(run(8, Faults::default())).1);

    let by_position: BTreeMap<u64, u64> = batches.iter().flatten().copied().collect();
    let redelivered = batches.iter().map(Vec::len).sum::<usize>() - by_position.len();
    assert!(redelivered > 0, "positions come again");
    let numbers: Vec<_> = by_position.into_values().collect();
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(refused > 50 && distinct.len() + refused < 1900, "refused and dropped");
    assert!(distinct.len() + 200 < numbers.len(), "duplicated");
    assert!(numbers.windows(2).filter(|pair| pair[0] > pair[1]).count() > 200, "reordered");
    let late = |(i, n): (usize, &u64)| numbers[..i].iter().any(|earlier| n + 100 < *earlier);
    assert!(numbers.iter().enumerate().any(late), "delayed");
}

#[test]
fn leaves_gaps_if_asked_to() {
    let (_, batches) = run(7, Faults { gaps: 50, redelivered: 0, ..Faults::default() });
    let positions: Vec<u64> = batches.iter().flat_map(|batch| &batch.commands).map(|c| c.position).collect();
    assert!(positions.windows(2).any(|pair| pair[1] > pair[0] + 1));
}

#[test]
fn a_lone_command_is_handed_out_without_another_one_behind_it() {
    let faults = Faults { refused: 0, dropped: 0, ..Faults::default() };
    for seed in 0..50 {
        let (submit, mut order) = open(MemoryLog::new(1), seed, faults);
        order.start(&Positions::default()).unwrap();
        let mut batch = Batch::default();
        assert_eq!(order.next_batch(BatchLimit::default(), &mut batch).unwrap(), Next::Idle);
        submit.submit(post(1, 1, 1)).unwrap();
        assert_eq!(order.next_batch(BatchLimit::default(), &mut batch).unwrap(), Next::Batch);
        assert_eq!(n_of(&batch.commands[0].command), 1);
    }
}
