//! Deciding a command: what the fold itself costs, without reading or writing rows.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use quip_core::{Action, Command, Folded, Rows, fold, keys};
use quip_protocol::Code;

mod common;
use common::Sender;

const NOW: u64 = 1_700_000_000_000;

fn decide(command: &Command, rows: Rows) -> Folded {
    let folded = fold(black_box(command), NOW, rows);
    // A refusal would be another, cheaper path.
    assert_eq!(folded.outcome.map(|outcome| outcome.code), Some(Code::DONE));
    folded
}

/// A conversation in which the sender's 64 outcomes are all in use, as they are in any that is not new.
fn warm(sender: &mut Sender) -> Rows {
    let mut rows = decide(&sender.join(), Rows::default()).rows;
    for _ in 0..64 {
        rows = decide(&sender.post(), rows).rows;
    }
    rows
}

fn folding(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    let mut sender = Sender::new(1);
    let mut rows = warm(&mut sender);
    group.bench_function("post", |b| {
        b.iter(|| rows = decide(&sender.post(), std::mem::take(&mut rows)).rows);
    });
    group.bench_function("post, and the keys of its rows", |b| {
        b.iter(|| {
            let command = sender.post();
            black_box(keys(&command));
            rows = decide(&command, std::mem::take(&mut rows)).rows;
        });
    });
    let posted = decide(&sender.post(), std::mem::take(&mut rows));
    let event = posted.event.expect("a post becomes an event");
    rows = Rows { event: Some(event.row), ..posted.rows };
    let body = Bytes::from_static(b"something else");
    group.bench_function("edit", |b| {
        b.iter(|| {
            let edit = sender.command(Action::Edit { target: event.seq, body: body.clone() });
            rows = decide(&edit, std::mem::take(&mut rows)).rows;
        });
    });
    group.bench_function("join that makes a direct conversation", |b| {
        let command = Sender::new(2).join();
        b.iter(|| decide(&command, Rows::default()));
    });
    group.finish();
}

criterion_group!(benches, folding);
criterion_main!(benches);
