//! The memory of all rings, and which events go when it is short. Pure.
//!
//! First go rings that no follower needs, and then the oldest events of the largest rings. A conversation that
//! fills the memory loses its own events: one that holds less than half of an even share loses none.

use bytes::Bytes;
use slotmap::SecondaryMap;

use super::{conversation::ConversationKey, ring::Ring};

/// All rings. Nothing else changes one.
#[derive(Debug)]
pub(super) struct RingMemory {
    /// Bytes of one ring at most.
    each: usize,
    /// Bytes of all rings together at most.
    all: usize,
    held: usize,
    /// None of them is empty.
    rings: SecondaryMap<ConversationKey, Entry>,
    /// Those that nobody needs, and then by size: each shelf is for up to twice the size of the one before.
    shelves: [Vec<ConversationKey>; SHELVES],
    /// Goes round the shelf of the largest.
    hand: usize,
}

#[derive(Debug, Default)]
struct Entry {
    ring: Ring,
    /// A follower needs some of it.
    needed: bool,
    shelf: usize,
    /// Where on its shelf it stands.
    place: usize,
}

/// Those that nobody needs.
const UNNEEDED: usize = 0;
const SHELVES: usize = 1 + usize::BITS as usize;

impl RingMemory {
    /// Bounds for `each` ring and for `all` together, in bytes.
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: 0, rings: SecondaryMap::new(), shelves: [const { Vec::new() }; SHELVES], hand: 0 }
    }

    /// Event `seq` of a conversation, if it is here.
    pub(super) fn get(&self, key: ConversationKey, seq: u64) -> Option<&Bytes> {
        self.rings.get(key)?.ring.get(seq)
    }

    /// A conversation has event `seq`, which a follower needs or not. One that does not follow the newest starts its ring
    /// over, and so does one without its frame. Other events make room for it.
    pub(super) fn push(&mut self, key: ConversationKey, seq: u64, frame: Bytes, needed: bool) {
        if frame.is_empty() {
            return self.forget(key);
        }
        if !self.rings.contains_key(key) {
            let place = self.shelves[UNNEEDED].len();
            self.shelves[UNNEEDED].push(key);
            self.rings.insert(key, Entry { shelf: UNNEEDED, place, ..Entry::default() });
        }
        let each = self.each;
        self.change(key, |entry| {
            entry.needed = needed;
            entry.ring.push(seq, frame, each);
        });
        while self.held > self.all && self.forget_some() {}
    }

    /// Replaces event `seq` of a conversation, if it is here.
    pub(super) fn replace(&mut self, key: ConversationKey, seq: u64, frame: Bytes) {
        self.change(key, |entry| entry.ring.replace(seq, frame));
    }

    /// Whether a follower needs some of a conversation's events.
    pub(super) fn set_needed(&mut self, key: ConversationKey, needed: bool) {
        if self.rings.get(key).is_some_and(|entry| entry.needed != needed) {
            self.change(key, |entry| entry.needed = needed);
        }
    }

    /// Forgets a conversation's events.
    pub(super) fn forget(&mut self, key: ConversationKey) {
        if let Some(entry) = self.rings.remove(key) {
            self.held -= entry.ring.bytes();
            self.take_off(entry.shelf, entry.place);
        }
    }

    /// Forgets the events of conversations in which nobody needs any.
    pub(super) fn forget_unneeded(&mut self) {
        while let Some(key) = self.shelves[UNNEEDED].last().copied() {
            self.forget(key);
        }
    }

    /// Forgets what is worth least. False when nothing is left.
    fn forget_some(&mut self) -> bool {
        if let Some(key) = self.shelves[UNNEEDED].last().copied() {
            self.forget(key);
            return true;
        }
        let Some(largest) = self.shelves.iter().rev().find(|shelf| !shelf.is_empty()) else { return false };
        self.hand = (self.hand + 1) % largest.len();
        let key = largest[self.hand];
        self.change(key, |entry| entry.ring.forget_oldest());
        true
    }

    fn change(&mut self, key: ConversationKey, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.rings.get_mut(key) else { return };
        let before = entry.ring.bytes();
        change(entry);
        let bytes = entry.ring.bytes();
        self.held = self.held - before + bytes;
        if bytes == 0 {
            return self.forget(key);
        }
        let shelf = if entry.needed { 1 + bytes.ilog2() as usize } else { UNNEEDED };
        if shelf != entry.shelf {
            let (old, place) = (entry.shelf, entry.place);
            (entry.shelf, entry.place) = (shelf, self.shelves[shelf].len());
            self.shelves[shelf].push(key);
            self.take_off(old, place);
        }
    }

    /// What stood last on the shelf stands in this place now.
    fn take_off(&mut self, shelf: usize, place: usize) {
        self.shelves[shelf].swap_remove(place);
        let moved = self.shelves[shelf].get(place).and_then(|key| self.rings.get_mut(*key));
        if let Some(moved) = moved {
            moved.place = place;
        }
    }

    /// What is counted is what is there.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        assert_eq!(self.held, self.rings.values().map(|entry| entry.ring.bytes()).sum::<usize>());
        assert_eq!(self.shelves.iter().map(Vec::len).sum::<usize>(), self.rings.len());
        for (key, entry) in &self.rings {
            assert_eq!(self.shelves[entry.shelf][entry.place], key);
            let bytes = entry.ring.bytes();
            assert!(bytes > 0 && (entry.shelf == UNNEEDED) != entry.needed);
            assert!(entry.shelf == UNNEEDED || bytes >> (entry.shelf - 1) == 1, "{bytes} on shelf {}", entry.shelf);
        }
    }

    /// Bytes of all rings together.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether a follower needs some of a conversation's events, if there are any.
    #[cfg(test)]
    pub(super) fn needed(&self, key: ConversationKey) -> Option<bool> {
        self.rings.get(key).map(|entry| entry.needed)
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn frame(size: usize) -> Bytes {
        vec![7; size].into()
    }

    fn keys<const N: usize>() -> [ConversationKey; N] {
        let mut keys = SlotMap::<ConversationKey, ()>::with_key();
        [(); N].map(|()| keys.insert(()))
    }

    /// Puts events into a ring that a follower needs.
    fn fill(memory: &mut RingMemory, key: ConversationKey, seqs: std::ops::RangeInclusive<u64>, size: usize) {
        for seq in seqs {
            memory.push(key, seq, frame(size), true);
        }
    }

    #[test]
    fn an_event_without_its_frame_is_a_hole() {
        let ([key], mut memory) = (keys(), RingMemory::new(1000, 1000));
        memory.push(key, 1, frame(1), true);
        memory.push(key, 2, Bytes::new(), true);
        assert_eq!((memory.get(key, 1), memory.held()), (None, 0));
        memory.assert_consistent();
    }

    #[test]
    fn rings_that_nobody_needs_go_first() {
        let ([needed, large, small, next], mut memory) = (keys(), RingMemory::new(10_000, 10_000));
        fill(&mut memory, needed, 1..=8, 900);
        memory.push(large, 1, frame(1000), false);
        memory.push(small, 1, frame(10), false);
        fill(&mut memory, next, 1..=2, 1000);
        assert_eq!([large, small].map(|key| memory.get(key, 1)), [None; 2]);
        assert!((1..=8).all(|seq| memory.get(needed, seq).is_some()), "others need theirs");
        assert!((1..=2).all(|seq| memory.get(next, seq).is_some()), "the one that pushes keeps its own");
    }

    #[test]
    fn the_largest_loses_its_oldest_events_and_a_small_one_nothing() {
        let ([large, small, late], mut memory) = (keys(), RingMemory::new(20_000, 20_000));
        fill(&mut memory, small, 1..=4, 400);
        fill(&mut memory, large, 1..=16, 1000);
        fill(&mut memory, late, 1..=6, 400);
        assert!((1..=4).all(|seq| memory.get(small, seq).is_some() && memory.get(late, seq).is_some()));
        assert_eq!(memory.get(large, 1), None);
        assert!(memory.get(large, 16).is_some(), "its newest stay");
        fill(&mut memory, large, 17..=40, 1000);
        assert!((1..=4).all(|seq| memory.get(small, seq).is_some() && memory.get(late, seq).is_some()));
        assert!(memory.get(large, 40).is_some(), "it goes on at its own expense");
        memory.assert_consistent();
    }

    #[test]
    fn many_that_fill_it_leave_an_even_share_to_one_who_comes_late() {
        let (hoarders, mut memory) = (keys::<64>(), RingMemory::new(10_000, 64 * 1000));
        let (late, hoarders) = hoarders.split_last().unwrap();
        for key in hoarders {
            fill(&mut memory, *key, 1..=100, 200);
        }
        fill(&mut memory, *late, 1..=20, 200);
        let kept = (1..=20).filter(|seq| memory.get(*late, *seq).is_some()).count();
        assert!(kept >= 2, "{kept} of 20, where an even share is 3");
        assert!(memory.get(*late, 20).is_some());
        memory.assert_consistent();
    }

    #[test]
    fn what_nobody_needs_is_forgotten_at_once_when_it_is_time() {
        let ([needed, not], mut memory) = (keys(), RingMemory::new(1000, 1000));
        fill(&mut memory, needed, 1..=1, 10);
        fill(&mut memory, not, 1..=1, 10);
        memory.set_needed(not, false);
        memory.forget_unneeded();
        assert_eq!((memory.get(needed, 1).map(Bytes::len), memory.get(not, 1)), (Some(10), None));
        memory.assert_consistent();
    }

    #[test]
    fn the_memory_of_all_rings_is_what_they_hold() {
        let (keys, mut memory) = (keys::<4>(), RingMemory::new(1000, 3000));
        for step in 0..5000_u64 {
            let key = keys[(step * 7 % 4) as usize];
            let size = 1 + (step * 31 % 400) as usize;
            match step % 13 {
                0 => memory.forget(key),
                1 => memory.replace(key, step / 4, frame(size)),
                2 => memory.push(key, step, Bytes::new(), true),
                3 | 4 => memory.set_needed(key, true),
                5 => memory.set_needed(key, false),
                6 if step % 5 == 0 => memory.forget_unneeded(),
                _ => memory.push(key, step / 4, frame(size), step % 2 == 0),
            }
            memory.assert_consistent();
            assert!(memory.held() <= 3000 + 400, "a replaced event may be larger: {} in step {step}", memory.held());
        }
    }
}
