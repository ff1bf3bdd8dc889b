//! Whose turn it is to read from the store. Pure.

use std::collections::VecDeque;

use crate::hub::keys::{ConnectionKey, StreamKey};

/// Reads of one user. A few are with the readers and the others wait here, so that no user fills the readers' queue. The
/// user's connections take turns. A stream that is given up takes what waits with it, but not what is under way, so that
/// giving up gains nothing.
#[derive(Debug)]
pub(super) struct ReadQueue<Q> {
    under_way: usize,
    /// By connection. An entry is empty when its streams no longer want what waited.
    waiting: VecDeque<(ConnectionKey, VecDeque<(ReadFor, Q)>)>,
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
    /// Gives the query of a connection back if it may begin, because fewer than `most` are under way.
    pub(super) fn begin(&mut self, at: ConnectionKey, purpose: ReadFor, query: Q, most: usize) -> Option<Q> {
        if self.under_way < most {
            self.under_way += 1;
            return Some(query);
        }
        match self.waiting.iter_mut().find(|(connection, _)| *connection == at) {
            Some((_, queue)) => queue.push_back((purpose, query)),
            None => self.waiting.push_back((at, VecDeque::from([(purpose, query)]))),
        }
        None
    }

    /// One that was under way is done. Gives the next one.
    pub(super) fn done(&mut self) -> Option<(ReadFor, Q)> {
        while let Some((at, mut queue)) = self.waiting.pop_front() {
            let next = queue.pop_front();
            if !queue.is_empty() {
                self.waiting.push_back((at, queue));
            }
            if next.is_some() {
                return next;
            }
        }
        self.under_way -= 1;
        None
    }

    /// This stream of a connection no longer wants what waits for it.
    pub(super) fn forget(&mut self, at: ConnectionKey, stream: StreamKey) {
        if let Some((_, queue)) = self.waiting.iter_mut().find(|(connection, _)| *connection == at) {
            queue.retain(|(purpose, _)| *purpose != ReadFor::Stream(stream));
        }
    }

    /// A connection is gone: its streams want nothing.
    pub(super) fn forget_streams(&mut self, at: ConnectionKey) {
        if let Some((_, queue)) = self.waiting.iter_mut().find(|(connection, _)| *connection == at) {
            queue.retain(|(purpose, _)| matches!(purpose, ReadFor::Mark(_)));
        }
    }

    /// True when nothing is under way, and so nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
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

    fn connections() -> [ConnectionKey; 2] {
        let mut keys = SlotMap::<ConnectionKey, ()>::with_key();
        [(); 2].map(|()| keys.insert(()))
    }

    #[test]
    fn a_few_are_under_way_and_the_others_follow_in_order() {
        let ([a, b, c, d], [at, _]) = (streams().map(ReadFor::Stream), connections());
        let mut queue = ReadQueue::default();
        let begun: Vec<_> = [a, b, c, d].into_iter().map(|purpose| queue.begin(at, purpose, (), 2).is_some()).collect();
        assert_eq!(begun, [true, true, false, false]);
        assert_eq!(queue.done(), Some((c, ())));
        assert_eq!(queue.begin(at, a, (), 2), None);
        assert_eq!((queue.done(), queue.done()), (Some((d, ())), Some((a, ()))));
        assert!(!queue.is_idle());
        assert_eq!((queue.done(), queue.done()), (None, None));
        assert!(queue.is_idle() && queue.begin(at, a, (), 1).is_some());
        assert!(queue.begin(at, a, (), 1).is_none());
    }

    #[test]
    fn connections_take_turns() {
        let ([a, b, c, d], [one, other]) = (streams().map(ReadFor::Stream), connections());
        let mut queue = ReadQueue::default();
        assert!(queue.begin(one, a, 1, 1).is_some());
        assert!(
            [(one, a), (one, b), (one, c), (other, d)].into_iter().all(|(at, of)| queue.begin(at, of, 2, 1).is_none())
        );
        let order: Vec<_> = std::iter::from_fn(|| queue.done()).map(|(purpose, _)| purpose).collect();
        assert_eq!(order, [a, d, b, c]);
        assert!(queue.is_idle());
    }

    #[test]
    fn giving_up_makes_room_only_among_those_that_wait() {
        let ([a, b, c, d], [at, other]) = (streams(), connections());
        let mut queue = ReadQueue::default();
        assert!(queue.begin(at, ReadFor::Stream(a), 1, 1).is_some());
        assert!(queue.begin(at, ReadFor::Stream(b), 2, 1).is_none());
        assert!(queue.begin(at, ReadFor::Mark(b), 3, 1).is_none());
        queue.forget(at, a);
        assert!(queue.begin(at, ReadFor::Stream(c), 4, 1).is_none(), "what was begun goes on");
        assert!(queue.begin(other, ReadFor::Stream(d), 5, 1).is_none());
        queue.forget(at, b);
        assert_eq!(queue.done(), Some((ReadFor::Mark(b), 3)));
        queue.forget_streams(at);
        assert_eq!((queue.done(), queue.done()), (Some((ReadFor::Stream(d), 5)), None));
        assert!(queue.is_idle());
    }
}
