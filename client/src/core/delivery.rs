//! The cursor, and the events queued for the app.

use std::{collections::VecDeque, task::Waker};

use quip_protocol::Code;

use super::Violation;
use crate::{ConversationEvent, Cursor, OwnedEvent, SkipReason};

/// Maximum queued events; at this number the stream is no longer read.
pub(super) const EVENTS: usize = 256;
/// Maximum bytes of content of queued events.
pub(super) const BYTES: usize = 256 * 1024;

/// Delivery of one conversation.
///
/// Events and answers share a stream, and an app that takes no events must still get answers. So while the queue is full and
/// commands are unanswered, the stream is still read and its events are *discarded*: they are fetched again from the cursor
/// once the app has emptied the queue.
#[derive(Default)]
pub(super) struct Delivery {
    /// After the last event that is queued.
    cursor: Option<Cursor>,
    /// The position of the stream; ahead of the cursor while events are discarded.
    at: u64,
    /// Each with the cursor after it, if there is one yet.
    queue: VecDeque<(ConversationEvent, Option<Cursor>)>,
    bytes: usize,
    full: bool,
    /// After the event returned to the app last.
    given: Option<Cursor>,
    /// After the last event that the app has taken.
    taken: Option<Cursor>,
    discarding: bool,
    reader_dropped: bool,
    over: bool,
    /// The seq at which the app is caught up, until it is reached.
    target: Option<u64>,
    waker: Option<Waker>,
}

impl Delivery {
    /// The cursor to reopen at.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// After the event returned to the app last.
    pub(super) fn given(&self) -> Cursor {
        self.given.unwrap_or_default()
    }

    /// After the last event that the app has taken.
    pub(super) fn taken(&self) -> Option<Cursor> {
        self.taken
    }

    /// Whether everything was given to the app, and no more comes.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.queue.is_empty()
    }

    /// Full until half is taken, so that reading does not stop and start with every event.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the stream has not reached this seq yet.
    pub(super) fn is_ahead(&self, seq: u64) -> bool {
        seq > self.at
    }

    pub(super) fn is_reader_dropped(&self) -> bool {
        self.reader_dropped
    }

    /// Whether events were discarded that the app can take now.
    pub(super) fn must_fetch(&self) -> bool {
        self.lacks_events() && self.queue.is_empty()
    }

    /// Whether events were discarded that the app has not received.
    pub(super) fn lacks_events(&self) -> bool {
        self.discarding && !self.reader_dropped && !self.over
    }

    /// The stream was opened at the `asked` cursor, or else just before `start`. Returns whether the log is another one than
    /// the cursor's: of another generation, or with another event at the cursor.
    pub(super) fn opened(&mut self, asked: Option<Cursor>, generation: u64, start: u64) -> Result<bool, Violation> {
        if start == 0 {
            return Err(Violation("delivery starts before the first event"));
        }
        let cursor = match asked {
            Some(cursor) if cursor.generation == generation && cursor.seq < start => cursor,
            // A place in another log, or the beginning of any, is the beginning of this one.
            Some(_) => Cursor { generation, ..Cursor::default() },
            None => Cursor { generation, seq: start - 1, digest: [0; 4] },
        };
        let reset = asked.is_some_and(|asked| asked.generation != 0 && asked != cursor);
        if self.given.is_none() {
            // The app leaves its place in another log when it takes the reset, not before.
            let place = asked.filter(|asked| asked.generation != 0).unwrap_or(cursor);
            // It counts as taken once the app asks for events: one that only sends keeps its place.
            self.given = Some(place);
        }
        self.cursor = Some(cursor);
        self.at = cursor.seq;
        self.discarding = self.reader_dropped;
        if reset {
            self.put(ConversationEvent::Reset { generation, first: start }, 0);
        }
        Ok(reset)
    }

    /// Queues `CaughtUp` when this seq is reached.
    pub(super) fn aim(&mut self, head: u64) {
        self.target = Some(head);
        self.reach();
    }

    /// Checks that this is the seq of the next event.
    pub(super) fn check(&self, seq: u64) -> Result<(), Violation> {
        if seq == self.at + 1 { Ok(()) } else { Err(Violation("an event is not at the cursor + 1")) }
    }

    /// Adds the next event, after [`Self::check`].
    pub(super) fn event(&mut self, event: OwnedEvent) {
        let bytes = event.body.len();
        if self.advance(event.seq, event.digest()) {
            self.put(ConversationEvent::Event(event), bytes);
            self.reach();
        }
    }

    /// Skips events up to and including `to`.
    pub(super) fn skip(&mut self, to: u64, why: SkipReason) -> Result<(), Violation> {
        if to <= self.at {
            return Err(Violation("a skip does not move the cursor"));
        }
        if self.advance(to, [0; 4]) {
            self.put(ConversationEvent::Skipped { to, why }, 0);
            self.reach();
        }
        Ok(())
    }

    /// Queues an item that does not move the cursor.
    pub(super) fn notice(&mut self, event: ConversationEvent) {
        // An app that reads nothing gets each of them once, however often the connection comes and goes.
        let repeats = self.queue.iter().rev().take(2).any(|(last, _)| *last == event);
        if !self.reader_dropped && !repeats {
            self.put(event, 0);
        }
    }

    /// Queues the last item.
    pub(super) fn end(&mut self, code: Code) {
        if !self.over {
            self.notice(ConversationEvent::Ended(code));
        }
        self.close();
    }

    /// Ends delivery.
    pub(super) fn close(&mut self) {
        self.over = true;
        self.wake();
    }

    /// The reader was dropped: no more events are delivered.
    pub(super) fn reader_dropped(&mut self) {
        self.reader_dropped = true;
        self.discarding = true;
        self.queue.clear();
        (self.bytes, self.full) = (0, false);
    }

    /// The app is done with what it was given.
    pub(super) fn acknowledge(&mut self) {
        self.taken = self.given;
    }

    /// Returns the next event for the app; `Some(None)` after the last.
    pub(super) fn pop(&mut self, waker: &Waker) -> Option<Option<ConversationEvent>> {
        self.acknowledge();
        if let Some((event, after)) = self.queue.pop_front() {
            if let ConversationEvent::Event(event) = &event {
                self.bytes -= event.body.len();
            }
            self.full &= self.queue.len() > EVENTS / 2 || self.bytes > BYTES / 2;
            self.given = after.or(self.given);
            return Some(Some(event));
        }
        if self.over {
            return Some(None);
        }
        self.waker = Some(waker.clone());
        None
    }

    /// Moves the position of the stream; returns whether the event is queued.
    fn advance(&mut self, to: u64, digest: [u8; 4]) -> bool {
        self.at = to;
        self.discarding |= self.full;
        if let (false, Some(cursor)) = (self.discarding, &mut self.cursor) {
            (cursor.seq, cursor.digest) = (to, digest);
        }
        !self.discarding
    }

    fn reach(&mut self) {
        let reached = |target: u64| self.cursor.is_some_and(|cursor| cursor.seq >= target);
        if self.target.is_some_and(reached) {
            self.target = None;
            self.notice(ConversationEvent::CaughtUp);
        }
    }

    fn put(&mut self, event: ConversationEvent, bytes: usize) {
        self.bytes += bytes;
        self.queue.push_back((event, self.cursor));
        self.full |= self.queue.len() >= EVENTS || self.bytes >= BYTES;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
