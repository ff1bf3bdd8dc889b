//! How many messages a second the sequencer folds and commits, without a network.
//!
//! `cargo run --release -p quip-store --example commit -- [conversations] [commands] [folder]`

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quip_core::{Action, Authority, By, Command, JoinAs};
use quip_order::{EmbeddedConfig, Submit, SubmitError, embedded};
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId};
use quip_store::{Committed, Sequencer, SequencerConfig, Sink, Store, StoreConfig};

/// Counts what it is told.
#[derive(Clone, Default)]
struct Counter {
    commands: Arc<AtomicUsize>,
    batches: Arc<AtomicUsize>,
}

impl Sink for Counter {
    fn committed(&self, batch: &Arc<Committed>) {
        self.commands.fetch_add(batch.changes.len(), Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let argument = |i, default| std::env::args().nth(i).map_or(default, |text| text.parse().expect("a number"));
    let (conversations, commands) = (argument(1, 100), argument(2, 1_000_000));
    let temporary = tempfile::tempdir().expect("a folder for temporary files");
    let folder = std::env::args().nth(3).map_or(temporary.path().to_owned(), Into::into);

    let (submit, order) = embedded(&folder.join("log"), EmbeddedConfig::default()).expect("a log");
    let store = Store::open(&folder.join("store"), StoreConfig::default(), order.generation()).expect("a store");
    let counter = Counter::default();
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(counter.clone())];
    let sequencer = Sequencer::start(store, order, sinks, SequencerConfig::default()).expect("an empty store");
    let sequencer = thread::Builder::new().name("sequencer".to_owned()).spawn(|| sequencer.run()).expect("a thread");

    // One at a time: what a quiet relay adds to the latency of a message.
    let mut alone = Vec::new();
    for i in 0..2_000 {
        let begun = Instant::now();
        put(&*submit, if i == 0 { join(conversations) } else { post(conversations, i) });
        while counter.commands.load(Ordering::Relaxed) <= i {
            thread::yield_now();
        }
        alone.push(begun.elapsed());
    }
    alone.sort_unstable();
    println!("one at a time: p50 {:?}, p99 {:?}", alone[alone.len() / 2], alone[alone.len() * 99 / 100]);

    // Bursts of 8 in each conversation, as fast as they are taken.
    let (before, batches, begun) = (2_000, counter.batches.load(Ordering::Relaxed), Instant::now());
    let rounds = commands / conversations / 8;
    for round in 0..rounds {
        for conversation in 0..conversations {
            for i in 0..8 {
                let n = round * 8 + i;
                put(&*submit, if n == 0 { join(conversation) } else { post(conversation, n) });
            }
        }
    }
    let total = rounds * conversations * 8;
    while counter.commands.load(Ordering::Relaxed) < before + total {
        thread::sleep(Duration::from_micros(50));
    }
    let (took, batches) = (begun.elapsed(), counter.batches.load(Ordering::Relaxed) - batches);
    println!(
        "{total} commands in {took:?}: {:.0}/s, {:.2} µs each, {} a batch",
        total as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / total as f64,
        total / batches
    );
    submit.close();
    sequencer.join().expect("no panic").expect("no error");
}

fn put(submit: &dyn Submit, command: Command) {
    while let Err(error) = submit.submit(command.clone()) {
        assert!(matches!(error, SubmitError::Full { .. }), "{error}");
        thread::sleep(Duration::from_micros(50));
    }
}

fn join(conversation: usize) -> Command {
    command(conversation, 0, Action::Join(JoinAs::Room(room(conversation))))
}

fn post(conversation: usize, n: usize) -> Command {
    command(conversation, n, Action::Post { kind: 1, body: Bytes::from_static(&[b'x'; 100]) })
}

fn room(conversation: usize) -> String {
    format!("bench:{conversation}")
}

fn command(conversation: usize, n: usize, action: Action) -> Command {
    let name = room(conversation);
    let user = UserId::parse(&format!("user-{conversation}")).expect("a user id");
    Command {
        conversation: ConversationId::room(&RoomName::parse(&name).expect("a room name")),
        by: By::Device { user, device: DeviceId([1; 16]), n: n as u64 + 1 },
        authority: Authority { join: true, post: true, create: true, ..Authority::default() },
        action,
    }
}
