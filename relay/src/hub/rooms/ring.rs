//! The latest events of conversations, kept for their followers, and the memory that they take. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Consecutive event frames of one conversation, the newest last. It changes only through [`RingMemory`].
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// Accounts for the memory of all rings: nothing else changes one.
#[derive(Debug)]
pub(super) struct RingMemory {
    /// Bytes of one ring at most.
    each: usize,
    /// Bytes of all rings together at most.
    all: usize,
    held: usize,
}

/// What an entry costs besides its frame: the `Bytes` and its allocation's header.
const ENTRY: usize = 64;

impl Ring {
    /// Event `seq`, if it is here.
    pub(super) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.frames.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// True when no event is here.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn push(&mut self, seq: u64, frame: Bytes, limit: usize) {
        if seq != self.first + self.frames.len() as u64 {
            *self = Self::default();
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

    fn replace(&mut self, seq: u64, frame: Bytes) {
        let at = seq.checked_sub(self.first).and_then(|at| self.frames.get_mut(at as usize));
        if let Some(entry) = at {
            self.bytes = self.bytes + frame.len() - entry.len();
            *entry = frame;
        }
    }
}

impl RingMemory {
    /// Bounds for `each` ring and for `all` together, in bytes.
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: 0 }
    }

    /// Appends event `seq` to a ring. One that does not follow the newest starts the ring over. So does one without its
    /// frame, and one for which there is no memory.
    pub(super) fn push(&mut self, ring: &mut Ring, seq: u64, frame: Bytes) {
        if frame.is_empty() {
            return self.clear(ring);
        }
        let each = self.each;
        self.change(ring, |ring| ring.push(seq, frame, each));
        if self.held > self.all {
            self.clear(ring);
        }
    }

    /// Replaces event `seq` in a ring, if it is there.
    pub(super) fn replace(&mut self, ring: &mut Ring, seq: u64, frame: Bytes) {
        self.change(ring, |ring| ring.replace(seq, frame));
    }

    /// Forgets a ring's events.
    pub(super) fn clear(&mut self, ring: &mut Ring) {
        self.change(ring, |ring| *ring = Ring::default());
    }

    /// Bytes of all rings together.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    fn change(&mut self, ring: &mut Ring, change: impl FnOnce(&mut Ring)) {
        let before = ring.bytes;
        change(ring);
        self.held = self.held - before + ring.bytes;
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
        let (mut ring, mut memory) = (Ring::default(), RingMemory::new(3 * (100 + ENTRY), 1 << 20));
        (1..=10).for_each(|seq| memory.push(&mut ring, seq, frame(100)));
        assert_eq!((ring.get(7), memory.held), (None, 3 * (100 + ENTRY)));
        assert!((8..=10).all(|seq| ring.get(seq).is_some()));
        assert_eq!(ring.get(11), None);
    }

    #[test]
    fn a_hole_starts_it_over() {
        let (mut ring, mut memory) = (Ring::default(), RingMemory::new(1000, 1000));
        memory.push(&mut ring, 1, frame(1));
        memory.push(&mut ring, 5, frame(2));
        assert_eq!((ring.get(1), ring.get(5).map(Bytes::len)), (None, Some(2)));
        memory.push(&mut ring, 6, Bytes::new());
        assert!(ring.is_empty() && memory.held == 0, "an event without its frame is a hole too");
    }

    #[test]
    fn one_event_over_the_limit_is_not_kept() {
        let (mut ring, mut memory) = (Ring::default(), RingMemory::new(500, 5000));
        memory.push(&mut ring, 1, frame(1000));
        memory.push(&mut ring, 2, frame(10));
        assert_eq!((ring.get(1), ring.get(2).map(Bytes::len)), (None, Some(10)));
    }

    #[test]
    fn the_memory_of_all_rings_is_what_they_hold() {
        let mut rings: Vec<Ring> = (0..4).map(|_| Ring::default()).collect();
        let mut memory = RingMemory::new(1000, 3000);
        for step in 0..2000_u64 {
            let at = (step * 7 % 4) as usize;
            let size = 1 + (step * 31 % 400) as usize;
            match step % 11 {
                0 => memory.clear(&mut rings[at]),
                1 => memory.replace(&mut rings[at], step / 4, frame(size)),
                2 => memory.push(&mut rings[at], step, Bytes::new()),
                _ => memory.push(&mut rings[at], step / 4, frame(size)),
            }
            assert_eq!(memory.held, rings.iter().map(|ring| ring.bytes).sum::<usize>(), "step {step}");
            assert!(memory.held <= 3000 + 400, "a replaced event may be larger");
        }
    }
}
