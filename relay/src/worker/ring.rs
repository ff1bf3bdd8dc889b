//! The latest events of one conversation, kept for its followers.

use std::collections::VecDeque;

use bytes::Bytes;

/// Consecutive event frames, the newest last, bounded in bytes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// What an entry costs besides its frame: the `Bytes` and its allocation's header.
const ENTRY: usize = 64;

impl Ring {
    /// Appends event `seq`. One that does not follow the newest starts the ring anew.
    pub(super) fn push(&mut self, seq: u64, frame: Bytes, limit: usize) {
        if seq != self.first + self.frames.len() as u64 {
            self.clear();
            self.first = seq;
        }
        self.bytes += frame.len() + ENTRY;
        self.frames.push_back(frame);
        while self.bytes > limit {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.len() + ENTRY;
            self.first += 1;
        }
    }

    /// Event `seq`, if it is here.
    pub(super) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.frames.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Replaces event `seq` if it is here.
    pub(super) fn replace(&mut self, seq: u64, frame: Bytes) {
        let at = seq.checked_sub(self.first).and_then(|at| self.frames.get_mut(at as usize));
        if let Some(entry) = at {
            self.bytes = self.bytes + frame.len() - entry.len();
            *entry = frame;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Memory held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: usize) -> Bytes {
        vec![7; size].into()
    }

    #[test]
    fn keeps_the_latest_within_its_bytes() {
        let mut ring = Ring::default();
        (1..=10).for_each(|seq| ring.push(seq, frame(100), 3 * (100 + ENTRY)));
        assert_eq!((ring.get(7), ring.bytes()), (None, 3 * (100 + ENTRY)));
        assert!((8..=10).all(|seq| ring.get(seq).is_some()));
        assert_eq!(ring.get(11), None);
    }

    #[test]
    fn a_hole_starts_it_anew() {
        let mut ring = Ring::default();
        ring.push(1, frame(1), 1000);
        ring.push(5, frame(2), 1000);
        assert_eq!((ring.get(1), ring.get(5).map(Bytes::len)), (None, Some(2)));
    }

    #[test]
    fn one_event_over_the_limit_is_not_kept() {
        let mut ring = Ring::default();
        ring.push(1, frame(1000), 500);
        ring.push(2, frame(10), 500);
        assert_eq!((ring.get(1), ring.get(2).map(Bytes::len)), (None, Some(10)));
    }
}
