//! The latest events of one conversation, kept for its followers. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Consecutive event frames of one conversation, the newest last.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// What an entry costs besides its frame: the `Bytes` and its allocation's header.
const ENTRY: usize = 64;

impl Ring {
    /// Event `seq`, if it is here.
    pub(super) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.frames.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends event `seq` and forgets the oldest ones beyond `most` bytes. One that does not follow the newest starts
    /// over.
    pub(super) fn push(&mut self, seq: u64, frame: Bytes, most: usize) {
        if seq != self.first + self.frames.len() as u64 {
            *self = Self { first: seq, ..Self::default() };
        }
        self.bytes += frame.len() + ENTRY;
        self.frames.push_back(frame);
        while self.bytes > most {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest event.
    pub(super) fn forget_oldest(&mut self) {
        if let Some(oldest) = self.frames.pop_front() {
            self.bytes -= oldest.len() + ENTRY;
            self.first += 1;
        }
    }

    /// Replaces event `seq`, if it is here.
    pub(super) fn replace(&mut self, seq: u64, frame: Bytes) {
        let at = seq.checked_sub(self.first).and_then(|at| self.frames.get_mut(at as usize));
        if let Some(entry) = at {
            self.bytes = self.bytes + frame.len() - entry.len();
            *entry = frame;
        }
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
        let (mut ring, most) = (Ring::default(), 3 * (100 + ENTRY));
        (1..=10).for_each(|seq| ring.push(seq, frame(100), most));
        assert_eq!((ring.get(7), ring.bytes()), (None, most));
        assert!((8..=10).all(|seq| ring.get(seq).is_some()));
        assert_eq!(ring.get(11), None);
        ring.forget_oldest();
        assert_eq!((ring.get(8), ring.get(9).map(Bytes::len)), (None, Some(100)));
    }

    #[test]
    fn a_hole_starts_it_over() {
        let mut ring = Ring::default();
        ring.push(1, frame(1), 1000);
        ring.push(5, frame(2), 1000);
        assert_eq!((ring.get(1), ring.get(5).map(Bytes::len), ring.bytes()), (None, Some(2), 2 + ENTRY));
    }

    #[test]
    fn one_event_over_the_limit_is_not_kept() {
        let mut ring = Ring::default();
        ring.push(1, frame(1000), 500);
        assert_eq!((ring.get(1), ring.bytes()), (None, 0));
        ring.push(2, frame(10), 500);
        assert_eq!(ring.get(2).map(Bytes::len), Some(10));
    }

    #[test]
    fn a_replaced_event_takes_what_it_takes_now() {
        let mut ring = Ring::default();
        ring.push(1, frame(100), 1000);
        ring.replace(1, frame(10));
        ring.replace(2, frame(10));
        assert_eq!((ring.get(1).map(Bytes::len), ring.bytes()), (Some(10), 10 + ENTRY));
    }
}
