//! One conversation over one stream after another.

use std::{
    collections::{BTreeMap, HashSet},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quip_protocol::{
    Code, ConversationId, Event, Retry, ToClient, UserId,
    conversation::{self as wire, End, Mark, Rejected, Skip},
};
use tokio::sync::oneshot;

use super::{Ticket, Violation, delivery::Delivery, frames, outbox::Outbox};
use crate::{
    Accepted, Change, ConversationEvent, Cursor, OpenError, OpenOptions, Opened, OwnedEvent, ReceiptError,
    SavedConversation, SkipReason, Target,
};

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

    /// Nobody takes events any more.
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
        self.outbox.lost();
        self.out.clear();
        (self.resync, self.next, self.hold) = (false, None, None);
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

    /// A frame of the present stream.
    pub(crate) fn frame(&mut self, frame: &ToClient<'_>, now: Instant) -> Result<(), Violation> {
        match (self.stream, frame) {
            (Stream::None | Stream::Finishing | Stream::Drained | Stream::Over, _) => Ok(()),
            (Stream::Opening, ToClient::Opened(opened)) => self.on_opened(opened),
            (_, ToClient::End(end)) => {
                self.on_end(end.code, Duration::from_millis(end.retry_after), end);
                Ok(())
            }
            (Stream::Open, ToClient::Event(event)) => self.on_event(event),
            (Stream::Open, ToClient::Accepted(accepted)) => self.on_accepted(*accepted),
            (Stream::Open, ToClient::Ack(ack)) => {
                self.on_ack(*ack);
                Ok(())
            }
            (Stream::Open, ToClient::Rejected(rejected)) => self.on_rejected(rejected, now),
            (Stream::Open, ToClient::Skip(skip)) => self.delivery.skip(skip.to, why(*skip)),
            _ => Err(Violation("a frame that has no place on this stream")),
        }
    }

    /// The relay reset the stream.
    pub(crate) fn reset(&mut self, code: Code) {
        if self.next.is_none() && !self.drained() {
            self.on_end(code, PAUSE, &End { code, retry_after: 0, info: 0, text: "" });
        }
    }

    /// The relay finished the stream.
    pub(crate) fn finished(&mut self) -> Result<(), Violation> {
        let expected = self.drained() || self.next.is_some() || self.stream == Stream::Over;
        if expected { Ok(()) } else { Err(Violation("a stream without an End")) }
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

    fn drained(&mut self) -> bool {
        let finishing = self.stream == Stream::Finishing;
        if finishing {
            self.stream = Stream::Drained;
            self.next = Some(Next::Again(Duration::ZERO));
        }
        finishing
    }

    fn start(&self, generation: u64) -> wire::Start {
        match self.delivery.cursor() {
            None => self.start.to_wire(self.saved.cursor, generation),
            Some(_) if self.delivery.is_reader_gone() => wire::Start::Now,
            Some(Cursor { generation, seq }) => wire::Start::After { generation, seq },
        }
    }

    fn on_opened(&mut self, opened: &wire::Opened<'_>) -> Result<(), Violation> {
        if opened.conversation != self.id {
            return Err(Violation("another conversation was opened"));
        }
        self.delivery.opened(self.asked, opened.generation, opened.start)?;
        let same_log = self.log.replace(opened.generation).is_none_or(|log| log == opened.generation);
        self.own.extend(opened.outcomes.iter().filter(|o| o.seq >= opened.start).map(|o| (o.seq, o.n)));
        self.outbox.opened(opened.last_n, opened.outcomes.iter(), same_log);
        if self.outbox.join().is_some() {
            return Err(Violation("a join is neither accepted nor refused"));
        }
        self.stream = Stream::Open;
        self.mark_due = self.mark.is_some_and(|mark| mark.seq > opened.read);
        if std::mem::take(&mut self.lost) {
            self.delivery.notice(ConversationEvent::Reconnected);
            self.delivery.aim(opened.head);
        } else if self.opened.is_none() {
            self.delivery.aim(opened.head);
        }
        self.opened = Some(info(opened));
        self.settle_opening(opened.role)
    }

    /// Resolves the opening, unless this user is still to become a member.
    fn settle_opening(&mut self, role: u8) -> Result<(), Violation> {
        if self.want_join && role == 0 {
            self.tries += 1;
            if self.tries > TRIES {
                return Err(Violation("a join is accepted without a membership"));
            }
            return Ok(());
        }
        self.want_join = false;
        self.opening.take().map(|opening| opening.send(Ok(())));
        Ok(())
    }

    fn on_event(&mut self, event: &Event<'_>) -> Result<(), Violation> {
        self.delivery.check(event.seq)?;
        let user = self.name(event.user)?;
        let Event { seq, number, at, kind, .. } = *event;
        let body = Bytes::copy_from_slice(event.body.0);
        self.deliver(OwnedEvent { seq, number, at, user, kind, body, own: None });
        Ok(())
    }

    /// An own event in its place: the relay leaves out what this side knows.
    fn on_accepted(&mut self, accepted: wire::Accepted) -> Result<(), Violation> {
        let wire::Accepted { n, seq, number, at } = accepted;
        self.delivery.check(seq)?;
        let known = match self.outbox.frame(n) {
            Some(frame) => frames::event(frame),
            None if self.joining == Some(n) => Some((crate::kind::JOINED, Bytes::new())),
            None => None,
        };
        let (kind, body) = known.ok_or(Violation("accepted is what was not sent"))?;
        self.outbox.settle(n, Ok(Accepted { seq, number, at }));
        self.deliver(OwnedEvent { seq, number, at, user: self.me.clone(), kind, body, own: Some(n) });
        Ok(())
    }

    fn deliver(&mut self, mut event: OwnedEvent) {
        let own = self.own.remove(&event.seq);
        event.own = event.own.or(own);
        self.delivery.event(event);
    }

    fn on_ack(&mut self, ack: wire::Ack) {
        let wire::Ack { n, seq, number, at } = ack;
        let waited = self.outbox.settle(n, Ok(Accepted { seq, number, at }));
        if waited && self.delivery.is_ahead(seq) && self.own.len() < OWN {
            self.own.insert(seq, n);
        }
    }

    fn on_rejected(&mut self, rejected: &Rejected, now: Instant) -> Result<(), Violation> {
        let Rejected { n, code, retry_after, info } = *rejected;
        if !self.outbox.is_sent(n) {
            return Ok(());
        }
        match code {
            Code::KNOWN => {
                self.outbox.settle(n, Err(ReceiptError::Unknown));
            }
            Code::REUSED => {
                self.outbox.displace(n);
                self.resync = true;
            }
            Code::MISSING => {
                self.outbox.wait_again(n);
                self.resync |= self.outbox.first_n().is_some_and(|first| first > info + 1);
                self.hold_until(now + PAUSE);
            }
            Code::BLOCKED => self.outbox.wait_again(n),
            _ => return self.on_rejected_by_range(n, code, now + Duration::from_millis(retry_after).max(SHORT)),
        }
        Ok(())
    }

    fn on_rejected_by_range(&mut self, n: u64, code: Code, again: Instant) -> Result<(), Violation> {
        match code.retry() {
            Retry::Final => {
                self.outbox.settle(n, Err(ReceiptError::Refused(code)));
                // The number is free again, and what follows must move up.
                self.resync |= !code.decides();
            }
            Retry::Later => {
                self.outbox.wait_again(n);
                self.hold_until(again);
            }
            Retry::Elsewhere => {
                self.outbox.doubt(n);
                self.next = Some(Next::Elsewhere);
            }
            Retry::Done | Retry::Never => {
                return Err(Violation("a command is refused with a code that refuses nothing"));
            }
        }
        Ok(())
    }

    fn on_end(&mut self, code: Code, retry_after: Duration, end: &End<'_>) {
        let again = match self.stream {
            Stream::Opening => self.on_refused_join(end),
            // A former member, who is still to join.
            _ => self.want_join && code.retry() == Retry::Done,
        };
        if again {
            if self.stream == Stream::Open {
                self.outbox.give_up(ReceiptError::Unknown);
            }
            self.next = Some(Next::Again(SHORT));
            return;
        }
        self.next = match code.retry() {
            Retry::Later => Some(Next::Again(retry_after.max(SHORT))),
            Retry::Elsewhere => Some(Next::Elsewhere),
            // The relay has not noticed yet that the stream before is gone.
            _ if code == Code::ALREADY_OPEN => Some(Next::Again(PAUSE)),
            _ => {
                self.end(code, end.text);
                Some(Next::Over)
            }
        };
    }

    /// A refused `Open` that carried a join, or should have: whether another one may do better.
    fn on_refused_join(&mut self, end: &End<'_>) -> bool {
        let Some(n) = self.joining.filter(|n| self.outbox.has(*n)) else {
            // Commands from before are in the way of the join, and nothing about them can be learned.
            let in_the_way = end.code == Code::NOT_FOUND && self.want_join;
            if in_the_way {
                self.outbox.give_up(ReceiptError::Unknown);
            }
            return in_the_way;
        };
        self.tries += 1;
        match end.code {
            _ if self.tries > TRIES => false,
            Code::MISSING => {
                self.outbox.renumber_join(end.info + 1);
                true
            }
            // A number far too high is answered by MISSING, which tells the right one.
            Code::KNOWN | Code::REUSED => {
                self.outbox.renumber_join(n.saturating_add(FAR));
                true
            }
            code if code.retry() == Retry::Final && code != Code::ALREADY_OPEN => {
                self.outbox.settle(n, Err(ReceiptError::Refused(code)));
                false
            }
            _ => false,
        }
    }

    /// Ends for good. What was never decided is dropped, so that it does not surprise a later membership.
    fn end(&mut self, code: Code, text: &str) {
        if self.opened.is_some() {
            self.outbox.give_up(ReceiptError::Unknown);
        }
        let refused = OpenError::Refused { code, text: text.to_owned() };
        self.opening.take().map(|opening| opening.send(Err(refused)));
        self.delivery.end(code);
        self.save_cursor();
        self.stream = Stream::Over;
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

    fn hold_until(&mut self, until: Instant) {
        self.hold = Some(self.hold.map_or(until, |hold| hold.max(until)));
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

    fn name(&mut self, user: &str) -> Result<UserId, Violation> {
        if let Some(known) = self.names.get(user) {
            return Ok(known.clone());
        }
        let user = UserId::parse(user).map_err(|_| Violation("an event by what is not a user"))?;
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert(user.clone());
        Ok(user)
    }
}

pub(super) fn why(skip: Skip) -> SkipReason {
    match skip.why {
        wire::skip::TRIMMED => SkipReason::Trimmed,
        wire::skip::NOT_VISIBLE => SkipReason::NotVisible,
        other => SkipReason::Other(other),
    }
}

fn info(opened: &wire::Opened<'_>) -> Opened {
    Opened {
        conversation: opened.conversation,
        generation: opened.generation,
        first_kept: opened.first_kept,
        head: opened.head,
        number: opened.number,
        start: opened.start,
        role: opened.role,
        read: opened.read,
        read_number: opened.read_number,
        name: opened.name.to_owned(),
    }
}

/// The shortest pause before a refused command or open is repeated.
const SHORT: Duration = Duration::from_millis(10);
/// The pause before something that should not happen twice is repeated.
const PAUSE: Duration = Duration::from_millis(100);
/// From when the app takes an event to when the cursor is kept.
const SAVE: Duration = Duration::from_millis(100);
/// How often a join is tried with another number.
const TRIES: u32 = 5;
/// Added to a number to make it far too high.
const FAR: u64 = 1 << 32;
/// Own events that are told apart while they are still to come.
const OWN: usize = 4096;
/// User names that are shared between events.
const NAMES: usize = 1024;
