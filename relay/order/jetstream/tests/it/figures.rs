//! What the order costs here: `cargo test -p quip-jetstream --release -- --ignored --nocapture figures`.

use std::time::Instant;

use quip_jetstream::jetstream;
use quip_order::{Batch, BatchLimit, Limits, Next, Order, Positions, Submit, system_clock};

use crate::{config, server::Servers, suite::post};

/// From submitting to having it back, one command at a time and many at once.
fn figures(servers: &Servers, name: &str) {
    let limits = Limits { conversation_commands: usize::MAX, conversation_bytes: usize::MAX, total_bytes: 1 << 30 };
    let (submit, mut order) = jetstream(config(servers), limits, system_clock()).unwrap();
    order.start(&Positions::default()).unwrap();
    let mut alone: Vec<_> = (1..=2000)
        .map(|n| {
            let start = Instant::now();
            submit.submit(post(1, n, 100)).unwrap();
            take(&mut *order, 1);
            start.elapsed()
        })
        .collect();
    alone.sort_unstable();
    let count = 20_000;
    let start = Instant::now();
    (1..=count).for_each(|n| submit.submit(post(1, n, 100)).unwrap());
    take(&mut *order, count);
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{name}: p50 {:?}, p99 {:?} alone; {rate:.0}/s together", alone[1000], alone[1980]);
}

fn take(order: &mut dyn Order, mut count: u64) {
    let mut batch = Batch::default();
    while count > 0 {
        if order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Batch {
            count -= batch.commands.len() as u64;
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn figures_of_one_and_of_three_servers() {
    if let Some(servers) = Servers::alone() {
        figures(&servers, "R1");
    }
    if let Some(servers) = Servers::three() {
        figures(&servers, "R3");
    }
}
