//! Numbers without holes between them, and lists of these.
//!
//! A list: varint of the count ‖ the intervals, lowest first: varint of the difference of `from` to the `to` before it, varint
//! of the difference of `to` to `from`.

use crate::codec::{Malformed, Reader, Sink};

/// Numbers from `from` up to and including `to`: of events, or of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first one.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

impl Interval {
    /// Whether this number is one of them.
    pub fn contains(&self, number: u64) -> bool {
        (self.from..=self.to).contains(&number)
    }
}

/// Writes intervals that rise and do not overlap.
pub(super) fn put(intervals: &[Interval], out: &mut impl Sink) {
    out.put_varint(intervals.len() as u64);
    let mut before = 0;
    for Interval { from, to } in intervals {
        out.put_varint(from - before);
        out.put_varint(to - from);
        before = *to;
    }
}

/// Reads at most `most` intervals.
pub(super) fn read(from: &mut Reader<'_>, most: usize) -> Result<Vec<Interval>, Malformed> {
    let count = from.varint()?;
    if count > most as u64 {
        return Err(Malformed);
    }
    let mut before: u64 = 0;
    let mut interval = || {
        let first = before.checked_add(from.varint()?).filter(|first| *first > before).ok_or(Malformed)?;
        before = first.checked_add(from.varint()?).ok_or(Malformed)?;
        Ok(Interval { from: first, to: before })
    };
    (0..count).map(|_| interval()).collect()
}
