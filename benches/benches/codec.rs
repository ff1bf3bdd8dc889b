//! Frames and messages: what the codec costs for each message.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quip_protocol::{
    Blob, Event, ToClient, ToRelay,
    conversation::{Accepted, Post},
    event::kind,
    frame, limit,
};

/// Messages in the stream that is cut into frames.
const MESSAGES: u64 = 64;
const TEXT: [u8; 32] = [b'.'; 32];

fn post(n: u64) -> Post<'static> {
    Post { n, kind: kind::TEXT, body: Blob(&TEXT) }
}

fn event(seq: u64) -> Event<'static> {
    let at = 1_700_000_000_000 + seq;
    Event { seq, number: seq, at, user: "a-user-of-20-letters", kind: kind::TEXT, body: Blob(&TEXT) }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("post into a buffer", |b| {
        b.iter(|| {
            out.clear();
            frame::encode(black_box(&post(1000)), &mut out);
            out.len()
        });
    });
    let accepted = Accepted { n: 1000, seq: 2000, number: 2000, at: 1_700_000_000_000 };
    group.bench_function("accepted into a buffer", |b| {
        b.iter(|| {
            out.clear();
            frame::encode(black_box(&accepted), &mut out);
            out.len()
        });
    });
    group.bench_function("event of its own allocation", |b| b.iter(|| frame::to_bytes(black_box(&event(1000)))));
    group.finish();
}

fn decode(c: &mut Criterion) {
    let (mut posts, mut events) = (Vec::new(), Vec::new());
    for number in 1..=MESSAGES {
        frame::encode(&post(number), &mut posts);
        frame::encode(&event(number), &mut events);
    }
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("64 posts", |b| {
        b.iter(|| count(&posts, |frame| matches!(ToRelay::decode(frame), Ok(Some(ToRelay::Post(_))))));
    });
    group.bench_function("64 events", |b| {
        b.iter(|| count(&events, |frame| matches!(ToClient::decode(frame), Ok(Some(ToClient::Event(_))))));
    });
    group.finish();
}

/// Counts the frames that are what they should be; all of them, or the figure would mean nothing.
fn count(bytes: &[u8], mut is_right: impl FnMut(frame::Frame<'_>) -> bool) -> u64 {
    let (mut rest, mut right) = (black_box(bytes), 0);
    while let Ok(Some((frame, length))) = frame::split(rest, limit::FRAME) {
        right += u64::from(is_right(frame));
        rest = &rest[length..];
    }
    assert_eq!(right, MESSAGES);
    right
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
