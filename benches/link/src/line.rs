//! One direction of a link with its packets: a wire and what is under way on it.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use bytes::Bytes;

use crate::{
    params::Params,
    stats::Counts,
    wire::{Direction, Drop, Fate, Wire},
};

/// Bytes that may be under way in one direction; what would be more is dropped and counted apart.
/// It is what 1 Gbit/s sends within half a second.
pub const UNDER_WAY: usize = 64 * 1024 * 1024;

/// Packets wait here until they are due.
#[derive(Debug)]
pub(crate) struct Line {
    wire: Wire,
    packets: BinaryHeap<Reverse<Packet>>,
    /// Packets that were ever put in; among those due at once the first goes first.
    number: u64,
    bytes: usize,
    pub(crate) counts: Counts,
}

#[derive(Debug, Eq, PartialEq, PartialOrd, Ord)]
struct Packet {
    due: Duration,
    number: u64,
    bytes: Bytes,
}

impl Line {
    pub(crate) fn new(params: Params, seed: u64, direction: Direction) -> Self {
        let wire = Wire::new(params, seed, direction);
        Self { wire, packets: BinaryHeap::new(), number: 0, bytes: 0, counts: Counts::default() }
    }

    pub(crate) fn set(&mut self, params: Params) {
        self.wire.set(params);
    }

    /// Takes a packet that arrives at `now`.
    pub(crate) fn take(&mut self, now: Duration, packet: Bytes) {
        let counts = &mut self.counts;
        counts.packets += 1;
        counts.bytes += packet.len() as u64;
        match self.wire.admit(now, packet.len()) {
            Fate::Dropped(Drop::Lost) => counts.lost += 1,
            Fate::Dropped(Drop::LostInBurst) => counts.lost_in_burst += 1,
            Fate::Dropped(Drop::QueueFull) => counts.queue_full += 1,
            Fate::Delivered { .. } if self.bytes + packet.len() > UNDER_WAY => counts.too_many_under_way += 1,
            Fate::Delivered { at, twice, held_back } => {
                counts.held_back += u64::from(held_back);
                counts.duplicated += u64::from(twice);
                if twice {
                    self.hold(at, packet.clone());
                }
                self.hold(at, packet);
            }
        }
    }

    /// When the next packet is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.packets.peek().map(|Reverse(packet)| packet.due)
    }

    /// The next packet that is due at `now`, with when it was.
    pub(crate) fn give(&mut self, now: Duration) -> Option<(Duration, Bytes)> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(packet) = self.packets.pop()?;
        self.bytes -= packet.bytes.len();
        Some((packet.due, packet.bytes))
    }

    fn hold(&mut self, due: Duration, bytes: Bytes) {
        self.number += 1;
        self.bytes += bytes.len();
        self.packets.push(Reverse(Packet { due, number: self.number, bytes }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::params::{Chance, Reorder};

    const MS: Duration = Duration::from_millis(1);

    fn drain(line: &mut Line, now: Duration) -> Vec<u8> {
        std::iter::from_fn(|| line.give(now)).map(|(_, bytes)| bytes[0]).collect()
    }

    #[test]
    fn packets_come_out_when_they_are_due_and_in_order() {
        let mut line = Line::new(Params { delay: 10 * MS, ..Params::default() }, 1, Direction::Up);
        for number in 0..3 {
            line.take(MS, Bytes::from(vec![number]));
        }
        assert_eq!(line.next_due(), Some(11 * MS));
        assert_eq!(drain(&mut line, 10 * MS), [0; 0]);
        assert_eq!(drain(&mut line, 11 * MS), [0, 1, 2]);
        assert_eq!((line.next_due(), line.bytes), (None, 0));
    }

    #[test]
    fn a_duplicate_follows_its_packet() {
        let mut line = Line::new(Params { duplicate: Chance::ALWAYS, ..Params::default() }, 1, Direction::Up);
        line.take(MS, Bytes::from_static(&[7]));
        line.take(MS, Bytes::from_static(&[8]));
        assert_eq!(drain(&mut line, MS), [7, 7, 8, 8]);
        assert_eq!(line.counts.duplicated, 2);
    }

    #[test]
    fn a_packet_that_is_held_back_is_overtaken() {
        let mut line = Line::new(Params::default(), 1, Direction::Up);
        line.set(Params { reorder: Some(Reorder { chance: Chance::ALWAYS, by: 5 * MS }), ..Params::default() });
        line.take(MS, Bytes::from_static(&[1]));
        line.set(Params::default());
        line.take(2 * MS, Bytes::from_static(&[2]));
        assert_eq!(drain(&mut line, 5 * MS), [2]);
        assert_eq!(drain(&mut line, 6 * MS), [1]);
        assert_eq!(line.counts.held_back, 1);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut line = Line::new(Params { delay: 10 * MS, ..Params::default() }, 1, Direction::Up);
        let packet = Bytes::from(vec![0; 1 << 20]);
        let room = UNDER_WAY >> 20;
        (0..room + 3).for_each(|_| line.take(MS, packet.clone()));
        assert_eq!((line.packets.len(), line.counts.too_many_under_way), (room, 3));
        drain(&mut line, 11 * MS);
        line.take(11 * MS, packet);
        assert_eq!(line.packets.len(), 1);
    }
}
