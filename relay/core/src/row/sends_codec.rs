//! The outcomes of a [`super::SendsRow`], each as what sets it apart from the one before.
//!
//! An outcome: varint code; varint of what its seq is more than the last seq that was not 0 (0 = no event);
//! with an event, varint of what its message number is more than the last; zigzag varint of the
//! difference in time; 8 bytes of hash, little-endian. Times may go back: only events are in order of time.

use std::collections::VecDeque;

use quip_protocol::Code;

use super::Recorded;
use crate::codec::{Malformed, Reader, Sink};

/// Bytes of an outcome when a device sends often.
pub(super) const TYPICAL: usize = 14;

/// What the differences are to.
#[derive(Default)]
struct Before {
    seq: u64,
    number: u64,
    at: u64,
}

pub(super) fn put(latest: &VecDeque<Recorded>, out: &mut Vec<u8>) {
    let mut before = Before::default();
    for recorded in latest {
        out.put_varint(recorded.code.0);
        if recorded.seq == 0 {
            out.put_u8(0);
        } else {
            out.put_varint(recorded.seq.wrapping_sub(before.seq));
            out.put_varint(recorded.number.wrapping_sub(before.number));
            (before.seq, before.number) = (recorded.seq, recorded.number);
        }
        out.put_varint(zigzag(recorded.at.wrapping_sub(before.at)));
        before.at = recorded.at;
        out.put(&recorded.hash.to_le_bytes());
    }
}

pub(super) fn read(count: usize, from: &mut Reader<'_>) -> Result<VecDeque<Recorded>, Malformed> {
    let mut before = Before::default();
    let mut latest = VecDeque::with_capacity(count);
    for _ in 0..count {
        let code = Code(from.varint()?);
        let (mut seq, mut number) = (0, 0);
        match from.varint()? {
            0 => {}
            more => {
                seq = before.seq.wrapping_add(more);
                number = before.number.wrapping_add(from.varint()?);
                (before.seq, before.number) = (seq, number);
            }
        }
        let at = before.at.wrapping_add(zagzig(from.varint()?));
        before.at = at;
        let hash = u64::from_le_bytes(from.array()?);
        latest.push_back(Recorded { code, seq, number, at, hash });
    }
    Ok(latest)
}

/// Small differences of either sign as small numbers.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

fn zagzig(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}
