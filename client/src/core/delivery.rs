//! The cursor, and the events that wait for the app.

use std::{collections::VecDeque, task::Waker};

use quip_protocol::Code;

use super::Violation;
use crate::{ConversationEvent, Cursor, OwnedEvent, SkipReason};

/// Events that wait for the app before the stream is no longer read.
pub(super) const EVENTS: usize = 256;
/// Bytes of content of such events.
pub(super) const BYTES: usize = 256 * 1024;

/// Delivery of one conversation.
///
/// An app that does not take events must not keep its own commands from being answered, and both come on one stream. So with
/// commands unanswered and the queue full, the stream is read on and its events are *let go*: they are fetched again,
/// from the cursor, once the app has emptied the queue.
#[derive(Default)]
pub(super) struct Delivery {
    /// After the last event that is queued.
    cursor: Option<Cursor>,
    /// The stream's own place; ahead of the cursor while events are let go.
    at: u64,
    queue: VecDeque<(ConversationEvent, Cursor)>,
    bytes: usize,
    full: bool,
    /// After the event that the app was given last.
    given: Option<Cursor>,
    /// After the event before that one, which the app must be done with.
    taken: Option<Cursor>,
    letting_go: bool,
    reader_gone: bool,
    over: bool,
    /// The head that makes the app caught up, until it is reached.
    target: Option<u64>,
    waker: Option<Waker>,
}

impl Delivery {
    /// The place to open at again.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// After the event that the app was given last.
    pub(super) fn given(&self) -> Cursor {
        self.given.unwrap_or(Cursor { generation: 0, seq: 0 })
    }

    /// After the last event that the app is done with.
    pub(super) fn taken(&self) -> Option<Cursor> {
        self.taken
    }

    /// Full is until half is taken, so that reading does not stop and start with every event.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the stream has not come to this place yet.
    pub(super) fn is_ahead(&self, seq: u64) -> bool {
        seq > self.at
    }

    pub(super) fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Whether events were let go that the app can take now.
    pub(super) fn must_fetch(&self) -> bool {
        self.lacks_events() && self.queue.is_empty()
    }

    /// Whether events were let go that the app is still to have.
    pub(super) fn lacks_events(&self) -> bool {
        self.letting_go && !self.reader_gone && !self.over
    }

    /// The stream begins at `cursor`; without one (not asked for), just before `start`.
    pub(super) fn opened(&mut self, asked: Option<Cursor>, generation: u64, start: u64) -> Result<(), Violation> {
        let found = Cursor { generation, seq: start.saturating_sub(1) };
        let cursor = match asked {
            Some(cursor) if cursor.generation == generation => cursor,
            // The beginning of whatever log there is.
            Some(Cursor { generation: 0, .. }) => Cursor { generation, seq: 0 },
            _ => found,
        };
        if start <= cursor.seq {
            return Err(Violation("delivery starts at or before the cursor"));
        }
        if self.given.is_none() {
            (self.given, self.taken) = (Some(cursor), Some(cursor));
        }
        self.cursor = Some(cursor);
        self.at = cursor.seq;
        self.letting_go = self.reader_gone;
        if asked.is_some_and(|asked| asked.generation != 0 && asked.generation != generation) {
            self.put(ConversationEvent::Reset { generation, first: start }, 0);
        }
        Ok(())
    }

    /// Says `CaughtUp` when this is reached.
    pub(super) fn aim(&mut self, head: u64) {
        self.target = Some(head);
        self.reach();
    }

    /// The place of the next event, which must be this one's.
    pub(super) fn check(&self, seq: u64) -> Result<(), Violation> {
        if seq == self.at + 1 { Ok(()) } else { Err(Violation("an event is not at the cursor + 1")) }
    }

    /// The next event, after [`Self::check`].
    pub(super) fn event(&mut self, event: OwnedEvent) {
        let (seq, bytes) = (event.seq, event.body.len());
        if self.advance(seq) {
            self.put(ConversationEvent::Event(event), bytes);
            self.reach();
        }
    }

    /// Nothing comes up to and including `to`.
    pub(super) fn skip(&mut self, to: u64, why: SkipReason) -> Result<(), Violation> {
        if to <= self.at {
            return Err(Violation("a skip does not move the cursor"));
        }
        if self.advance(to) {
            self.put(ConversationEvent::Skipped { to, why }, 0);
            self.reach();
        }
        Ok(())
    }

    /// Something that moves no cursor.
    pub(super) fn notice(&mut self, event: ConversationEvent) {
        if !self.reader_gone {
            self.put(event, 0);
        }
    }

    /// The last event of all.
    pub(super) fn end(&mut self, code: Code) {
        // Without a cursor it was never opened, and that is told otherwise.
        if !self.over && self.cursor.is_some() {
            self.notice(ConversationEvent::Ended(code));
        }
        self.close();
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self) {
        self.over = true;
        self.wake();
    }

    /// Whether the app will never see another event.
    pub(super) fn reader_gone(&mut self) {
        self.reader_gone = true;
        self.letting_go = true;
        self.queue.clear();
        (self.bytes, self.full) = (0, false);
    }

    /// The app is done with what it was given.
    pub(super) fn acknowledge(&mut self) {
        self.taken = self.given;
    }

    /// The next event for the app; `Some(None)` after the last.
    pub(super) fn pop(&mut self, waker: &Waker) -> Option<Option<ConversationEvent>> {
        self.acknowledge();
        if let Some((event, after)) = self.queue.pop_front() {
            if let ConversationEvent::Event(event) = &event {
                self.bytes -= event.body.len();
            }
            self.full &= self.queue.len() > EVENTS / 2 || self.bytes > BYTES / 2;
            self.given = Some(after);
            return Some(Some(event));
        }
        if self.over {
            return Some(None);
        }
        self.waker = Some(waker.clone());
        None
    }

    /// Moves the stream's place; whether the app gets what was there.
    fn advance(&mut self, to: u64) -> bool {
        self.at = to;
        self.letting_go |= self.full;
        if let (false, Some(cursor)) = (self.letting_go, &mut self.cursor) {
            cursor.seq = to;
        }
        !self.letting_go
    }

    fn reach(&mut self) {
        let reached = |target: u64| self.cursor.is_some_and(|cursor| cursor.seq >= target);
        if self.target.is_some_and(reached) {
            self.target = None;
            self.notice(ConversationEvent::CaughtUp);
        }
    }

    fn put(&mut self, event: ConversationEvent, bytes: usize) {
        let cursor = self.cursor.expect("set when the stream was opened");
        self.bytes += bytes;
        self.queue.push_back((event, cursor));
        self.full |= self.queue.len() >= EVENTS || self.bytes >= BYTES;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
