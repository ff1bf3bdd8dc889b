//! The edits of a [`super::EditsRow`], each as what sets it apart from the one before.
//!
//! An edit: varints of what its seq, its message number and its time are more than the last; varint `n`; a byte, 0 = by
//! the same device as the last, 1 = 16 bytes of device follow. None of the three ever goes back.

use quip_protocol::DeviceId;

use super::Origin;
use crate::codec::{Malformed, Reader, Sink};

/// Bytes of an edit when one device edits often.
pub(super) const TYPICAL: usize = 10;

const SAME_DEVICE: u8 = 0;
const OTHER_DEVICE: u8 = 1;

/// What the differences of the first one are to.
const BEFORE: Origin = Origin { seq: 0, number: 0, at: 0, device: DeviceId([0; 16]), n: 0 };

pub(super) fn put(edits: &[Origin], out: &mut Vec<u8>) {
    let mut before = BEFORE;
    for edit in edits {
        debug_assert!(edit.seq > before.seq && edit.number >= before.number && edit.at >= before.at, "in order");
        out.put_varint(edit.seq - before.seq);
        out.put_varint(edit.number - before.number);
        out.put_varint(edit.at - before.at);
        out.put_varint(edit.n);
        if edit.device == before.device {
            out.put_u8(SAME_DEVICE);
        } else {
            out.put_u8(OTHER_DEVICE);
            out.put(&edit.device.0);
        }
        before = *edit;
    }
}

pub(super) fn read(count: usize, from: &mut Reader<'_>) -> Result<Vec<Origin>, Malformed> {
    let mut before = BEFORE;
    let mut edits = Vec::with_capacity(count);
    for _ in 0..count {
        let mut next = |before: u64| before.checked_add(from.varint()?).ok_or(Malformed);
        let (seq, number, at) = (next(before.seq)?, next(before.number)?, next(before.at)?);
        if seq == before.seq {
            return Err(Malformed);
        }
        let n = from.varint()?;
        let device = match from.u8()? {
            SAME_DEVICE => before.device,
            OTHER_DEVICE => from.device()?,
            _ => return Err(Malformed),
        };
        before = Origin { seq, number, at, device, n };
        edits.push(before);
    }
    Ok(edits)
}
