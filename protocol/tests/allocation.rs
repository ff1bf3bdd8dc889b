//! What a hostile frame can make a receiver allocate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use allocation_counter::measure;
use proptest::prelude::*;
use quip_protocol::{Frame, Items, ToClient, ToRelay, conversation::Outcome, frame, limit};

/// Bytes that the allocator was asked for on this thread, freed or not.
fn allocated(f: impl FnOnce()) -> usize {
    usize::try_from(measure(f).bytes_total).unwrap()
}

fn read(bytes: &[u8]) {
    if let Ok(Some((frame, _))) = frame::split(bytes, limit::FRAME) {
        read_body(frame);
    }
}

fn read_body(frame: Frame<'_>) {
    let _ = ToRelay::decode(frame);
    let _ = ToClient::decode(frame);
}

/// Looks at everything in a message as a relay or client would.
fn use_up(bytes: &[u8]) {
    let Ok(Some((frame, _))) = frame::split(bytes, limit::FRAME) else { return };
    match (ToRelay::decode(frame), ToClient::decode(frame)) {
        (Ok(Some(ToRelay::Open(open))), _) => drop((open.target(), open.start())),
        (_, Ok(Some(ToClient::Opened(opened)))) => assert!(opened.outcomes.iter().count() <= 64),
        (_, Ok(Some(ToClient::Welcome(welcome)))) => assert!(welcome.relays.iter().count() <= limit::RELAYS),
        _ => {}
    }
}

fn assert_bounded(bytes: &[u8]) {
    assert_eq!(allocated(|| read(bytes)), 0, "decoding borrows");
    let most = 4 * bytes.len() + 1024;
    let used = allocated(|| use_up(bytes));
    assert!(used <= most, "{used} bytes for a frame of {}", bytes.len());
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocated(|| drop(std::hint::black_box(vec![0u8; 4096]))), 4096);
}

#[test]
fn every_message() {
    for sample in common::samples() {
        assert_bounded(&sample.golden);
    }
}

#[test]
fn every_length_that_lies() {
    for sample in common::samples() {
        for at in 0..sample.golden.len() {
            let mut damaged = sample.golden.clone();
            damaged.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
            assert_bounded(&damaged);
            // With a header that fits the longer body, the lie is inside it.
            let body = &damaged[..];
            assert_eq!(allocated(|| read_body(Frame { kind: sample.kind, body })), 0);
        }
    }
}

#[test]
fn a_full_list() {
    let outcome = Outcome {
        n: 1,
        code: quip_protocol::Code::DONE,
        seq: u64::MAX,
        number: u64::MAX,
        at: u64::MAX,
        check: [255; 4],
    };
    let bytes = postcard::to_allocvec(&Items::encode([outcome; 64])).unwrap();
    let parse = || postcard::from_bytes::<Items<'_, Outcome>>(&bytes).unwrap().iter().count();
    assert_eq!(allocated(|| assert_eq!(parse(), 64)), 0, "a list is read in place");
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        assert_bounded(&bytes);
        let body = &bytes[..];
        for sample in common::samples() {
            assert_eq!(allocated(|| read_body(Frame { kind: sample.kind, body })), 0);
        }
    }
}
