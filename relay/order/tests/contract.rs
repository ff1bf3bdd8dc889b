//! The contract of an order, run against every engine, and what each engine promises beyond it.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::{sync::Arc, thread};

use bytes::Bytes;
use quip_core::{Action, Authority, By, Command};
use quip_order::{BatchLimit, Embedded, Faults, Faulty, Limits, Order, Ordered, Submit, SubmitError, embedded, faulty};
use quip_protocol::{ConversationId, DeviceId, UserId};

/// An engine under test.
trait Engine: Submit + 'static {
    fn make(seed: u64) -> (Arc<Self>, Box<dyn Order>);
}

impl Engine for Embedded {
    fn make(_seed: u64) -> (Arc<Self>, Box<dyn Order>) {
        embedded(Limits::default())
    }
}

impl Engine for Faulty {
    fn make(seed: u64) -> (Arc<Self>, Box<dyn Order>) {
        faulty(seed, Faults::default())
    }
}

/// Everything that a consumer may rely upon.
fn contract<E: Engine>() {
    for seed in 0..20 {
        println!("seed {seed}");
        delivers_only_what_it_took::<E>(seed);
        positions_are_dense_after_start::<E>(seed);
        batches_keep_their_limits::<E>(seed);
        ends_when_closed_and_drained::<E>(seed);
        wakes_a_waiting_consumer::<E>(seed);
        refuses_when_the_consumer_is_gone::<E>(seed);
    }
}

#[test]
fn embedded_keeps_the_contract() {
    contract::<Embedded>();
}

#[test]
fn faulty_keeps_the_contract() {
    contract::<Faulty>();
}

fn delivers_only_what_it_took<E: Engine>(seed: u64) {
    let (submit, mut order) = E::make(seed);
    let (mut taken, mut seen) = (Vec::new(), Vec::new());
    for n in 1..=500 {
        let command = post((n % 50) as u8, n, 1);
        if submit.submit(command.clone()).is_ok() {
            taken.push(command);
        }
        if n % 97 == 0 {
            order.next_batch(BatchLimit::default(), &mut seen);
        }
    }
    submit.close();
    seen.extend(drain(&mut *order));
    assert!(seen.iter().all(|ordered| ordered.partition == 0 && taken.contains(&ordered.command)));
    assert!(seen.len() > 100, "an order that loses nearly everything is of no use");
}

fn positions_are_dense_after_start<E: Engine>(seed: u64) {
    let (submit, mut order) = E::make(seed);
    order.start(&[41]);
    (1..=60).for_each(|n| _ = submit.submit(post(1, n, 1)));
    submit.close();
    let seen = drain(&mut *order);
    assert!(seen.iter().map(|ordered| ordered.position).eq(42..42 + seen.len() as u64));
}

fn batches_keep_their_limits<E: Engine>(seed: u64) {
    let (submit, mut order) = E::make(seed);
    (1..=60).for_each(|n| _ = submit.submit(post(1, n, 100)));
    submit.close();
    let weight = post(1, 1, 100).weight();
    for limit in [
        BatchLimit { commands: 3, bytes: usize::MAX },
        BatchLimit { commands: 100, bytes: 2 * weight },
        BatchLimit { commands: 100, bytes: 1 },
    ] {
        let mut batch = Vec::new();
        assert!(order.next_batch(limit, &mut batch));
        let bytes: usize = batch.iter().map(|ordered| ordered.command.weight()).sum();
        assert!((1..=limit.commands).contains(&batch.len()));
        assert!(bytes <= limit.bytes || batch.len() == 1, "{bytes} bytes in {} commands", batch.len());
    }
}

fn ends_when_closed_and_drained<E: Engine>(seed: u64) {
    let (submit, mut order) = E::make(seed);
    (1..=10).for_each(|n| _ = submit.submit(post(1, n, 1)));
    submit.close();
    assert_eq!(submit.submit(post(1, 11, 1)), Err(SubmitError::Closed));
    drain(&mut *order);
    let mut rest = Vec::new();
    assert!(!order.next_batch(BatchLimit::default(), &mut rest) && rest.is_empty());
}

fn wakes_a_waiting_consumer<E: Engine>(seed: u64) {
    let (submit, mut order) = E::make(seed);
    let consumer = thread::spawn(move || {
        let mut seen = Vec::new();
        order.next_batch(BatchLimit::default(), &mut seen).then_some(seen.len())
    });
    // Any one submit may get lost; not all of them.
    (1..=64).for_each(|n| _ = submit.submit(post(1, n, 1)));
    assert!(consumer.join().unwrap().is_some_and(|count| count > 0));

    let (submit, mut order) = E::make(seed);
    let consumer = thread::spawn(move || order.next_batch(BatchLimit::default(), &mut Vec::new()));
    drop(submit);
    assert!(!consumer.join().unwrap(), "dropping the submitting side ends the order");
}

fn refuses_when_the_consumer_is_gone<E: Engine>(seed: u64) {
    let (submit, order) = E::make(seed);
    drop(order);
    assert_eq!(submit.submit(post(1, 1, 1)), Err(SubmitError::Closed));
}

#[test]
fn embedded_delivers_exactly_once_in_order() {
    let (submit, mut order) = embedded(Limits::default());
    let taken: Vec<_> = (1..=3000).map(|n| post((n % 50) as u8, n, 1)).collect();
    taken.iter().for_each(|command| submit.submit(command.clone()).unwrap());
    submit.close();
    assert!(drain(&mut *order).into_iter().map(|ordered| ordered.command).eq(taken));
}

#[test]
fn embedded_keeps_each_submitters_order_under_contention() {
    let (submit, mut order) = embedded(Limits { conversation_commands: usize::MAX, ..Limits::default() });
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
        let mut batch = Vec::new();
        assert!(order.next_batch(BatchLimit { commands: 100, bytes: 1 << 20 }, &mut batch));
        for ordered in batch {
            let (of, n) = (usize::from(ordered.command.conversation.0[1]), n_of(&ordered.command));
            assert_eq!(n, std::mem::replace(&mut next[of], n + 1));
        }
    }
    submitters.into_iter().for_each(|submitter| submitter.join().unwrap());
}

#[test]
fn embedded_counts_commands_of_a_conversation() {
    let limits = Limits { conversation_commands: 3, ..Limits::default() };
    let (submit, mut order) = embedded(limits);
    (1..=3).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 4, 1))));
    assert!(submit.submit(post(2, 1, 1)).is_ok(), "another conversation is not affected");
    order.next_batch(BatchLimit { commands: 1, bytes: usize::MAX }, &mut Vec::new());
    assert!(submit.submit(post(1, 4, 1)).is_ok(), "what was handed out no longer waits");
    assert!(is_full(submit.submit(post(1, 5, 1))));
    order.next_batch(BatchLimit::default(), &mut Vec::new());
    (5..=7).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 8, 1))));
}

#[test]
fn embedded_counts_bytes_of_a_conversation() {
    let weight = post(1, 1, 1000).weight();
    let (submit, mut order) = embedded(Limits { conversation_bytes: 2 * weight, ..Limits::default() });
    (1..=2).for_each(|n| submit.submit(post(1, n, 1000)).unwrap());
    assert!(is_full(submit.submit(post(1, 3, 1))));
    order.next_batch(BatchLimit { commands: 1, bytes: usize::MAX }, &mut Vec::new());
    assert!(submit.submit(post(1, 3, 1000)).is_ok());
}

#[test]
fn embedded_counts_bytes_of_all() {
    let weight = post(1, 1, 1000).weight();
    let (submit, mut order) = embedded(Limits { total_bytes: 3 * weight, ..Limits::default() });
    (1..=3).for_each(|of| submit.submit(post(of, 1, 1000)).unwrap());
    assert!(is_full(submit.submit(post(4, 1, 1))));
    order.next_batch(BatchLimit { commands: 1, bytes: usize::MAX }, &mut Vec::new());
    assert!(submit.submit(post(4, 1, 1000)).is_ok());
}

#[test]
fn embedded_defaults_are_the_documented_ones() {
    let (submit, _order) = embedded(Limits::default());
    (1..=64).for_each(|n| submit.submit(post(1, n, 1)).unwrap());
    assert!(is_full(submit.submit(post(1, 65, 1))), "64 commands of a conversation");
    let fitting = (1..).take_while(|n| submit.submit(post(2, *n, 16_000)).is_ok()).count();
    assert_eq!(fitting, (256 << 10) / post(2, 1, 16_000).weight(), "256 KiB of a conversation");
}

#[test]
fn faulty_repeats_itself_and_does_its_worst() {
    let run = |seed| {
        let (submit, mut order) = faulty(seed, Faults::default());
        let refused = (1..=2000).filter(|n| submit.submit(post(1, *n, 1)).is_err()).count();
        submit.close();
        (refused, drain(&mut *order))
    };
    let (refused, seen) = run(7);
    assert!((refused, seen.clone()) == run(7), "the same seed gives the same order");
    assert!(seen != run(8).1);

    let numbers: Vec<_> = seen.iter().map(|ordered| n_of(&ordered.command)).collect();
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(refused > 50 && distinct.len() + refused < 1900, "refused and dropped");
    assert!(distinct.len() + 200 < numbers.len(), "duplicated");
    assert!(numbers.windows(2).filter(|pair| pair[0] > pair[1]).count() > 200, "reordered");
    let late = |(i, n): (usize, &u64)| numbers[..i].iter().any(|earlier| n + 150 < *earlier);
    assert!(numbers.iter().enumerate().any(late), "delayed");
    assert!(seen.windows(2).any(|pair| pair[0].at > pair[1].at), "the clock runs backwards at times");
}

fn drain(order: &mut dyn Order) -> Vec<Ordered> {
    let mut seen = Vec::new();
    while order.next_batch(BatchLimit::default(), &mut seen) {}
    seen
}

fn is_full(result: Result<(), SubmitError>) -> bool {
    matches!(result, Err(SubmitError::Full { retry_after_ms }) if retry_after_ms > 0)
}

fn post(conversation: u8, n: u64, bytes: usize) -> Command {
    let mut id = [2; 16];
    id[1] = conversation;
    Command {
        conversation: ConversationId(id),
        by: By::Device { user: UserId::parse("ann").unwrap(), device: DeviceId([7; 16]), n },
        authority: Authority::default(),
        action: Action::Post { kind: 1, body: Bytes::from(vec![b'x'; bytes]) },
    }
}

fn n_of(command: &Command) -> u64 {
    match command.by {
        By::Device { n, .. } => n,
        By::Relay => 0,
    }
}
