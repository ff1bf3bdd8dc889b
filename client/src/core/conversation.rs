//! One conversation over one stream after another: its state, what the app does, what its task does. What the relay says is in
//! [`answers`].

mod answers;

use std::{
    collections::{BTreeMap, HashSet},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use quip_protocol::{
    ConversationId, UserId,
    conversation::{self as wire, Mark},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Ticket, delivery::Delivery, frames, outbox::Outbox};
use crate::{Change, ConversationEvent, Cursor, OpenError, OpenOptions, Opened, SavedConversation, Target};

/// What the stream's task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Reads, and writes what there is.
    Go,
    /// Finishes its side, and reads until the relay finishes.
    Finish,
    /// Opens again on a new stream after this long.
    Again(Duration),
    /// The same, on another relay if there is one.
    Elsewhere,
    /// It is over for good.
    Over,
}

/// The decisions of one open conversation.
pub(crate) struct Core {
    me: UserId,
    id: ConversationId,
    target: Target,
    start: crate::Start,
    saved: SavedConversation,
    stream: Stream,
    /// Where the present stream was asked to start.
    asked: Option<Cursor>,
    /// The `n` of the join that the present stream began with.
    joining: Option<u64>,
    /// Still to become a member.
    want_join: bool,
    tries: u32,
    opening: Option<oneshot::Sender<Result<(), OpenError>>>,
    opened: Option<Opened>,
    outbox: Outbox,
    delivery: Delivery,
    /// The log that `n`s and cursor are of.
    log: Option<u64>,
    /// Own events that are still to come: seq to `n`.
    own: BTreeMap<u64, u64>,
    names: HashSet<UserId>,
    mark: Option<Mark>,
    mark_due: bool,
    /// Nothing is sent before this, because the relay said so.
    hold: Option<Instant>,
    /// The stream is to be finished and opened again, as soon as everything sent on it is answered.
    resync: bool,
    /// The app is to be told when the stream is open again.
    lost: bool,
    /// The membership has ended, and the present stream only asks what became of commands without an answer.
    parting: bool,
    next: Option<Next>,
    save_at: Option<Instant>,
    /// No handle is left; by then the stream ends, answers or not.
    linger: Option<Instant>,
    changes: Vec<Change>,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    None,
    Opening,
    Open,
    /// Finished on our side.
    Finishing,
    /// Finished on both.
    Drained,
    Over,
}

/// What a conversation begins with.
pub(crate) struct Setup {
    pub(crate) me: UserId,
    pub(crate) target: Target,
    pub(crate) options: OpenOptions,
    pub(crate) saved: SavedConversation,
    pub(crate) opening: oneshot::Sender<Result<(), OpenError>>,
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { me, target, options, saved, opening } = setup;
        let id = target.conversation(&me);
        Self {
            outbox: Outbox::new(id, &saved),
            log: saved.cursor.map(|cursor| cursor.generation),
            me,
            id,
            target,
            start: options.start,
            saved,
            stream: Stream::None,
            asked: None,
            joining: None,
            want_join: options.join,
            tries: 0,
            opening: Some(opening),
            opened: None,
            delivery: Delivery::default(),
            own: BTreeMap::new(),
            names: HashSet::new(),
            mark: None,
            mark_due: false,
            hold: None,
            resync: false,
            lost: false,
            parting: false,
            next: None,
            save_at: None,
            linger: None,
            changes: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> ConversationId {
        self.id
    }

    /// What was found at the latest opening.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// How many commands are without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.outbox.len()
    }

    /// Whether no handle is left.
    pub(crate) fn is_released(&self) -> bool {
        self.linger.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stream == Stream::Over
    }

    // --- The app ---

    /// A command under the next number, and what must be kept before [`Self::send`].
    pub(crate) fn prepare(&self, make: impl FnOnce(u64) -> Bytes) -> (Bytes, Change) {
        let frame = make(self.outbox.next_n());
        (frame.clone(), self.outbox.queued(frame))
    }

    /// Queues a prepared command; its number.
    pub(crate) fn send(&mut self, frame: Bytes, ticket: Ticket) -> u64 {
        let n = self.outbox.next_n();
        self.outbox.push(frame, Some(ticket));
        n
    }

    /// Marks everything up to an event as read.
    pub(crate) fn mark(&mut self, mark: Mark) {
        if self.mark.is_none_or(|old| old.seq < mark.seq) {
            (self.mark, self.mark_due) = (Some(mark), true);
        }
    }

    /// The next event for the app, `Some(None)` after the last one; and whether the stream's task has to know.
    /// What the app took is kept soon after.
    pub(crate) fn pop(&mut self, now: Instant, waker: &Waker) -> (Option<Option<ConversationEvent>>, bool) {
        let before = (self.wants_read(), self.save_at);
        let popped = self.delivery.pop(waker);
        self.plan_save(now);
        (popped, before != (self.wants_read(), self.save_at) || self.delivery.must_fetch())
    }

    /// After the event that the app was given last.
    pub(crate) fn given(&self) -> Cursor {
        self.delivery.given()
    }

    /// The app is done with every event that it was given.
    pub(crate) fn acknowledge(&mut self, now: Instant) {
        self.delivery.acknowledge();
        self.plan_save(now);
    }

    /// Nobody takes events any more. One that was given last and not acknowledged comes again.
    pub(crate) fn reader_gone(&mut self) {
        self.delivery.reader_gone();
        self.save_cursor();
    }

    /// The last handle is gone: the stream ends once everything is answered, or at `deadline`.
    pub(crate) fn release(&mut self, deadline: Instant) {
        self.linger = Some(deadline);
    }

    /// The client is closed: whatever is unanswered stays kept.
    pub(crate) fn close(&mut self, error: OpenError) {
        self.stream = Stream::Over;
        self.opening.take().map(|opening| opening.send(Err(error)));
        self.delivery.close();
        self.outbox.close();
        self.save_cursor();
    }

    // --- The stream's task ---

    /// A new stream on a relay whose log is `generation`.
    pub(crate) fn connected(&mut self, generation: u64) {
        (self.resync, self.hold) = (false, None);
        self.stream = Stream::Opening;
        self.joining = self.outbox.join();
        if self.joining.is_none() && self.want_join && self.outbox.is_empty() {
            let n = self.outbox.next_n();
            self.outbox.push_join(frames::join(&self.target.to_wire(), n));
            self.joining = Some(n);
        }
        if let Some(n) = self.joining {
            self.outbox.mark_sent(n);
        }
        let start = self.start(generation);
        self.asked = match start {
            wire::Start::After { generation, seq } => Some(Cursor { generation, seq }),
            _ => None,
        };
        let target = self.target.to_wire();
        frames::append(&wire::Open::new(&target, self.joining.unwrap_or(0), start), &mut self.out);
    }

    /// The stream is gone, for a reason that the app knows of (a lost connection) or not.
    pub(crate) fn disconnected(&mut self) {
        self.outbox.lost();
        self.out.clear();
        self.next = None;
        if self.stream != Stream::Over {
            self.lost |= self.opened.is_some() && self.stream != Stream::Drained;
            self.stream = Stream::None;
        }
    }

    /// What to do now; to be asked after every input. `idle`: everything handed out was written.
    pub(crate) fn poll(&mut self, now: Instant, idle: bool) -> Next {
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_cursor();
        }
        if self.stream == Stream::Over {
            return Next::Over;
        }
        if let Some(next) = self.next {
            return next;
        }
        if self.linger.is_some_and(|deadline| self.may_leave(deadline <= now, idle)) {
            self.save_cursor();
            self.outbox.close();
            self.stream = Stream::Over;
            return Next::Over;
        }
        if self.stream == Stream::Open {
            return self.drive(now);
        }
        Next::Go
    }

    /// When to call [`Self::poll`] at the latest.
    pub(crate) fn timer(&self) -> Option<Instant> {
        let hold = self.hold.filter(|_| self.stream == Stream::Open && !self.resync);
        [hold, self.save_at, self.linger].into_iter().flatten().min()
    }

    /// Whether the stream is to be read: the app has room, or commands wait for answers, which come the same way.
    pub(crate) fn wants_read(&self) -> bool {
        !self.delivery.is_full() || self.stream != Stream::Open || !self.outbox.is_empty()
    }

    /// Frames to write, in order.
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn has_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// What must be kept before anything from [`Self::take_out`] is written, and how many commands were settled.
    pub(crate) fn take_effects(&mut self) -> (Vec<Change>, usize) {
        let (mut changes, settled) = self.outbox.take_effects();
        changes.append(&mut self.changes);
        (changes, settled)
    }

    // --- Inside ---

    fn start(&self, generation: u64) -> wire::Start {
        match self.delivery.cursor() {
            None => self.start.to_wire(self.saved.cursor, generation),
            Some(_) if self.delivery.is_reader_gone() => wire::Start::Now,
            Some(Cursor { generation, seq }) => wire::Start::After { generation, seq },
        }
    }

    fn drive(&mut self, now: Instant) -> Next {
        self.resync |= self.delivery.must_fetch() || (self.want_join && self.outbox.is_empty());
        if self.resync && !self.outbox.unanswered() {
            self.stream = Stream::Finishing;
            return Next::Finish;
        }
        if !self.resync && self.hold.is_none_or(|hold| hold <= now) {
            self.hold = None;
            self.outbox.write(&mut self.out);
        }
        if let (true, Some(mark)) = (std::mem::take(&mut self.mark_due), self.mark) {
            frames::append(&mark, &mut self.out);
        }
        Next::Go
    }

    fn may_leave(&self, late: bool, idle: bool) -> bool {
        late || (idle && self.out.is_empty() && self.outbox.is_empty() && !self.mark_due)
    }

    fn plan_save(&mut self, now: Instant) {
        if self.save_at.is_none() && self.delivery.taken() != self.saved.cursor {
            self.save_at = Some(now + SAVE);
        }
    }

    fn save_cursor(&mut self) {
        self.save_at = None;
        if let Some(cursor) = self.delivery.taken().filter(|cursor| Some(*cursor) != self.saved.cursor) {
            self.saved.cursor = Some(cursor);
            self.changes.push(Change::Cursor(self.id, cursor));
        }
    }
}

/// From when the app takes an event to when the cursor is kept.
const SAVE: Duration = Duration::from_millis(100);
