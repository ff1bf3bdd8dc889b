//! Whose turn it is to read from the store. Pure.

use std::collections::VecDeque;

use crate::hub::keys::StreamKey;

/// Reads of one connection. A few are with the readers and the others wait here, so that no connection fills the
/// readers' queue. A stream that is given up takes what waits with it, but not what is under way, so that giving up gains
/// nothing.
#[derive(Debug)]
pub(super) struct ReadQueue<Q> {
    under_way: usize,
    waiting: VecDeque<(ReadFor, Q)>,
}

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum ReadFor {
    /// This stream goes on with it, and wants nothing once it is gone.
    Stream(StreamKey),
    /// The read mark of this stream, which is kept though the stream may close.
    Mark(StreamKey),
}

impl ReadFor {
    /// The stream that it is about.
    pub(in crate::hub) fn stream(self) -> StreamKey {
        let (Self::Stream(stream) | Self::Mark(stream)) = self;
        stream
    }
}

impl<Q> Default for ReadQueue<Q> {
    fn default() -> Self {
        Self { under_way: 0, waiting: VecDeque::new() }
    }
}

impl<Q> ReadQueue<Q> {
    /// Gives the query back if it may begin, because fewer than `most` are under way.
    pub(super) fn begin(&mut self, purpose: ReadFor, query: Q, most: usize) -> Option<Q> {
        if self.under_way < most {
            self.under_way += 1;
            return Some(query);
        }
        self.waiting.push_back((purpose, query));
        None
    }

    /// One that was under way is done. Gives the next one.
    pub(super) fn done(&mut self) -> Option<(ReadFor, Q)> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.under_way -= 1;
        }
        next
    }

    /// This stream no longer wants what waits for it.
    pub(super) fn forget(&mut self, stream: StreamKey) {
        self.waiting.retain(|(purpose, _)| *purpose != ReadFor::Stream(stream));
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn streams() -> [StreamKey; 4] {
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        [(); 4].map(|()| keys.insert(()))
    }

    #[test]
    fn a_few_are_under_way_and_the_others_follow_in_order() {
        let [a, b, c, d] = streams().map(ReadFor::Stream);
        let mut queue = ReadQueue::default();
        let begun: Vec<_> = [a, b, c, d].into_iter().map(|purpose| queue.begin(purpose, (), 2).is_some()).collect();
        assert_eq!(begun, [true, true, false, false]);
        assert_eq!(queue.done(), Some((c, ())));
        assert_eq!(queue.begin(a, (), 2), None);
        assert_eq!((queue.done(), queue.done()), (Some((d, ())), Some((a, ()))));
        assert_eq!((queue.done(), queue.done()), (None, None));
        assert!(queue.begin(a, (), 1).is_some());
        assert!(queue.begin(a, (), 1).is_none());
    }

    #[test]
    fn giving_up_makes_room_only_among_those_that_wait() {
        let [a, b, c, _] = streams();
        let mut queue = ReadQueue::default();
        assert!(queue.begin(ReadFor::Stream(a), 1, 1).is_some());
        assert!(queue.begin(ReadFor::Stream(b), 2, 1).is_none());
        assert!(queue.begin(ReadFor::Mark(b), 3, 1).is_none());
        queue.forget(a);
        assert!(queue.begin(ReadFor::Stream(c), 4, 1).is_none(), "what was begun goes on");
        queue.forget(b);
        assert_eq!(queue.done(), Some((ReadFor::Mark(b), 3)));
        assert_eq!((queue.done(), queue.done()), (Some((ReadFor::Stream(c), 4)), None));
    }
}
