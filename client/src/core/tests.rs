//! One rule of the protocol after the other: what comes in, and exactly what goes out.

mod states;
mod traces;

use std::{task::Waker, time::Duration};

use bytes::Bytes;
use quip_protocol::{
    Blob, Code, Event, Items, ToClient, ToRelay, UserId,
    conversation::{
        Accepted as WireAccepted, Ack, End, JOIN_CHECK, Mark, Opened, Outcome, Post, Rejected, Skip,
        Start as WireStart, skip,
    },
    cost,
    event::kind,
    frame::{self, to_bytes},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Core, Next, Setup, Violation, frames};
use crate::{
    Accepted, Change, ConversationEvent, Cursor, OpenError, OpenOptions, ReceiptError, Saved, SavedConversation, Start,
    Target,
};

const LOG: u64 = 7;
const WINDOW: usize = 64;
/// Stands for the check of the command with that number.
const OWN: [u8; 4] = [0xff; 4];
/// How long the app waits for an opening.
const PATIENCE: Duration = Duration::from_secs(15);

struct Room {
    core: Core,
    now: Instant,
    saved: Saved,
    opening: oneshot::Receiver<Result<(), OpenError>>,
}

type Fate = oneshot::Receiver<Result<Accepted, ReceiptError>>;

impl Room {
    fn new(options: OpenOptions, saved: SavedConversation) -> Self {
        Self::begin(options, saved, true)
    }

    /// Of an app that waits for the opening, or does not.
    fn begin(options: OpenOptions, saved: SavedConversation, waits: bool) -> Self {
        let (ticket, opening) = oneshot::channel();
        let ticket = waits.then_some(ticket);
        let me = UserId::parse("alice").expect("a user");
        let target = Target::room("test:room").expect("a room");
        let mut kept = Saved::default();
        kept.conversations.insert(target.conversation(&me), saved.clone());
        let now = Instant::now();
        let core = Core::new(Setup { me, target, options, saved, room: 64, opening: ticket, deadline: now + PATIENCE });
        let mut room = Self { core, now, saved: kept, opening };
        room.out();
        room
    }

    /// A member at the head of a log of `head` events, with nothing sent so far.
    fn open(head: u64) -> Self {
        let mut room = Self::new(OpenOptions::member().start(Start::Now), SavedConversation::default());
        assert_eq!(room.connect(), ["open join 0 Now"]);
        room.opened(head, head + 1, 0, &[]);
        assert_eq!(room.events(), ["caught up"]);
        room.wait(100);
        room.poll();
        room
    }

    fn kept(&self) -> &SavedConversation {
        &self.saved.conversations[&self.core.id()]
    }

    fn connect(&mut self) -> Vec<String> {
        self.core.connected(LOG, WINDOW, 4, [1; 9]);
        self.out()
    }

    fn reconnect(&mut self) -> Vec<String> {
        self.core.disconnected();
        self.connect()
    }

    fn send(&mut self, text: &str) -> Fate {
        let make = |n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) });
        let (frame, change) = self.core.prepare(make);
        self.saved.apply(&change);
        let (ticket, fate) = oneshot::channel();
        self.core.send(frame, ticket);
        fate
    }

    fn try_frame(&mut self, frame: ToClient<'_>) -> Result<(), Violation> {
        self.core.frame(&frame, self.now)
    }

    fn frame(&mut self, frame: ToClient<'_>) {
        self.try_frame(frame).expect("a good frame");
    }

    fn opened(&mut self, head: u64, start: u64, last_n: u64, outcomes: &[Outcome]) {
        self.opened_in(LOG, 1, head, start, last_n, outcomes).expect("a good opening");
    }

    fn opened_in(
        &mut self,
        generation: u64,
        role: u8,
        head: u64,
        start: u64,
        last_n: u64,
        outcomes: &[Outcome],
    ) -> Result<(), Violation> {
        let outcomes: Vec<_> = outcomes.iter().map(|outcome| self.with_check(*outcome)).collect();
        self.try_frame(ToClient::Opened(Opened {
            conversation: self.core.id(),
            generation,
            first_kept: 1,
            head,
            number: head,
            start,
            role,
            last_n,
            outcomes: Items::encode(outcomes),
            read: 0,
            read_number: 0,
            name: "test:room",
            members: 1,
            present: 1,
        }))
    }

    /// With the check that the relay has.
    fn with_check(&self, outcome: Outcome) -> Outcome {
        let sent = |(n, _): &&(u64, Bytes)| *n == outcome.n;
        let own = self.saved.conversations.get(&self.core.id()).and_then(|saved| saved.outbox.iter().find(sent));
        let own = own.and_then(|(_, frame)| frames::check(frame)).filter(|_| outcome.check == OWN);
        Outcome { check: own.unwrap_or(outcome.check), ..outcome }
    }

    fn event(&mut self, seq: u64) {
        self.try_event(seq).expect("a good event");
    }

    fn try_event(&mut self, seq: u64) -> Result<(), Violation> {
        self.try_frame(ToClient::Event(Event { seq, number: seq, at: seq, user: "bob", kind: 1, body: Blob(b"hi") }))
    }

    fn accepted(&mut self, n: u64, seq: u64) {
        self.frame(ToClient::Accepted(WireAccepted { n, seq, number: seq, at: seq }));
    }

    fn ack(&mut self, n: u64, seq: u64) {
        self.frame(ToClient::Ack(Ack { n, seq, number: seq, at: seq }));
    }

    fn rejected(&mut self, n: u64, code: Code) {
        self.rejected_with(n, code, 0, 0);
    }

    fn rejected_with(&mut self, n: u64, code: Code, retry_after: u64, info: u64) {
        self.frame(ToClient::Rejected(Rejected { n, code, retry_after, info }));
    }

    fn end(&mut self, code: Code, info: u64) {
        self.frame(ToClient::End(End { code, retry_after: 0, info, text: "because" }));
    }

    fn put_off(&mut self, code: Code, retry_after: Duration) {
        let retry_after = retry_after.as_millis() as u64;
        self.frame(ToClient::End(End { code, retry_after, info: 0, text: "because" }));
    }

    fn poll(&mut self) -> Next {
        let next = self.core.poll(self.now, true);
        let (changes, _) = self.core.take_effects();
        changes.iter().for_each(|change| self.saved.apply(change));
        next
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    /// What is written now, in words.
    fn out(&mut self) -> Vec<String> {
        self.poll();
        self.core.write(self.now, |_, _| true);
        let out = Bytes::from(self.core.take_out());
        let (mut rest, mut words) = (&out[..], Vec::new());
        while let Some((frame, used)) = frame::split(rest, 65_536).expect("frames") {
            words.push(match ToRelay::decode(frame).expect("decodes").expect("known") {
                ToRelay::Open(open) => match open.start().expect("a start") {
                    WireStart::After { generation, seq } => format!("open join {} after {generation}:{seq}", open.join),
                    start => format!("open join {} {start:?}", open.join),
                },
                ToRelay::Post(post) => format!("{} {}", post.n, String::from_utf8_lossy(post.body.0)),
                ToRelay::Mark(mark) => format!("mark {}", mark.seq),
                other => panic!("unexpected {other:?}"),
            });
            rest = &rest[used..];
        }
        words
    }

    /// What the app is given now, in words.
    fn events(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(Some(event)) = self.core.pop(self.now, Waker::noop()).0 {
            words.push(match event {
                ConversationEvent::Event(event) => {
                    let own = event.own.map_or(String::new(), |n| format!(" own {n}"));
                    format!("{} {}{own}", event.seq, event.user)
                }
                ConversationEvent::CaughtUp => "caught up".to_owned(),
                ConversationEvent::Reconnected => "reconnected".to_owned(),
                ConversationEvent::Reset { generation, first } => format!("reset {generation}:{first}"),
                ConversationEvent::Skipped { to, why } => format!("skipped to {to} {why:?}"),
                ConversationEvent::Ended(code) => format!("ended {code:?}"),
            });
        }
        words
    }
}

fn outcome(n: u64, code: Code, seq: u64) -> Outcome {
    Outcome { n, code, seq, number: seq, at: seq, check: OWN }
}

/// The cursor at an event of which nothing else is known.
fn at_seq(seq: u64) -> Cursor {
    Cursor { generation: LOG, seq, digest: [0; 4] }
}

fn at(seq: u64) -> Option<Result<Accepted, ReceiptError>> {
    Some(Ok(Accepted { seq, number: seq, at: seq }))
}

fn told(fate: &mut Fate) -> Option<Result<Accepted, ReceiptError>> {
    fate.try_recv().ok()
}

// --- Sending ---

#[test]
fn commands_queued_together_are_written_together_and_once() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    assert_eq!(room.out(), ["1 a", "2 b"]);
    assert_eq!(room.out(), [""; 0]);
    room.accepted(1, 5);
    room.event(6);
    room.accepted(2, 7);
    assert_eq!(room.events(), ["5 alice own 1", "6 bob", "7 alice own 2"]);
    assert_eq!(fates.each_mut().map(told), [at(5), at(7)]);
    room.poll();
    assert_eq!((room.kept().last_n, room.kept().outbox.len()), (2, 0));
}

#[test]
fn an_ack_tells_the_fate_at_once_and_the_event_comes_in_its_place() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.ack(1, 6);
    assert_eq!(told(&mut fate), at(6));
    room.event(5);
    room.event(6);
    assert_eq!(room.events(), ["5 bob", "6 bob own 1"]);
}

#[test]
fn later_means_the_same_again_in_order_after_the_pause() {
    let mut room = Room::open(4);
    let _fates = [room.send("a"), room.send("b"), room.send("c")];
    room.out();
    room.accepted(1, 5);
    room.rejected_with(2, Code::RATE, 300, 0);
    let _later = room.send("d");
    assert_eq!(room.out(), [""; 0]);
    assert_eq!(room.core.timer(), Some(room.now + Duration::from_millis(300)));
    room.wait(299);
    assert_eq!(room.out(), [""; 0]);
    room.wait(1);
    assert_eq!(room.out(), ["2 b", "3 c", "4 d"]);
}

#[test]
fn a_refusal_means_to_go_back_to_its_number() {
    let mut room = Room::open(4);
    let _fates = [room.send("a"), room.send("b"), room.send("c")];
    room.out();
    room.rejected(2, Code::FULL);
    room.rejected(9, Code::FULL);
    room.wait(10);
    assert_eq!(room.out(), ["2 b", "3 c"], "1 is still unanswered, and nobody waits for 9");
}

#[test]
fn commands_are_written_as_far_as_they_are_permitted() {
    let mut room = Room::open(4);
    let _fates = [room.send("a"), room.send("bb"), room.send("c")];
    let sizes = [6, 7, 6];
    let mut asked = Vec::new();
    room.core.write(room.now, |_, size| {
        asked.push(size);
        asked.len() == 1
    });
    assert_eq!((&asked[..], room.core.unanswered_bytes()), (&sizes[..2], 6));
    assert_eq!(room.out(), ["1 a", "2 bb", "3 c"]);
    assert_eq!(room.core.unanswered_bytes(), 19);
    room.rejected(1, Code::BUSY);
    assert_eq!(room.core.unanswered_bytes(), 0);
}

#[test]
fn a_final_refusal_uses_its_number_up() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    for unknown in [Code::FORBIDDEN, Code(0x7f)] {
        room.rejected(1, unknown);
        assert!(
            matches!(told(&mut fate), Some(Err(ReceiptError::Refused(code))) if code == unknown) || unknown.0 == 0x7f
        );
    }
    let _next = room.send("b");
    assert_eq!(room.out(), ["2 b"]);
}

#[test]
fn a_refusal_that_decides_nothing_gives_its_number_to_the_next() {
    let codes = [Code::MESSAGE_TOO_LARGE, Code::MESSAGE_EMPTY, Code::NOT_UTF8, Code::INVALID_NAME, Code::UNSUPPORTED];
    for code in codes {
        let mut room = Room::open(4);
        let mut fates = [room.send("a"), room.send("b"), room.send("c")];
        room.out();
        room.accepted(1, 5);
        room.rejected(2, code);
        assert_eq!(told(&mut fates[1]), Some(Err(ReceiptError::Refused(code))));
        assert_eq!(room.poll(), Next::Finish, "to learn what is decided");
        room.core.finished().expect("finished by us");
        assert_eq!(room.poll(), Next::Again(Duration::ZERO));
        assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:5")]);
        room.opened(5, 6, 1, &[outcome(1, Code::DONE, 5)]);
        assert_eq!(room.out(), ["2 c"]);
        assert_eq!(room.kept().outbox.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2]);
        assert_eq!(room.events(), ["5 alice own 1"], "the app is not told of this reopening");
    }
}

#[test]
fn what_comes_behind_a_refusal_that_decides_nothing_was_not_decided_on_an_earlier_stream_either() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b"), room.send("c")];
    room.out();
    room.reconnect();
    room.opened(4, 5, 0, &[]);
    assert_eq!(room.out(), ["1 a", "2 b", "3 c"]);
    room.rejected(1, Code::MESSAGE_TOO_LARGE);
    assert_eq!(room.poll(), Next::Finish);
    room.core.finished().expect("finished by us");
    room.reconnect();
    room.opened(4, 5, 0, &[]);
    assert_eq!(room.out(), ["1 b", "2 c"]);
    let refused = Some(Err(ReceiptError::Refused(Code::MESSAGE_TOO_LARGE)));
    assert_eq!(fates.each_mut().map(told), [refused, None, None]);
}

#[test]
fn a_number_whose_outcome_is_forgotten_has_an_unknown_fate() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.rejected(1, Code::KNOWN);
    assert_eq!(told(&mut fate), Some(Err(ReceiptError::Unknown)));
}

#[test]
fn a_number_that_others_used_is_replaced() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    room.out();
    room.rejected(1, Code::REUSED);
    assert_eq!(room.poll(), Next::Go, "2 is unanswered");
    room.rejected(2, Code::REUSED);
    assert_eq!(room.poll(), Next::Finish);
    room.core.finished().expect("finished by us");
    room.reconnect();
    room.opened(4, 5, 9, &[outcome(1, Code::DONE, 2), outcome(2, Code::FORBIDDEN, 0)]);
    assert_eq!(room.out(), ["10 a", "11 b"]);
    assert_eq!(fates.each_mut().map(told), [None, None], "the outcomes are of other content");
    room.accepted(10, 5);
    assert_eq!(told(&mut fates[0]), at(5));
}

#[test]
fn a_missing_number_is_sent_again_from_where_it_is_missed() {
    let mut room = Room::open(4);
    let _fates = [room.send("a"), room.send("b")];
    room.out();
    room.rejected_with(1, Code::FULL, 0, 0);
    room.rejected_with(2, Code::MISSING, 0, 0);
    room.wait(100);
    assert_eq!(room.out(), ["1 a", "2 b"]);
}

#[test]
fn a_decision_of_what_is_to_be_sent_again_counts() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    room.out();
    room.rejected_with(2, Code::MISSING, 0, 0);
    // The first was on its way, and this is its answer.
    room.rejected(1, Code::NO_TARGET);
    assert_eq!(fates.each_mut().map(told), [Some(Err(ReceiptError::Refused(Code::NO_TARGET))), None]);
    room.wait(1000);
    assert_eq!(room.out(), ["2 b"]);
    // What was not sent on this stream has no answer there.
    let mut late = room.send("c");
    room.rejected(3, Code::NO_TARGET);
    assert_eq!(told(&mut late), None);
}

#[test]
fn an_outcome_of_something_else_is_not_that_of_the_command_with_its_number() {
    // A late copy of a join, whose number has become another command's: decided as one that made an event, or none.
    for seq in [0, 5] {
        let mut room = Room::open(4);
        let mut fates = [room.send("a"), room.send("b")];
        room.out();
        room.core.disconnected();
        let mut unsent = room.send("c");
        room.connect();
        let of_a_join = Outcome { check: JOIN_CHECK, ..outcome(2, Code::DONE, seq) };
        room.opened(6, 5, 2, &[outcome(1, Code::DONE, 6), of_a_join]);
        assert_eq!((fates.each_mut().map(told), told(&mut unsent)), ([at(6), None], None));
        assert_eq!(room.out(), ["3 b", "4 c"]);
    }
}

#[test]
fn in_another_log_the_numbers_are_those_of_others() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.core.disconnected();
    room.connect();
    let of_another = Outcome { check: [1; 4], ..outcome(1, Code::DONE, 4) };
    room.opened_in(LOG + 1, 1, 4, 1, 1, &[of_another]).expect("another log");
    assert_eq!((told(&mut fate), room.out()), (None, vec!["2 a".to_owned()]));
}

#[test]
fn an_outcome_of_what_was_to_be_sent_again_counts_on_the_next_stream_too() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    room.out();
    room.rejected_with(2, Code::MISSING, 0, 0);
    room.reconnect();
    room.opened(6, 5, 2, &[outcome(1, Code::DONE, 5), outcome(2, Code::DONE, 6)]);
    assert_eq!(fates.each_mut().map(told), [at(5), at(6)]);
    assert_eq!(room.out(), [] as [&str; 0]);
}

#[test]
fn numbers_between_which_one_is_missing_are_given_again() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b"), room.send("c")];
    room.out();
    room.ack(2, 5);
    room.core.disconnected();
    room.connect();
    room.opened_in(LOG + 1, 1, 4, 1, 0, &[]).expect("another log");
    assert_eq!(room.out(), ["1 a", "2 c"]);
    assert_eq!(fates.each_mut().map(told), [None, at(5), None]);
}

#[test]
fn numbers_that_the_relay_forgot_are_given_anew_unless_they_may_be_decided() {
    let saved = SavedConversation { last_n: 50, ..SavedConversation::default() };
    let mut room = Room::new(OpenOptions::member().start(Start::Now), saved);
    room.connect();
    room.opened(4, 5, 50, &[]);
    let mut doubtful = room.send("a");
    assert_eq!(room.out(), ["51 a"]);
    room.core.disconnected();
    let mut fresh = room.send("b");
    room.connect();
    room.opened(4, 5, 0, &[]);
    assert_eq!(told(&mut doubtful), Some(Err(ReceiptError::Unknown)));
    assert_eq!(room.out(), ["1 b"]);
    room.accepted(1, 5);
    assert_eq!(told(&mut fresh), at(5));
}

#[test]
fn elsewhere_means_that_the_fate_is_unknown_and_the_same_is_sent_again() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.rejected(1, Code::INTERNAL);
    assert_eq!(room.poll(), Next::Elsewhere);
    assert!(room.core.has_opened());
    room.reconnect();
    room.opened(4, 5, 0, &[]);
    assert_eq!(room.out(), ["1 a"]);
    assert_eq!(told(&mut fate), None);
}

#[test]
fn an_answer_to_what_was_not_sent_here_is_ignored() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    room.out();
    room.rejected_with(1, Code::RATE, 300, 0);
    let mut third = room.send("c");
    room.rejected(3, Code::FORBIDDEN);
    room.rejected_with(1, Code::RATE, 900, 0);
    room.wait(300);
    assert_eq!(room.out(), ["1 a", "2 b", "3 c"]);
    assert_eq!(fates.each_mut().map(told), [None, None]);
    assert_eq!(told(&mut third), None);
}

// --- Reconnecting ---

#[test]
fn after_a_lost_connection_outcomes_settle_and_the_rest_is_sent_again() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b"), room.send("c"), room.send("d")];
    room.out();
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:4")]);
    room.opened(6, 5, 2, &[outcome(1, Code::DONE, 5), outcome(2, Code::FORBIDDEN, 0)]);
    assert_eq!(fates.each_mut().map(told), [at(5), Some(Err(ReceiptError::Refused(Code::FORBIDDEN))), None, None]);
    assert_eq!(room.out(), ["3 c", "4 d"]);
    room.event(5);
    room.event(6);
    assert_eq!(room.events(), ["reconnected", "5 bob own 1", "6 bob", "caught up"]);
}

#[test]
fn a_number_without_an_outcome_that_is_decided_has_an_unknown_fate() {
    let mut room = Room::open(4);
    let mut fates = [room.send("a"), room.send("b")];
    room.out();
    room.reconnect();
    room.opened(4, 5, 1, &[]);
    assert_eq!(fates.each_mut().map(told), [Some(Err(ReceiptError::Unknown)), None]);
    assert_eq!(room.out(), ["2 b"]);
}

#[test]
fn another_log_resets_the_cursor_and_renumbers_what_has_no_outcome() {
    let mut room = Room::open(40);
    let mut fates = [room.send("a"), room.send("b"), room.send("c")];
    room.out();
    room.accepted(1, 41);
    room.reconnect();
    room.opened_in(LOG + 1, 1, 3, 1, 0, &[]).expect("a good opening");
    assert_eq!(room.out(), ["1 b", "2 c"]);
    assert_eq!(room.kept().last_n, 2);
    (1..=3).for_each(|seq| room.event(seq));
    assert_eq!(
        room.events(),
        ["41 alice own 1", &format!("reset {}:1", LOG + 1), "reconnected", "1 bob", "2 bob", "3 bob", "caught up"]
    );
    assert_eq!(fates.each_mut().map(told), [at(41), None, None]);
    assert_eq!(room.reconnect(), [format!("open join 0 after {}:3", LOG + 1)]);
}

#[test]
fn another_log_begins_with_what_it_does_not_show() {
    let mut room = Room::open(40);
    room.reconnect();
    room.opened_in(LOG + 1, 1, 6, 5, 0, &[]).expect("a good opening");
    room.frame(ToClient::Skip(Skip { to: 4, why: skip::TRIMMED }));
    room.event(5);
    assert_eq!(room.events(), [&format!("reset {}:5", LOG + 1), "reconnected", "skipped to 4 Trimmed", "5 bob"]);
}

#[test]
fn another_log_has_neither_the_own_events_nor_the_marks_of_the_old_one() {
    let mut room = Room::open(4);
    let _fate = room.send("a");
    room.core.mark(Mark { seq: 2, number: 2 });
    room.out();
    room.ack(1, 6);
    room.reconnect();
    room.opened_in(LOG + 1, 1, 6, 1, 0, &[]).expect("a good opening");
    assert_eq!(room.out(), [""; 0]);
    (1..=6).for_each(|seq| room.event(seq));
    assert_eq!(room.events().iter().filter(|event| event.contains("own")).count(), 0);
}

#[test]
fn the_cursor_of_another_log_is_kept_until_the_app_has_taken_the_reset() {
    let before = Cursor { generation: LOG - 1, seq: 9, digest: [1; 4] };
    let saved = SavedConversation { cursor: Some(before), ..SavedConversation::default() };
    let mut room = Room::new(OpenOptions::member(), saved);
    room.connect();
    room.opened(0, 1, 0, &[]);
    let mut take = || {
        let taken = room.core.pop(room.now, Waker::noop()).0;
        room.wait(100);
        room.poll();
        (taken, room.kept().cursor)
    };
    let reset = Some(Some(ConversationEvent::Reset { generation: LOG, first: 1 }));
    assert_eq!(take(), (reset, Some(before)));
    assert_eq!(take(), (Some(Some(ConversationEvent::CaughtUp)), Some(at_seq(0))));
}

#[test]
fn a_cursor_ahead_of_the_relay_is_kept_and_tried_elsewhere() {
    let mut room = Room::open(4);
    room.reconnect();
    room.end(Code::BEHIND, 2);
    assert_eq!(room.poll(), Next::Elsewhere);
    assert_eq!((room.core.take_behind(), room.core.take_behind()), (Some(2), None));
    assert!(!room.core.has_opened());
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:4")]);
    room.end(Code::BEHIND, 3);
    assert_eq!(room.core.take_behind(), None, "it is said once");
    room.reconnect();
    room.opened(4, 5, 0, &[]);
    room.reconnect();
    room.end(Code::BEHIND, 2);
    assert_eq!(room.core.take_behind(), Some(2));
}

#[test]
fn another_event_at_the_cursor_means_another_log() {
    let mut room = Room::open(4);
    room.event(5);
    let _kept = room.send("a");
    assert_eq!(room.events(), ["5 bob"]);
    assert_eq!(room.out(), ["1 a"]);
    let open = |room: &mut Room| {
        room.core.disconnected();
        room.core.connected(LOG, WINDOW, 4, [1; 9]);
        let out = Bytes::from(room.core.take_out());
        let (frame, _) = frame::split(&out, 65_536).expect("a frame").expect("whole");
        let Ok(Some(ToRelay::Open(open))) = ToRelay::decode(frame) else { panic!("no Open") };
        open.digest
    };
    let event = Event { seq: 5, number: 5, at: 5, user: "bob", kind: 1, body: Blob(b"") };
    assert_eq!(open(&mut room), event.digest());
    room.opened_in(LOG, 1, 9, 2, 0, &[]).expect("a good opening");
    assert_eq!(room.out(), ["1 a"], "sent again under a number of this log");
    room.frame(ToClient::Skip(Skip { to: 1, why: skip::NOT_VISIBLE }));
    room.event(2);
    assert_eq!(room.events(), [&format!("reset {LOG}:2"), "reconnected", "skipped to 1 NotVisible", "2 bob"]);
}

#[test]
fn another_log_whose_beginning_is_not_visible_is_skipped_to_its_start() {
    let mut room = Room::open(4);
    room.reconnect();
    room.opened_in(LOG + 1, 1, 9, 6, 0, &[]).expect("a good opening");
    room.frame(ToClient::Skip(Skip { to: 5, why: skip::NOT_VISIBLE }));
    room.event(6);
    let next = LOG + 1;
    assert_eq!(room.events(), [&format!("reset {next}:6"), "reconnected", "skipped to 5 NotVisible", "6 bob"]);
}

#[test]
fn what_another_process_left_is_settled_first() {
    let command = |n, text: &'static str| (n, to_bytes(&Post { n, kind: 1, body: Blob(text.as_bytes()) }));
    let cursor = Some(at_seq(9));
    let outbox = [command(5, "a"), command(6, "b")].into();
    let mut room = Room::new(OpenOptions::member(), SavedConversation { cursor, last_n: 6, outbox });
    assert_eq!(room.connect(), [format!("open join 0 after {LOG}:9")]);
    room.opened(9, 10, 5, &[outcome(5, Code::DONE, 8)]);
    assert_eq!(room.out(), ["6 b"]);
    let _new = room.send("c");
    assert_eq!(room.out(), ["7 c"]);
}

// --- Delivery ---

#[test]
fn a_hole_and_a_repetition_break_the_protocol() {
    assert!(Room::open(4).try_event(4).is_err());
    assert!(Room::open(4).try_event(6).is_err());
    assert!(Room::open(4).try_event(5).is_ok());
    let skipped = |to| Room::open(4).try_frame(ToClient::Skip(Skip { to, why: skip::TRIMMED }));
    assert!(skipped(4).is_err());
    assert!(skipped(5).is_ok());
    let mut room = Room::open(4);
    room.reconnect();
    assert!(room.opened_in(LOG, 1, 4, 0, 0, &[]).is_err(), "there is no event 0");
    let mut room = Room::open(4);
    let unknown = WireAccepted { n: 1, seq: 5, number: 5, at: 5 };
    assert!(room.try_frame(ToClient::Accepted(unknown)).is_err(), "nothing was sent");
}

#[test]
fn what_cannot_be_had_is_said() {
    let mut room = Room::new(OpenOptions::member().start(Start::Beginning), SavedConversation::default());
    assert_eq!(room.connect(), ["open join 0 after 0:0"]);
    room.opened(9, 8, 0, &[]);
    room.frame(ToClient::Skip(Skip { to: 5, why: skip::TRIMMED }));
    room.frame(ToClient::Skip(Skip { to: 7, why: skip::NOT_VISIBLE }));
    room.event(8);
    room.frame(ToClient::Skip(Skip { to: 9, why: 200 }));
    assert_eq!(
        room.events(),
        ["skipped to 5 Trimmed", "skipped to 7 NotVisible", "8 bob", "skipped to 9 Other(200)", "caught up"]
    );
}

#[test]
fn the_cursor_is_kept_a_little_after_the_app_asks_for_more() {
    let mut room = Room::open(4);
    assert_eq!(room.kept().cursor, Some(at_seq(4)));
    room.event(5);
    room.event(6);
    let pop = |room: &mut Room| drop(room.core.pop(room.now, Waker::noop()));
    pop(&mut room);
    assert_eq!(room.core.given().seq, 5, "what the app stores together with what it made of event 5");
    pop(&mut room);
    room.wait(99);
    room.poll();
    assert_eq!(room.kept().cursor.map(|cursor| cursor.seq), Some(4));
    room.wait(1);
    room.poll();
    assert_eq!(room.kept().cursor.map(|cursor| cursor.seq), Some(5), "the app may still be at event 6");
    room.event(7);
    pop(&mut room);
    room.core.acknowledge(room.now);
    room.event(8);
    room.core.pop(room.now, Waker::noop());
    room.core.reader_gone();
    room.poll();
    assert_eq!(room.kept().cursor.map(|cursor| cursor.seq), Some(7), "dropping the reader says nothing about event 8");
}

#[test]
fn an_app_that_takes_nothing_holds_the_stream_back_until_half_is_taken() {
    let mut room = Room::open(0);
    (1..=255).for_each(|seq| room.event(seq));
    assert!(room.core.wants_read());
    room.event(256);
    assert!(!room.core.wants_read());
    for _ in 0..127 {
        room.core.pop(room.now, Waker::noop());
    }
    assert!(!room.core.wants_read());
    let (_, notify) = room.core.pop(room.now, Waker::noop());
    assert!(room.core.wants_read() && notify);
}

#[test]
fn large_events_hold_the_stream_back_as_well() {
    let mut room = Room::open(0);
    let body = [0; 16 * 1024];
    for seq in 1..=16 {
        assert!(room.core.wants_read(), "{seq}");
        let event = Event { seq, number: seq, at: seq, user: "bob", kind: 2, body: Blob(&body) };
        room.frame(ToClient::Event(event));
    }
    assert!(!room.core.wants_read());
}

#[test]
fn receipts_come_though_nobody_takes_events_and_the_events_come_later() {
    let mut room = Room::open(0);
    (1..=256).for_each(|seq| room.event(seq));
    let mut fate = room.send("a");
    room.out();
    assert!(room.core.wants_read(), "for the answer");
    room.event(257);
    room.accepted(1, 258);
    assert_eq!(told(&mut fate), at(258));
    assert!(!room.core.wants_read());
    assert_eq!(room.events().len(), 256);
    assert_eq!(room.poll(), Next::Finish, "to fetch 257 and 258");
    room.core.finished().expect("finished by us");
    assert_eq!(room.poll(), Next::Again(Duration::ZERO));
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:256")]);
    room.opened(258, 257, 1, &[outcome(1, Code::DONE, 258)]);
    room.event(257);
    room.event(258);
    assert_eq!(room.events(), ["257 bob", "258 bob own 1"]);
}

#[test]
fn without_a_reader_nothing_waits_and_nothing_counts_as_taken() {
    let mut room = Room::open(4);
    room.core.reader_gone();
    (5..1000).for_each(|seq| room.event(seq));
    assert!(room.core.wants_read());
    room.poll();
    assert_eq!(room.kept().cursor.map(|cursor| cursor.seq), Some(4));
    assert_eq!(room.reconnect(), ["open join 0 Now"], "nobody wants what was missed");
}

// --- Joining and ending ---

#[test]
fn an_app_that_asks_for_no_events_keeps_its_place() {
    let mut room = Room::new(OpenOptions::member().start(Start::Now), SavedConversation::default());
    room.connect();
    room.opened(9, 10, 0, &[]);
    room.core.reader_gone();
    room.wait(200);
    room.poll();
    assert_eq!(room.kept().cursor, None);
}

fn join() -> OpenOptions {
    OpenOptions::join().start(Start::Last(2))
}

#[test]
fn a_join_is_kept_before_it_is_sent_and_settled_by_the_opening() {
    let mut room = Room::new(join(), SavedConversation::default());
    assert_eq!(room.connect(), ["open join 1 Last(2)"]);
    assert_eq!(room.kept().outbox.len(), 1);
    assert_eq!(room.reconnect(), ["open join 1 Last(2)"], "the same again");
    room.opened(5, 4, 1, &[outcome(1, Code::DONE, 5)]);
    assert!(matches!(room.opening.try_recv(), Ok(Ok(()))));
    room.poll();
    assert_eq!(room.kept().outbox.len(), 0);
    room.event(4);
    room.event(5);
    assert_eq!(room.events(), ["4 bob", "5 bob own 1", "caught up"]);
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:5")], "once is enough");
}

#[test]
fn only_commands_of_the_app_make_room_for_others() {
    let command = |n| (n, to_bytes(&Post { n, kind: 1, body: Blob(b"a") }));
    let saved = SavedConversation { cursor: None, last_n: 70, outbox: (1..=70).map(command).collect() };
    let mut room = Room::new(join(), saved);
    assert_eq!(room.core.unanswered(), 64);
    room.connect();
    let outcomes: Vec<_> = (7..=70).map(|n| outcome(n, Code::FORBIDDEN, 0)).collect();
    room.opened_in(LOG, 0, 5, 4, 70, &outcomes).expect("a good opening");
    assert_eq!(room.core.take_effects().1, 64, "of 70 that were answered");
    room.reconnect();
    room.opened(6, 4, 71, &[outcome(71, Code::DONE, 6)]);
    assert_eq!(room.core.take_effects().1, 0, "a join took nobody's place");
    let _fate = room.send("b");
    room.core.write(room.now, |_, _| true);
    room.accepted(72, 4);
    assert_eq!(room.core.take_effects().1, 1);
}

#[test]
fn the_event_of_a_join_may_come_as_accepted() {
    let mut room = Room::new(OpenOptions::join().start(Start::Now), SavedConversation::default());
    room.connect();
    room.opened(4, 5, 1, &[outcome(1, Code::DONE, 5)]);
    room.accepted(1, 5);
    assert_eq!(room.events(), ["caught up", "5 alice own 1"]);
}

#[test]
fn a_join_finds_its_number() {
    let mut room = Room::new(join(), SavedConversation { last_n: 6, ..SavedConversation::default() });
    assert_eq!(room.connect(), ["open join 7 Last(2)"]);
    room.end(Code::MISSING, 2);
    assert!(matches!(room.poll(), Next::Again(_)));
    assert_eq!(room.reconnect(), ["open join 3 Last(2)"]);
    room.end(Code::REUSED, 0);
    assert_eq!(room.reconnect(), [format!("open join {} Last(2)", 3 + (1u64 << 32))], "to be told the last one");
    room.end(Code::MISSING, 11);
    assert_eq!(room.reconnect(), ["open join 12 Last(2)"]);
    assert_eq!(room.kept().last_n, 12);
}

#[test]
fn a_join_that_was_refused_where_nothing_is_recorded_is_sent_under_the_same_number_again() {
    let mut room = Room::new(join(), SavedConversation::default());
    room.connect();
    room.end(Code::NOT_FOUND, 0);
    assert_eq!(room.poll(), Next::Over);
    let mut room = Room::new(join(), room.kept().clone());
    assert_eq!(room.connect(), ["open join 2 Last(2)"], "it may be recorded");
    room.end(Code::MISSING, 0);
    assert_eq!(room.reconnect(), ["open join 1 Last(2)"]);
    room.opened(5, 4, 1, &[outcome(1, Code::DONE, 5)]);
    assert!(matches!(room.opening.try_recv(), Ok(Ok(()))));
    room.poll();
    assert_eq!((room.kept().last_n, room.kept().outbox.len()), (1, 0));
}

#[test]
fn a_busy_relay_does_not_use_up_the_tries_of_a_join() {
    let mut room = Room::new(join(), SavedConversation { last_n: 6, ..SavedConversation::default() });
    room.connect();
    for _ in 0..20 {
        room.end(Code::RATE, 0);
        assert_eq!(room.reconnect(), ["open join 7 Last(2)"]);
    }
    room.end(Code::MISSING, 2);
    assert_eq!(room.reconnect(), ["open join 3 Last(2)"]);
}

#[test]
fn a_join_that_is_refused_fails_the_opening_and_one_put_off_is_repeated() {
    let mut room = Room::new(join(), SavedConversation::default());
    room.connect();
    room.end(Code::RATE, 0);
    assert_eq!(room.poll(), Next::Again(Duration::from_millis(10)));
    assert_eq!(room.reconnect(), ["open join 1 Last(2)"]);
    room.end(Code::BANNED, 0);
    assert_eq!(room.poll(), Next::Over);
    let refused = room.opening.try_recv().expect("resolved");
    assert!(matches!(refused, Err(OpenError::Refused { code: Code::BANNED, .. })));
    assert_eq!(room.kept().outbox.len(), 0);
}

#[test]
fn a_refusal_from_before_does_not_speak_of_now() {
    let join_from_before =
        |frame: &Bytes| SavedConversation { last_n: 1, outbox: [(1, frame.clone())].into(), cursor: None };
    let mut before = Room::new(join(), SavedConversation::default());
    before.connect();
    let frame = before.kept().outbox[0].1.clone();
    // A member by now, who only opens.
    let mut room = Room::new(OpenOptions::member(), join_from_before(&frame));
    assert_eq!(room.connect(), ["open join 1 Now"]);
    room.end(Code::BANNED, 0);
    assert!(matches!(room.poll(), Next::Again(_)));
    assert_eq!(room.reconnect(), ["open join 0 Now"]);
    room.opened(5, 6, 1, &[outcome(1, Code::BANNED, 0)]);
    assert!(matches!(room.opening.try_recv(), Ok(Ok(()))));
    // One who joins asks again, once.
    let mut room = Room::new(join(), join_from_before(&frame));
    room.connect();
    room.end(Code::BANNED, 0);
    assert_eq!(room.reconnect(), ["open join 2 Last(2)"]);
    room.end(Code::BANNED, 0);
    assert_eq!((room.poll(), failed(&mut room)), (Next::Over, Some(Code::BANNED)));
}

/// The code of the failed opening.
fn failed(room: &mut Room) -> Option<Code> {
    match room.opening.try_recv().expect("resolved") {
        Err(OpenError::Refused { code, .. }) => Some(code),
        _ => None,
    }
}

#[test]
fn an_opening_that_is_put_off_for_longer_than_the_app_waits_fails_with_the_reason_and_leaves_nothing() {
    for code in [Code::RATE, Code::FULL, Code::BUSY, Code::TOO_MANY_CREATED] {
        let mut room = Room::new(join(), SavedConversation::default());
        room.connect();
        room.wait(1000);
        room.put_off(code, PATIENCE);
        assert_eq!(room.poll(), Next::Over);
        assert_eq!(failed(&mut room), Some(code));
        assert!(room.saved.conversations.is_empty(), "{code}: {:?}", room.saved);
    }
    let mut member = Room::new(OpenOptions::member(), SavedConversation::default());
    member.connect();
    member.put_off(Code::BUSY, PATIENCE + Duration::from_millis(1));
    assert_eq!((member.poll(), failed(&mut member)), (Next::Over, Some(Code::BUSY)));
}

#[test]
fn an_opening_that_the_app_gives_up_has_the_last_reason_and_its_join_is_withdrawn() {
    let mut room = Room::new(join(), SavedConversation::default());
    room.connect();
    room.put_off(Code::BUSY, Duration::from_secs(3));
    assert_eq!(room.poll(), Next::Again(Duration::from_secs(3)));
    assert!(matches!(room.core.refusal(), Some(OpenError::Refused { code: Code::BUSY, .. })));
    room.core.disconnected();
    room.core.release(room.now + Duration::from_secs(10));
    assert_eq!(room.poll(), Next::Over);
    assert!(room.saved.conversations.is_empty(), "{:?}", room.saved);
}

#[test]
fn a_join_that_may_have_been_decided_is_not_withdrawn() {
    // Sent and unanswered, on this stream or an earlier one; with an outcome that the relay does not know.
    let lost: [fn(&mut Room); 4] = [
        |_| {},
        |room| room.core.disconnected(),
        |room| room.put_off(Code::LOST, Duration::ZERO),
        |room| {
            room.reconnect();
            room.put_off(Code::BUSY, Duration::ZERO);
        },
    ];
    for lost in lost {
        let mut room = Room::new(join(), SavedConversation::default());
        room.connect();
        lost(&mut room);
        room.core.release(room.now + Duration::from_secs(10));
        room.poll();
        assert_eq!(room.kept().outbox.len(), 1);
        room.core.close(OpenError::AlreadyOpen);
        assert_eq!((room.poll(), room.kept().outbox.len()), (Next::Over, 1));
    }
    // One whose number was not to be had was not decided.
    let mut room = Room::new(join(), SavedConversation { last_n: 6, ..SavedConversation::default() });
    room.connect();
    room.end(Code::MISSING, 2);
    room.core.disconnected();
    room.core.close(OpenError::AlreadyOpen);
    room.poll();
    assert_eq!((room.kept().last_n, room.kept().outbox.len()), (2, 0));
}

#[test]
fn commands_from_before_go_before_a_join() {
    let outbox = [(3, to_bytes(&Post { n: 3, kind: 1, body: Blob(b"a") }))].into();
    let mut room = Room::new(join(), SavedConversation { cursor: None, last_n: 3, outbox });
    assert_eq!(room.connect(), ["open join 0 Last(2)"]);
    room.opened_in(LOG, 0, 5, 4, 2, &[]).expect("a good opening");
    assert!(room.opening.try_recv().is_err(), "not a member yet");
    assert_eq!(room.out(), ["3 a"]);
    room.rejected(3, Code::NOT_A_MEMBER);
    assert_eq!(room.poll(), Next::Finish);
    room.core.finished().expect("finished by us");
    assert_eq!(room.reconnect(), [format!("open join 4 after {LOG}:3")]);
}

#[test]
fn commands_from_before_are_given_up_where_nothing_is_known_of_them() {
    let outbox = [(3, to_bytes(&Post { n: 3, kind: 1, body: Blob(b"a") }))].into();
    let mut room = Room::new(join(), SavedConversation { cursor: None, last_n: 3, outbox });
    room.connect();
    room.end(Code::NOT_FOUND, 0);
    assert!(matches!(room.poll(), Next::Again(_)));
    assert_eq!(room.reconnect(), ["open join 4 Last(2)"]);
}

#[test]
fn the_end_of_membership_is_the_last_event_and_drops_what_was_not_decided() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.event(5);
    room.end(Code::ENDED, 0);
    room.core.finished().expect("after an End");
    assert!(matches!(room.poll(), Next::Again(_)), "it may have been decided");
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:5")]);
    room.opened_in(LOG, 0, 5, 6, 0, &[]).expect("a good opening");
    room.end(Code::ENDED, 0);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!(room.events(), ["5 bob", "ended ENDED"]);
    assert_eq!(room.core.pop(room.now, Waker::noop()).0, Some(None));
    assert_eq!(told(&mut fate), Some(Err(ReceiptError::Unknown)));
    assert_eq!(room.kept().outbox.len(), 0);
}

#[test]
fn a_command_that_was_decided_before_the_end_of_membership_has_its_answer() {
    let mut room = Room::open(4);
    let (mut accepted, mut never, mut leave) = (room.send("a"), room.send("b"), room.send("c"));
    room.out();
    room.ack(3, 6);
    room.event(5);
    room.event(6);
    room.end(Code::ENDED, 0);
    assert!(matches!(room.poll(), Next::Again(_)));
    room.reconnect();
    let outcomes = [outcome(1, Code::DONE, 5), outcome(2, Code::FORBIDDEN, 0), outcome(3, Code::DONE, 6)];
    room.opened_in(LOG, 0, 6, 7, 3, &outcomes).expect("a good opening");
    room.end(Code::ENDED, 0);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!((told(&mut accepted), told(&mut leave)), (at(5), at(6)));
    assert_eq!(told(&mut never), Some(Err(ReceiptError::Refused(Code::FORBIDDEN))));
    assert_eq!(room.events(), ["5 bob", "6 bob own 3", "ended ENDED"], "and nothing of a lost connection");
}

#[test]
fn a_stream_that_ends_without_a_word_breaks_the_protocol() {
    assert!(Room::open(4).core.finished().is_err());
}

#[test]
fn a_released_conversation_waits_for_its_answers_but_not_for_ever() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.core.reader_gone();
    room.core.release(room.now + Duration::from_secs(10));
    assert_eq!(room.out(), ["1 a"]);
    assert_eq!(room.poll(), Next::Go);
    room.accepted(1, 5);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!(told(&mut fate), at(5));

    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.out();
    room.core.release(room.now + Duration::from_secs(10));
    room.wait(10_000);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!(told(&mut fate), Some(Err(ReceiptError::Closed)));
    assert_eq!(room.kept().outbox.len(), 1, "kept for the next opening");
}

#[test]
fn marks_merge_and_are_sent_again_only_if_the_relay_does_not_know_them() {
    let mut room = Room::open(4);
    room.core.mark(Mark { seq: 3, number: 3 });
    room.core.mark(Mark { seq: 4, number: 4 });
    room.core.mark(Mark { seq: 2, number: 2 });
    assert_eq!(room.out(), ["mark 4"]);
    assert_eq!(room.out(), [""; 0]);
    room.reconnect();
    room.opened(4, 5, 0, &[]);
    assert_eq!(room.out(), ["mark 4"], "read is 0 there");
}

#[test]
fn each_mark_has_a_turn_and_takes_turns_with_commands() {
    let mut room = Room::open(9);
    let _fates = [room.send("a"), room.send("b")];
    // Every message gets a turn, and meanwhile the app marks more and more as read.
    let mut costs = Vec::new();
    for seq in 1..=6 {
        room.core.mark(Mark { seq, number: seq });
        room.core.mark(Mark { seq: seq + 1, number: seq + 1 });
        room.poll();
        let mut turns = 1;
        room.core.write(room.now, |cost, size| {
            let permitted = std::mem::take(&mut turns) == 1;
            costs.extend(permitted.then_some((cost, size)));
            permitted
        });
    }
    let (mark, command) = ((cost::MARK, 0), (cost::COMMAND, 6));
    assert_eq!(costs, [mark, command, mark, command, mark, mark]);
    assert_eq!(room.out(), ["mark 2", "1 a", "mark 4", "2 b", "mark 6", "mark 7"]);
    room.core.mark(Mark { seq: 9, number: 9 });
    room.rejected_with(1, Code::RATE, 300, 0);
    assert_eq!(room.out(), [""; 0], "a mark counts as well");
    room.wait(300);
    assert_eq!(room.out(), ["1 a", "mark 9", "2 b"]);
}

#[test]
fn a_mark_beyond_what_is_known_means_the_newest_event() {
    let mut room = Room::open(4);
    room.core.mark(Mark { seq: u64::MAX, number: u64::MAX });
    assert_eq!(room.out(), ["mark 4"]);
    room.event(5);
    room.core.mark(Mark { seq: 5, number: 5 });
    assert_eq!(room.out(), ["mark 5"], "a later mark is still one");
    // Before the opening there is nothing to compare with.
    let mut room = Room::begin(OpenOptions::member().start(Start::Now), SavedConversation::default(), false);
    room.core.mark(Mark { seq: 900, number: 900 });
    room.connect();
    room.opened(7, 8, 0, &[]);
    assert_eq!(room.out(), ["mark 7"]);
}

#[test]
fn all_that_is_known_is_nothing_before_the_opening() {
    let mut room = Room::begin(OpenOptions::member().start(Start::Now), SavedConversation::default(), false);
    room.core.mark_all();
    room.connect();
    room.opened(7, 8, 0, &[]);
    assert_eq!(room.out(), [] as [&str; 0]);
    room.core.mark_all();
    assert_eq!(room.out(), ["mark 7"]);
}

#[test]
fn a_join_that_was_not_sent_is_withdrawn_with_the_last_handle() {
    let mut room = Room::begin(join(), SavedConversation::default(), false);
    assert_eq!(room.kept().outbox.len(), 1);
    room.core.release(room.now + Duration::from_secs(10));
    assert_eq!(room.poll(), Next::Over);
    assert!(room.saved.conversations.is_empty(), "{:?}", room.saved);
}

#[test]
fn an_app_that_reads_nothing_has_each_notice_once() {
    let mut room = Room::open(4);
    for _ in 0..50 {
        room.reconnect();
        room.opened(4, 5, 0, &[]);
    }
    assert_eq!(room.events(), ["reconnected", "caught up"]);
    assert!(!room.core.is_read_to_its_end());
    room.core.close(OpenError::AlreadyOpen);
    assert!(room.core.is_read_to_its_end());
}

#[test]
fn what_became_of_a_command_of_an_earlier_run_is_told() {
    let outbox = [(3, to_bytes(&Post { n: 3, kind: 1, body: Blob(b"a") }))].into();
    let saved = SavedConversation { cursor: None, last_n: 3, outbox };
    let mut room = Room::new(OpenOptions::member().start(Start::Now), saved);
    room.connect();
    room.opened(4, 5, 2, &[]);
    assert_eq!(room.out(), ["3 a"]);
    room.rejected(3, Code::NOT_A_MEMBER);
    assert_eq!(room.core.take_restored(), [(3, Err(ReceiptError::Refused(Code::NOT_A_MEMBER)))]);
}

#[test]
fn what_is_sent_before_the_opening_goes_behind_the_join() {
    let mut room = Room::begin(join(), SavedConversation::default(), false);
    let mut fate = room.send("hello");
    assert_eq!(room.kept().outbox.len(), 2);
    assert_eq!(room.connect(), ["open join 1 Last(2)"]);
    room.opened(5, 4, 1, &[outcome(1, Code::DONE, 5)]);
    assert_eq!(room.out(), ["2 hello"]);
    room.ack(2, 6);
    assert_eq!(told(&mut fate), at(6));
}

#[test]
fn a_join_behind_commands_from_before_begins_a_stream_of_its_own() {
    let outbox = [(3, to_bytes(&Post { n: 3, kind: 1, body: Blob(b"a") }))].into();
    let mut room = Room::begin(join(), SavedConversation { cursor: None, last_n: 3, outbox }, false);
    let _fate = room.send("b");
    assert_eq!(room.connect(), ["open join 0 Last(2)"]);
    room.opened_in(LOG, 0, 5, 4, 2, &[]).expect("a good opening");
    assert_eq!(room.out(), ["3 a"], "nothing behind the join");
    room.rejected(3, Code::NOT_A_MEMBER);
    assert_eq!(room.poll(), Next::Finish);
    room.core.finished().expect("finished by us");
    assert_eq!(room.reconnect(), [format!("open join 4 after {LOG}:3")]);
    room.opened(5, 4, 4, &[outcome(4, Code::DONE, 5)]);
    assert_eq!(room.out(), ["5 b"]);
}

#[test]
fn commands_from_before_that_are_given_up_leave_what_is_sent_now() {
    let outbox = [(3, to_bytes(&Post { n: 3, kind: 1, body: Blob(b"a") }))].into();
    let mut room = Room::begin(join(), SavedConversation { cursor: None, last_n: 3, outbox }, false);
    let mut fate = room.send("b");
    room.connect();
    room.end(Code::NOT_FOUND, 0);
    assert!(matches!(room.poll(), Next::Again(_)));
    assert_eq!(room.reconnect(), ["open join 4 Last(2)"]);
    assert_eq!(told(&mut fate), None);
}

#[test]
fn a_conversation_that_is_refused_ends_and_refuses_what_was_sent() {
    let mut room = Room::begin(join(), SavedConversation::default(), false);
    let mut fate = room.send("hello");
    room.connect();
    room.end(Code::BANNED, 0);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!(told(&mut fate), Some(Err(ReceiptError::Refused(Code::BANNED))));
    assert_eq!(room.events(), ["ended BANNED"]);
    assert_eq!((room.kept().outbox.len(), room.kept().cursor), (0, None));
}

#[test]
fn a_long_outbox_is_sent_as_the_relay_takes_it() {
    let mut room = Room::open(4);
    let _fates: Vec<_> = (0..WINDOW + 3).map(|_| room.send("x")).collect();
    assert_eq!(room.out().len(), WINDOW);
    room.ack(1, 5);
    room.ack(2, 6);
    assert_eq!(room.out().len(), 2);
    assert_eq!(room.reconnect().len(), 1, "only the opening");
    room.opened(6, 5, 2, &[]);
    assert_eq!(room.out().len(), WINDOW);
}

#[test]
fn a_closed_client_keeps_what_is_unanswered() {
    let mut room = Room::open(4);
    let mut fate = room.send("a");
    room.core.close(OpenError::AlreadyOpen);
    assert_eq!(room.poll(), Next::Over);
    assert_eq!(told(&mut fate), Some(Err(ReceiptError::Closed)));
    assert_eq!(room.kept().outbox.len(), 1);
    assert!(matches!(room.saved.changes().as_slice(), [Change::Outbox(_, 1, items), ..] if items.len() == 1));
}

#[test]
fn a_membership_that_ends_while_the_app_is_behind_ends_after_its_last_event() {
    let mut room = Room::open(4);
    let mut fate = room.send("the last one");
    room.out();
    (5..=400).for_each(|seq| room.event(seq));
    room.accepted(1, 401);
    room.end(Code::ENDED, 0);
    assert_eq!(told(&mut fate), at(401));
    let Next::Again(_) = room.poll() else { panic!("events are missing, and nothing fetches them") };
    let before = room.events();
    assert!(before.len() < 396 && before.last().is_some_and(|last| last.ends_with("bob")), "{before:?}");
    let next = 5 + before.len() as u64;
    assert_eq!(room.reconnect(), [format!("open join 0 after {LOG}:{}", next - 1)]);
    room.opened_in(LOG, 0, 401, next, 1, &[outcome(1, Code::DONE, 401)]).expect("a good opening");
    (next..=401).for_each(|seq| room.event(seq));
    room.end(Code::ENDED, 0);
    let after = room.events();
    assert_eq!(after.len() as u64, 401 - next + 2, "{after:?}");
    assert_eq!(after.last().map(String::as_str), Some("ended ENDED"));
}
