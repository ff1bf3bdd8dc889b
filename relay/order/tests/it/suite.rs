//! Everything that a consumer may rely upon.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quip_core::{Action, Authority, By, Command};
use quip_order::{Batch, BatchLimit, Next, Order, Ordered, Positions, Submit, SubmitError};
use quip_protocol::{ConversationId, DeviceId, UserId};

pub(crate) type Ends = (Arc<dyn Submit>, Box<dyn Order>);

/// A log, and how to open it. Its orders are opened one after the other.
pub(crate) trait Engine {
    /// Opens the log, again or for the first time.
    fn open(&self) -> Ends;
}

/// Runs the suite against logs that `make` makes by seed.
pub(crate) fn keeps_the_contract<E: Engine>(seeds: u64, make: impl Fn(u64) -> E) {
    for seed in 0..seeds {
        println!("seed {seed}");
        delivers_only_what_it_took(make(seed));
        replays_the_same_from_any_position(make(seed));
        goes_on_behind_what_it_had(make(seed));
        keeps_the_limits_of_batches(make(seed));
        ends_when_closed_and_drained(make(seed));
        is_filled_while_the_consumer_waits(make(seed));
        refuses_when_the_consumer_is_gone(make(seed));
    }
}

fn delivers_only_what_it_took(engine: impl Engine) {
    let (submit, mut order) = engine.open();
    assert_eq!(order.start(&Positions::default()).unwrap().of(0), 0, "an empty log");
    let (mut taken, mut seen) = (Vec::new(), BTreeMap::new());
    for n in 1..=500 {
        let command = post((n % 50) as u8, n, 1);
        if submit.submit(command.clone()).is_ok() {
            taken.push(command);
        }
        if n % 97 == 0 {
            let mut batch = Batch::default();
            if order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Batch {
                note(&batch, &mut seen);
            }
        }
    }
    submit.close();
    drain(&mut *order, &mut seen);
    assert!(seen.values().all(|ordered| taken.contains(&ordered.command)));
    assert!(seen.len() > 100, "an order that loses nearly everything is of no use");
    assert!(seen.keys().copied().eq(1..=seen.len() as u64), "positions are dense");
}

fn replays_the_same_from_any_position(engine: impl Engine) {
    let (seen, generation) = filled(&engine, 300, 0);
    let last = seen.len() as u64;
    for after in [0, 1, last / 2, last - 1, last] {
        let (submit, mut order) = engine.open();
        assert!(order.generation() == generation && generation != 0);
        assert_eq!(order.start(&at(after)).unwrap().of(0), last);
        submit.close();
        let mut again = BTreeMap::new();
        drain(&mut *order, &mut again);
        assert!(again.iter().eq(seen.range(after + 1..)), "after {after}: the same commands, positions and times");
    }
}

fn goes_on_behind_what_it_had(engine: impl Engine) {
    let (mut seen, _) = filled(&engine, 100, 0);
    for _ in 0..3 {
        let last = seen.len() as u64;
        let (submit, mut order) = engine.open();
        order.start(&at(last)).unwrap();
        (1..=60).for_each(|n| _ = submit.submit(post(1, n, 1)));
        order.checkpoint(&at(last)).unwrap();
        submit.close();
        drain(&mut *order, &mut seen);
        assert!(seen.keys().copied().eq(1..=seen.len() as u64) && seen.len() as u64 > last, "positions stay dense");
    }
}

fn keeps_the_limits_of_batches(engine: impl Engine) {
    let (submit, mut order) = engine.open();
    order.start(&Positions::default()).unwrap();
    (1..=60).for_each(|n| _ = submit.submit(post(1, n, 100)));
    submit.close();
    let weight = post(1, 1, 100).weight();
    for limit in [
        BatchLimit { commands: 3, bytes: usize::MAX },
        BatchLimit { commands: 100, bytes: 2 * weight },
        BatchLimit { commands: 100, bytes: 1 },
    ] {
        let mut batch = Batch::default();
        while order.next_batch(limit, &mut batch).unwrap() == Next::Idle {}
        let first = batch.commands.first().unwrap().position;
        // What was handed out before does not count.
        let fresh: Vec<_> = batch.commands.iter().rev().take_while(|ordered| ordered.position >= first).collect();
        let bytes: usize = fresh.iter().map(|ordered| ordered.command.weight()).sum();
        assert!(fresh.len() <= limit.commands + 16);
        assert!(bytes <= limit.bytes.saturating_add(16 * weight), "{bytes} bytes in {} commands", fresh.len());
    }
}

fn ends_when_closed_and_drained(engine: impl Engine) {
    let (submit, mut order) = engine.open();
    order.start(&Positions::default()).unwrap();
    (1..=10).for_each(|n| _ = submit.submit(post(1, n, 1)));
    submit.close();
    assert_eq!(submit.submit(post(1, 11, 1)), Err(SubmitError::Closed));
    drain(&mut *order, &mut BTreeMap::new());
    assert_eq!(order.next_batch(BatchLimit::default(), &mut Batch::default()).unwrap(), Next::Ended);
}

fn is_filled_while_the_consumer_waits(engine: impl Engine) {
    let (submit, mut order) = engine.open();
    order.start(&Positions::default()).unwrap();
    let consumer = thread::spawn(move || {
        let mut batch = Batch::default();
        while order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Idle {}
        (order, batch.commands.len())
    });
    // Any one submit may get lost; not all of them.
    (1..=64).for_each(|n| _ = submit.submit(post(1, n, 1)));
    let (mut order, count) = consumer.join().unwrap();
    assert!(count > 0);
    let consumer = thread::spawn(move || drain(&mut *order, &mut BTreeMap::new()));
    drop(submit);
    consumer.join().unwrap();
}

fn refuses_when_the_consumer_is_gone(engine: impl Engine) {
    let (submit, order) = engine.open();
    drop(order);
    let start = Instant::now();
    while submit.submit(post(1, 1, 1)) != Err(SubmitError::Closed) {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

/// Puts commands through the order, and returns what came out and the log's generation.
pub(crate) fn filled(engine: &impl Engine, commands: u64, after: u64) -> (BTreeMap<u64, Ordered>, u64) {
    let (submit, mut order) = engine.open();
    order.start(&at(after)).unwrap();
    let mut seen = BTreeMap::new();
    for n in 1..=commands {
        _ = submit.submit(post((n % 50) as u8, n, 1));
    }
    submit.close();
    drain(&mut *order, &mut seen);
    (seen, order.generation())
}

pub(crate) fn at(position: u64) -> Positions {
    Positions::from_iter([position])
}

/// Everything until the order has ended, which must be soon.
pub(crate) fn drain(order: &mut dyn Order, seen: &mut BTreeMap<u64, Ordered>) {
    let (start, mut batch) = (Instant::now(), Batch::default());
    loop {
        match order.next_batch(BatchLimit::default(), &mut batch).unwrap() {
            Next::Batch => note(&batch, seen),
            Next::Idle => assert!(start.elapsed() < PATIENCE, "the order does not end"),
            Next::Full => panic!("the log is full"),
            Next::Ended => return,
        }
    }
}

/// What comes at a position is the same whenever it comes.
fn note(batch: &Batch, seen: &mut BTreeMap<u64, Ordered>) {
    assert!(batch.partition == 0 && !batch.commands.is_empty());
    for ordered in &batch.commands {
        let before = seen.insert(ordered.position, ordered.clone());
        assert!(before.is_none_or(|before| before == *ordered), "another command at {}", ordered.position);
    }
}

pub(crate) fn post(conversation: u8, n: u64, bytes: usize) -> Command {
    let mut id = [2; 16];
    id[1] = conversation;
    Command {
        conversation: ConversationId(id),
        by: By::Device { user: UserId::parse("ann").unwrap(), device: DeviceId([7; 16]), n },
        authority: Authority::default(),
        action: Action::Post { kind: 1, body: Bytes::from(vec![b'x'; bytes]) },
    }
}

pub(crate) fn n_of(command: &Command) -> u64 {
    match command.by {
        By::Device { n, .. } => n,
        By::Relay => 0,
    }
}

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
