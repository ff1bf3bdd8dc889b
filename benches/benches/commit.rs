//! From submitting to durable: order, fold, store and `fdatasync`, on the sequencer's own thread.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender as Channel, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quip_core::Command;
use quip_order::{Embedded, EmbeddedConfig, Submit, embedded};
use quip_protocol::Code;
use quip_store::{Committed, Sequencer, SequencerConfig, SequencerError, Sink, Store, StoreConfig};
use tempfile::TempDir;

mod common;
use common::Sender;

/// Conversations that the messages go to in turn.
const SENDERS: u64 = 256;
/// No commit may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running sequencer on a new store.
struct Log {
    order: Arc<Embedded>,
    accepted: Receiver<usize>,
    thread: Option<JoinHandle<Result<(), SequencerError>>>,
    _folder: TempDir,
}

/// Tells how many commands each committed batch accepted.
struct Count(Channel<usize>);

impl Sink for Count {
    fn committed(&self, batch: &Arc<Committed>) {
        let outcomes = batch.changes.iter().filter_map(|change| change.outcome);
        let accepted = outcomes.filter(|outcome| outcome.code == Code::DONE).count();
        // Nobody listens any more once the benchmark is over.
        let _ = self.0.send(accepted);
    }
}

impl Log {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let config = EmbeddedConfig::default();
        let (order, consumer) = embedded(&folder.path().join("log"), config).expect("a new log opens");
        let store = Store::open(&folder.path().join("store"), StoreConfig::default(), consumer.generation());
        let store = store.expect("a new store opens");
        let (count, accepted) = channel();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Count(count))];
        let sequencer = Sequencer::start(store, consumer, sinks, SequencerConfig::default());
        let sequencer = sequencer.expect("an empty store");
        let thread = thread::spawn(move || sequencer.run());
        Self { order, accepted, thread: Some(thread), _folder: folder }
    }

    /// Submits and waits until all are durable. Every one must be accepted: a refusal would be cheaper.
    fn commit(&self, commands: impl IntoIterator<Item = Command>) {
        let mut submitted = 0;
        for command in commands {
            self.order.submit(command).expect("there is room");
            submitted += 1;
        }
        while submitted > 0 {
            submitted -= self.accepted.recv_timeout(PATIENCE).expect("every command is accepted");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.order.close();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sequencer does not panic").expect("the sequencer ends well");
        }
    }
}

fn committing(c: &mut Criterion) {
    let log = Log::start();
    let mut senders: Vec<Sender> = (0..SENDERS).map(Sender::new).collect();
    log.commit(senders.iter_mut().map(Sender::join));
    let mut next = 0;
    let mut group = c.benchmark_group("commit");
    for messages in [1, 16, 256] {
        group.throughput(Throughput::Elements(messages));
        group.bench_with_input(BenchmarkId::new("messages", messages), &messages, |b, &messages| {
            b.iter(|| {
                let first = next;
                next += messages;
                log.commit((first..next).map(|at| senders[(at % SENDERS) as usize].post()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, committing);
criterion_main!(benches);
