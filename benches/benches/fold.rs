//! Deciding a command: what the fold itself costs, without reading or writing records.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use quip_core::{Action, Command, Folded, Key, Loaded, fold, fold::Write, keys};
use quip_protocol::Code;

mod common;
use common::Sender;

const NOW: u64 = 1_700_000_000_000;

/// The records that have been written so far, as a cache would keep them.
#[derive(Default)]
struct Records(Vec<Write>);

impl Records {
    fn load(&mut self, command: &Command) -> Loaded {
        let take = |key| {
            let at = self.0.iter().position(|(other, _)| *other == key);
            at.map_or((key, None), |at| self.0.swap_remove(at))
        };
        Loaded::new(keys(command).into_iter().map(take).collect())
    }

    /// Decides a command, and keeps what `keep` says.
    fn decide(&mut self, command: &Command) -> Folded {
        let loaded = self.load(command);
        let mut folded = fold(black_box(command), NOW, loaded);
        // A refusal would be another, cheaper path.
        assert_eq!(folded.outcome.map(|outcome| outcome.code), Some(Code::DONE));
        self.0.append(&mut folded.unchanged);
        let is_event = |key: &Key| matches!(key, Key::Event(_) | Key::Membership(_));
        self.0.extend(folded.writes.extract_if(.., |(key, _)| !is_event(key)));
        folded
    }
}

fn folding(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    // A conversation in which the sender's 64 outcomes are all in use, as they are in any that is not new.
    let (mut sender, mut records) = (Sender::new(1), Records::default());
    records.decide(&sender.join());
    (0..64).for_each(|_| _ = records.decide(&sender.post()));
    group.bench_function("post", |b| b.iter(|| records.decide(&sender.post())));
    let body = Bytes::from_static(b"something else");
    // A message takes a limited number of edits, so each is of another one.
    group.bench_function("post and edit", |b| {
        b.iter(|| {
            let posted = records.decide(&sender.post());
            let target = posted.event.expect("a post becomes an event").seq;
            records.0.extend(posted.writes);
            let edited = records.decide(&sender.command(Action::Edit { target, body: body.clone() }));
            records.0.retain(|(key, _)| !matches!(key, Key::Event(_) | Key::Edits(_)));
            edited
        });
    });
    group.bench_function("join that makes a direct conversation", |b| {
        let command = Sender::new(2).join();
        b.iter(|| Records::default().decide(&command));
    });
    group.finish();
}

criterion_group!(benches, folding);
criterion_main!(benches);
