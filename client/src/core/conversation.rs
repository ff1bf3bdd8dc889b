//! The state of a conversation, the calls of the app, and the calls of its task. Frames from the relay are handled in
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
    cost,
};
use tokio::{sync::oneshot, time::Instant};

use super::{Ticket, delivery::Delivery, frames, outbox::Outbox};
use crate::{
    Accepted, Change, ConversationEvent, Cursor, OpenError, OpenOptions, Opened, ReceiptError, SavedConversation,
    Target,
};

/// What the task of the stream does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read, and write pending frames.
    Go,
    /// Finish the own side, and read until the relay finishes.
    Finish,
    /// Reopen on a new stream after this pause.
    Again(Duration),
    /// Reopen on another relay, if there is one.
    Elsewhere,
    /// End for good.
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
    /// The cursor that the current stream was opened at.
    asked: Option<Cursor>,
    /// The `n` of the join in the current `Open`.
    joining: Option<u64>,
    /// Whether this user still has to become a member.
    want_join: bool,
    tries: u32,
    /// If the app waits for the opening: resolved when it has the conversation, or will not have it.
    opening: Option<oneshot::Sender<Result<(), OpenError>>>,
    /// How long the app waits for that.
    deadline: Instant,
    /// Why the relay did not open the conversation the last time.
    refusal: Option<OpenError>,
    opened: Option<Opened>,
    outbox: Outbox,
    /// How many commands may be unanswered on the current stream.
    window: usize,
    delivery: Delivery,
    /// Seq and number of the newest event that is known, once there is a place to mark.
    newest: Option<(u64, u64)>,
    /// Generation of the log of the numbers and the cursor.
    log: Option<u64>,
    /// Acknowledged own events that are not delivered yet: seq to `n`.
    own: BTreeMap<u64, u64>,
    names: HashSet<UserId>,
    mark: Option<Mark>,
    mark_due: bool,
    /// Whether the last message was a mark, so that a command goes before the next one.
    marked: bool,
    /// No command is sent before this time, at the relay's request.
    hold: Option<Instant>,
    /// Whether to reopen the stream once all commands sent on it are answered.
    resync: bool,
    /// Whether to report [`ConversationEvent::Reconnected`] once the stream is open again.
    lost: bool,
    /// The membership ended; the current stream only fetches outstanding outcomes.
    parting: bool,
    behind: Behind,
    next: Option<Next>,
    save_at: Option<Instant>,
    /// No handle is left; the stream ends at this time, even with unanswered commands.
    linger: Option<Instant>,
    changes: Vec<Change>,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    None,
    Opening,
    Open,
    /// Finished on the own side.
    Finishing,
    /// Finished on both sides.
    Drained,
    Over,
}

/// Whether the relay's log ends before the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    No,
    /// It ends at this seq.
    At(u64),
    Reported,
}

/// The parameters of a new conversation.
pub(crate) struct Setup {
    pub(crate) me: UserId,
    pub(crate) target: Target,
    pub(crate) options: OpenOptions,
    pub(crate) saved: SavedConversation,
    /// How many unanswered commands an app may have.
    pub(crate) room: usize,
    /// If the app waits for the opening.
    pub(crate) opening: Option<oneshot::Sender<Result<(), OpenError>>>,
    /// How long the app waits for the opening.
    pub(crate) deadline: Instant,
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { me, target, options, saved, room, opening, deadline } = setup;
        let id = target.conversation(&me);
        let mut core = Self {
            outbox: Outbox::new(id, &saved, room),
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
            opening,
            deadline,
            refusal: None,
            opened: None,
            window: 0,
            delivery: Delivery::default(),
            newest: None,
            own: BTreeMap::new(),
            names: HashSet::new(),
            mark: None,
            mark_due: false,
            marked: false,
            hold: None,
            resync: false,
            lost: false,
            parting: false,
            behind: Behind::No,
            next: None,
            save_at: None,
            linger: None,
            changes: Vec::new(),
            out: Vec::new(),
        };
        // An app that does not wait may send before the opening, and a member's commands come after the join.
        if core.want_join && core.opening.is_none() && !core.outbox.has_join() {
            core.push_join();
        }
        core
    }

    pub(crate) fn id(&self) -> ConversationId {
        self.id
    }

    /// What the relay reported at the latest opening.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Why the relay did not open the conversation the last time, if it said so.
    pub(crate) fn refusal(&self) -> Option<OpenError> {
        self.refusal.clone()
    }

    /// How many unanswered commands count for the number that an app may have.
    pub(crate) fn unanswered(&self) -> usize {
        self.outbox.counted()
    }

    /// Whether no handle is left.
    pub(crate) fn is_released(&self) -> bool {
        self.linger.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stream == Stream::Over
    }

    // --- The app ---

    /// Makes a command with the next number, and the change to save before [`Self::send`].
    pub(crate) fn prepare(&self, make: impl FnOnce(u64) -> Bytes) -> (Bytes, Change) {
        let frame = make(self.outbox.next_n());
        (frame.clone(), self.outbox.queued(frame))
    }

    /// Queues a prepared command; returns its number.
    pub(crate) fn send(&mut self, frame: Bytes, ticket: Ticket) -> u64 {
        let n = self.outbox.next_n();
        self.outbox.push(frame, ticket);
        n
    }

    /// Marks everything up to an event as read.
    pub(crate) fn mark(&mut self, mark: Mark) {
        let mark = self.clamp(mark);
        if self.mark.is_none_or(|old| old.seq < mark.seq) {
            (self.mark, self.mark_due) = (Some(mark), true);
        }
    }

    /// Marks everything as read, up to the newest event that is known.
    pub(crate) fn mark_all(&mut self) {
        if let Some((seq, number)) = self.newest {
            self.mark(Mark { seq, number });
        }
    }

    /// Returns the next event for the app, `Some(None)` after the last one, and whether to wake the stream's task. The cursor
    /// is saved soon after.
    pub(crate) fn pop(&mut self, now: Instant, waker: &Waker) -> (Option<Option<ConversationEvent>>, bool) {
        let before = (self.wants_read(), self.save_at);
        let popped = self.delivery.pop(waker);
        self.plan_save(now);
        (popped, before != (self.wants_read(), self.save_at) || self.delivery.must_fetch())
    }

    /// The cursor after the event returned to the app last.
    pub(crate) fn given(&self) -> Cursor {
        self.delivery.given()
    }

    /// The app is done with every event that it was given.
    pub(crate) fn acknowledge(&mut self, now: Instant) {
        self.delivery.acknowledge();
        self.plan_save(now);
    }

    /// The reader of events was dropped. The event that it was given last and did not acknowledge comes again.
    pub(crate) fn reader_gone(&mut self) {
        self.delivery.reader_dropped();
        self.save_cursor();
    }

    /// The last handle was dropped: the stream ends once everything is answered, or at `deadline`.
    pub(crate) fn release(&mut self, deadline: Instant) {
        self.linger = Some(deadline);
    }

    /// The client was closed, or the opening failed: unanswered commands stay stored.
    pub(crate) fn close(&mut self, error: OpenError) {
        if self.stream == Stream::Over {
            return;
        }
        self.withdraw();
        self.stream = Stream::Over;
        self.opening.take().map(|opening| opening.send(Err(error)));
        self.delivery.close();
        self.outbox.close();
        self.save_cursor();
    }

    // --- The stream's task ---

    /// Whether the next stream begins with a command, a join.
    pub(crate) fn will_join(&self) -> bool {
        self.outbox.join().is_some() || self.may_join()
    }

    /// Begins a new stream on a relay whose log has this generation, and which takes this many unanswered commands. `channel`
    /// names it in datagrams.
    pub(crate) fn connected(&mut self, generation: u64, window: usize, channel: u64, random: [u8; 9]) {
        (self.resync, self.hold, self.window) = (false, None, window);
        self.stream = Stream::Opening;
        if self.may_join() {
            self.push_join();
        }
        self.joining = self.outbox.join();
        if let Some(n) = self.joining {
            self.outbox.mark_sent(n);
        }
        let cursor = self.start(generation);
        self.asked = cursor.ok();
        let start = cursor.map(|Cursor { generation, seq, .. }| wire::Start::After { generation, seq });
        let target = self.target.to_wire();
        let mut open = wire::Open::new(&target, self.joining.unwrap_or(0), start.unwrap_or_else(|start| start));
        (open.channel, open.digest) = (channel, self.asked.unwrap_or_default().digest);
        frames::append_open(&open, random, &mut self.out);
    }

    /// Whether the relay has opened the conversation on this stream.
    pub(crate) fn has_opened(&self) -> bool {
        !matches!(self.stream, Stream::None | Stream::Opening)
    }

    /// The stream was lost.
    pub(crate) fn disconnected(&mut self) {
        self.outbox.lost();
        self.out.clear();
        self.next = None;
        if self.stream != Stream::Over {
            self.lost |= self.opened.is_some() && self.stream != Stream::Drained;
            self.stream = Stream::None;
        }
    }

    /// Decides what to do next; called after every input. `idle`: everything handed out was written.
    pub(crate) fn poll(&mut self, now: Instant, idle: bool) -> Next {
        if self.save_at.is_some_and(|at| at <= now) {
            self.save_cursor();
        }
        if self.stream == Stream::Over {
            return Next::Over;
        }
        if self.linger.is_some() {
            self.withdraw();
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
            return self.drive();
        }
        Next::Go
    }

    /// Writes waiting commands, in order, and marks between them, as far as `permit` lets them. It gets the [`cost`] of each and
    /// the bytes that are unanswered then.
    pub(crate) fn write(&mut self, now: Instant, mut permit: impl FnMut(u32, usize) -> bool) {
        let held = self.hold.is_some_and(|hold| hold > now);
        if self.stream != Stream::Open || self.resync || held || self.next.is_some() {
            return;
        }
        self.hold = None;
        let mut room = self.window.saturating_sub(self.outbox.sent());
        loop {
            let command = self.outbox.next_size().filter(|_| room > 0);
            let mark = self.mark.filter(|_| self.mark_due && !(self.marked && command.is_some()));
            match (mark, command) {
                (Some(mark), _) if permit(cost::MARK, 0) => {
                    frames::append(&mark, &mut self.out);
                    (self.mark_due, self.marked) = (false, true);
                }
                (None, Some(size)) if permit(cost::COMMAND, size) => {
                    self.outbox.write_next(&mut self.out);
                    self.marked = false;
                    room -= 1;
                }
                _ => return,
            }
        }
    }

    /// Bytes of commands that were sent on this stream and are unanswered.
    pub(crate) fn unanswered_bytes(&self) -> usize {
        self.outbox.sent_bytes()
    }

    /// The relay's head, if its log ended before the cursor when it was asked last, and this was not reported yet.
    pub(crate) fn take_behind(&mut self) -> Option<u64> {
        match self.behind {
            Behind::At(head) => {
                self.behind = Behind::Reported;
                Some(head)
            }
            Behind::No | Behind::Reported => None,
        }
    }

    /// The latest time of the next [`Self::poll`].
    pub(crate) fn timer(&self) -> Option<Instant> {
        let hold = self.hold.filter(|_| self.stream == Stream::Open && !self.resync);
        [hold, self.save_at, self.linger].into_iter().flatten().min()
    }

    /// Whether to read the stream: the queue has room, or commands are unanswered.
    pub(crate) fn wants_read(&self) -> bool {
        !self.delivery.is_full() || self.stream != Stream::Open || !self.outbox.is_empty()
    }

    /// Takes what became of commands of an earlier run, which nobody waits for.
    pub(crate) fn take_restored(&mut self) -> Vec<(u64, Result<Accepted, ReceiptError>)> {
        self.outbox.take_restored()
    }

    /// Whether no more events come.
    pub(crate) fn is_read_to_its_end(&self) -> bool {
        self.delivery.is_over()
    }

    /// Takes the frames to write, in order.
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn has_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes the changes to save before anything from [`Self::take_out`] is written, and the number of resolved commands that
    /// count.
    pub(crate) fn take_effects(&mut self) -> (Vec<Change>, usize) {
        let (mut changes, settled) = self.outbox.take_effects();
        changes.append(&mut self.changes);
        (changes, settled)
    }

    // --- Inside ---

    /// The cursor to open at, or else another start.
    fn start(&self, generation: u64) -> Result<Cursor, wire::Start> {
        match self.delivery.cursor() {
            None => self.start.cursor(self.saved.cursor, generation),
            Some(_) if self.delivery.is_reader_dropped() => Err(wire::Start::Now),
            Some(cursor) => Ok(cursor),
        }
    }

    fn drive(&mut self) -> Next {
        self.resync |= self.delivery.must_fetch() || self.may_join() || self.outbox.join().is_some();
        if self.resync && !self.outbox.unanswered() {
            self.stream = Stream::Finishing;
            return Next::Finish;
        }
        Next::Go
    }

    /// Whether this user still has to become a member, and no earlier command is in the way.
    fn may_join(&self) -> bool {
        self.want_join && self.outbox.is_empty()
    }

    /// A join is sent with the opening of a stream, as the first command.
    fn push_join(&mut self) {
        let frame = frames::join(&self.target.to_wire(), self.outbox.next_n());
        self.outbox.push_join(frame);
    }

    /// A mark of what is not known would hide all later ones.
    fn clamp(&self, mark: Mark) -> Mark {
        self.newest.map_or(mark, |(seq, number)| Mark { seq: mark.seq.min(seq), number: mark.number.min(number) })
    }

    /// The app does not get a conversation that is not opened yet, so the user does not join it, unless the relay may have
    /// decided that already.
    fn withdraw(&mut self) {
        if self.opening.is_some() || self.opened.is_none() {
            self.want_join = false;
            self.outbox.withdraw_join();
        }
    }

    fn hold_until(&mut self, until: Instant) {
        self.hold = Some(self.hold.map_or(until, |hold| hold.max(until)));
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

/// Delay between taking an event and saving the cursor.
const SAVE: Duration = Duration::from_millis(100);
