//! Whose turn it is to read from the store.

use std::{collections::VecDeque, sync::Arc};

use quip_protocol::Code;
use quip_store::{Busy, Job, View};

use super::{
    StreamKey, Worker,
    reads::{Read, Reply},
};

/// Reads of one connection: a few are with the readers, the others wait here, so that nobody fills the queue of all. A
/// stream that is given up takes what waits with it, and not what is under way, so that giving up gains nothing.
#[derive(Debug)]
pub(super) struct Turns<J> {
    under_way: usize,
    waiting: VecDeque<(Wanted, J)>,
}

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This stream goes on with it, and wants nothing when it is gone.
    By(StreamKey),
    /// The read mark of this stream, which is to be kept though the stream may close.
    ForMark(StreamKey),
}

impl Wanted {
    fn stream(self) -> StreamKey {
        let (Self::By(stream) | Self::ForMark(stream)) = self;
        stream
    }
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self { under_way: 0, waiting: VecDeque::new() }
    }
}

impl<J> Turns<J> {
    /// Gives the job back if it may begin, because fewer than `most` are under way.
    fn begin(&mut self, wanted: Wanted, job: J, most: usize) -> Option<J> {
        if self.under_way < most {
            self.under_way += 1;
            return Some(job);
        }
        self.waiting.push_back((wanted, job));
        None
    }

    /// One that was under way is done: the next one, if there is any.
    fn done(&mut self) -> Option<(Wanted, J)> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.under_way -= 1;
        }
        next
    }

    /// Nobody waits any more for what this stream wanted.
    pub(super) fn forget(&mut self, stream: StreamKey) {
        self.waiting.retain(|(wanted, _)| *wanted != Wanted::By(stream));
    }
}

impl Worker {
    /// Has a reader thread read something for a stream, which ends if the readers have too much to do.
    pub(super) fn ask(&mut self, stream: StreamKey, read: impl FnOnce(&View) -> Read + Send + 'static) {
        let wanted = Wanted::By(stream);
        if self.try_ask(wanted, read).is_err() {
            self.not_read(wanted);
        }
    }

    /// Has a reader thread read something, unless they have too much to do.
    pub(super) fn try_ask(
        &mut self,
        wanted: Wanted,
        read: impl FnOnce(&View) -> Read + Send + 'static,
    ) -> Result<(), Busy> {
        let stream = wanted.stream();
        let connection = self.streams[stream].connection;
        let inbox = Arc::clone(&self.inbox);
        let job: Job = Box::new(move |view| inbox.answer(Reply { connection, stream, read: read(view) }));
        let most = self.shared.config.limits.reads_per_connection;
        let turns = &mut self.connections[connection].turns;
        let Some(job) = turns.begin(wanted, job, most) else { return Ok(()) };
        self.shared.readers.run(job).inspect_err(|Busy| drop(turns.done()))
    }

    /// A read is done: the next one of its connection begins, and then somebody has an answer.
    pub(super) fn read(&mut self, reply: Reply) {
        while let Some(connection) = self.connections.get_mut(reply.connection)
            && let Some((wanted, job)) = connection.turns.done()
            && self.shared.readers.run(job).is_err()
        {
            self.not_read(wanted);
        }
        let key = reply.stream;
        match reply.read {
            Read::Warm(command) => self.warmed(key, *command),
            _ if !self.streams.contains_key(key) => {}
            Read::Rows(rows) => self.rows(key, rows),
            Read::Page(page) => self.page(key, page),
            Read::Answer(answer) => self.answer(key, &answer),
            Read::Members(members) => self.answer_presence(key, members),
        }
    }

    /// The readers have too much to do.
    fn not_read(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::By(stream) if self.streams.contains_key(stream) => self.end(stream, Code::BUSY, 0),
            Wanted::By(_) => {}
            Wanted::ForMark(stream) => self.mark_again(stream),
        }
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
    fn only_so_many_are_under_way_and_the_others_follow_in_order() {
        let [a, b, c, d] = streams().map(Wanted::By);
        let mut turns = Turns::default();
        let begun: Vec<_> = [a, b, c, d].into_iter().map(|wanted| turns.begin(wanted, (), 2).is_some()).collect();
        assert_eq!(begun, [true, true, false, false]);
        assert_eq!(turns.done(), Some((c, ())));
        assert_eq!(turns.begin(a, (), 2), None);
        assert_eq!((turns.done(), turns.done()), (Some((d, ())), Some((a, ()))));
        assert_eq!((turns.done(), turns.done()), (None, None));
        assert!(turns.begin(a, (), 1).is_some());
        assert!(turns.begin(a, (), 1).is_none());
    }

    #[test]
    fn giving_up_makes_room_only_among_those_that_wait() {
        let [a, b, c, _] = streams();
        let mut turns = Turns::default();
        assert!(turns.begin(Wanted::By(a), 1, 1).is_some());
        assert!(turns.begin(Wanted::By(b), 2, 1).is_none());
        assert!(turns.begin(Wanted::ForMark(b), 3, 1).is_none());
        turns.forget(a);
        assert!(turns.begin(Wanted::By(c), 4, 1).is_none(), "what was begun goes on");
        turns.forget(b);
        assert_eq!(turns.done(), Some((Wanted::ForMark(b), 3)));
        assert_eq!((turns.done(), turns.done()), (Some((Wanted::By(c), 4)), None));
    }
}
