//! Handling of frames from the relay.

use std::time::Duration;

use bytes::Bytes;
use quip_protocol::{
    Code, Event, Retry, ToClient, UserId,
    conversation::{self as wire, End, Rejected, Skip},
};
use tokio::time::Instant;

use super::{
    super::{Violation, frames},
    Behind, Core, Next, Stream,
};
use crate::{Accepted, ConversationEvent, OpenError, Opened, OwnedEvent, ReceiptError, SkipReason};

impl Core {
    /// Handles a frame of the current stream.
    pub(crate) fn frame(&mut self, frame: &ToClient<'_>, now: Instant) -> Result<(), Violation> {
        match (self.stream, frame) {
            (Stream::None | Stream::Finishing | Stream::Drained | Stream::Over, _) => Ok(()),
            (Stream::Opening, ToClient::Opened(opened)) => self.on_opened(opened),
            (_, ToClient::End(end)) => {
                self.on_end(end, Duration::from_millis(end.retry_after), now);
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
            _ => Err(Violation("unexpected frame on a conversation stream")),
        }
    }

    /// The relay reset the stream.
    pub(crate) fn reset(&mut self, code: Code, now: Instant) {
        if self.next.is_none() && !self.drained() {
            self.on_end(&End { code, retry_after: 0, info: 0, text: "" }, PAUSE, now);
        }
    }

    /// The relay finished the stream.
    pub(crate) fn finished(&mut self) -> Result<(), Violation> {
        let expected = self.drained() || self.next.is_some() || self.stream == Stream::Over;
        if expected { Ok(()) } else { Err(Violation("stream finished without End")) }
    }

    fn drained(&mut self) -> bool {
        let finishing = self.stream == Stream::Finishing;
        if finishing {
            self.stream = Stream::Drained;
            self.next = Some(Next::Again(Duration::ZERO));
        }
        finishing
    }

    fn on_opened(&mut self, opened: &wire::Opened<'_>) -> Result<(), Violation> {
        if opened.conversation != self.id {
            return Err(Violation("another conversation was opened"));
        }
        let reset = self.delivery.opened(self.asked, opened.generation, opened.start)?;
        let before = self.log.replace(opened.generation);
        let same_log = !reset && before.is_none_or(|log| log == opened.generation);
        if !same_log {
            // Both are about events of another log.
            self.own.clear();
            self.mark = None;
        }
        self.own.extend(opened.outcomes.iter().filter(|o| o.seq >= opened.start).map(|o| (o.seq, o.n)));
        self.outbox.opened(opened.last_n, opened.outcomes.iter(), same_log);
        if self.joining.is_some() && self.outbox.join().is_some() {
            return Err(Violation("join neither accepted nor refused"));
        }
        (self.stream, self.behind) = (Stream::Open, Behind::No);
        self.newest = Some((opened.head, opened.number));
        self.mark = self.mark.map(|mark| self.clamp(mark));
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

    /// Resolves the opening, unless this user still has to become a member.
    fn settle_opening(&mut self, role: u8) -> Result<(), Violation> {
        if self.want_join && role == 0 {
            self.tries += 1;
            if self.tries > TRIES {
                return Err(Violation("join accepted without a membership"));
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

    /// An own event in its place. The relay omits what the client knows.
    fn on_accepted(&mut self, accepted: wire::Accepted) -> Result<(), Violation> {
        let wire::Accepted { n, seq, number, at } = accepted;
        self.delivery.check(seq)?;
        let known = match self.outbox.frame(n) {
            Some(frame) => frames::event(frame),
            None if self.joining == Some(n) => Some((crate::kind::JOINED, Bytes::new())),
            None => None,
        };
        let (kind, body) = known.ok_or(Violation("unknown number accepted"))?;
        self.outbox.settle(n, Ok(Accepted { seq, number, at }));
        self.deliver(OwnedEvent { seq, number, at, user: self.me.clone(), kind, body, own: Some(n) });
        Ok(())
    }

    fn deliver(&mut self, mut event: OwnedEvent) {
        self.newest = self.newest.max(Some((event.seq, event.number)));
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
            // It was sent before, and what was refused in front of it meant to send it again.
            if code.retry() == Retry::Final && code.decides() && self.outbox.was_sent(n) {
                self.outbox.settle(n, Err(ReceiptError::Refused(code)));
            }
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
                // Answers come in order: what is missing before n has none.
                self.outbox.go_back_to(info.saturating_add(1));
                self.resync |= self.outbox.first_n().is_some_and(|first| first > info.saturating_add(1));
                self.hold_until(now + PAUSE);
            }
            _ => return self.on_rejected_by_range(n, code, now + Duration::from_millis(retry_after).max(SHORT)),
        }
        Ok(())
    }

    fn on_rejected_by_range(&mut self, n: u64, code: Code, again: Instant) -> Result<(), Violation> {
        match code.retry() {
            Retry::Final => {
                self.outbox.settle(n, Err(ReceiptError::Refused(code)));
                if !code.decides() {
                    // The number is free again: renumber the commands after it, which the relay dropped. None of them can have
                    // been decided without it.
                    self.outbox.go_back_to(n);
                    self.outbox.clear_doubt(n);
                    self.resync = true;
                }
            }
            Retry::Later => {
                self.outbox.go_back_to(n);
                self.hold_until(again);
            }
            Retry::Elsewhere => {
                self.outbox.doubt(n);
                self.next = Some(Next::Elsewhere);
            }
            Retry::Done | Retry::Never => {
                return Err(Violation("command refused with a code that is not a refusal"));
            }
        }
        Ok(())
    }

    fn on_end(&mut self, end: &End<'_>, retry_after: Duration, now: Instant) {
        let code = end.code;
        if code == Code::ENDED && self.stream == Stream::Open && !self.want_join && self.has_to_part() {
            self.stream = Stream::Drained;
            self.next = Some(Next::Again(PAUSE));
            return;
        }
        let again = match self.stream {
            Stream::Opening => self.on_refused_join(end),
            // A former member who still has to join.
            _ => self.want_join && code.retry() == Retry::Done,
        };
        if again {
            if self.stream == Stream::Open {
                self.outbox.give_up_before_join();
            }
            self.next = Some(Next::Again(SHORT));
            return;
        }
        if code == Code::BEHIND && self.behind == Behind::No {
            self.behind = Behind::At(end.info);
        }
        let again = retry_after.max(SHORT);
        let refused = OpenError::Refused { code, retry_after: again, text: end.text.to_owned() };
        self.next = match code.retry() {
            Retry::Later if self.opening.is_some() && now + again > self.deadline => return self.close(refused),
            Retry::Later => Some(Next::Again(again)),
            Retry::Elsewhere => Some(Next::Elsewhere),
            // A newer stream has it, which this task did not open.
            Retry::Done if code == Code::REOPENED => Some(Next::Again(PAUSE)),
            _ => return self.end(code, refused),
        };
        self.refusal = Some(refused);
    }

    /// Whether to reopen after the end of the membership, to fetch discarded events and outstanding outcomes. Outcomes are
    /// fetched once, since the others will never be known.
    fn has_to_part(&mut self) -> bool {
        let unknown = !self.outbox.is_empty() && !std::mem::replace(&mut self.parting, true);
        unknown || self.delivery.lacks_events()
    }

    /// Handles a refused `Open` that carried a join, or should have. Returns whether to retry.
    fn on_refused_join(&mut self, end: &End<'_>) -> bool {
        let Some(n) = self.joining.filter(|n| self.outbox.has(*n)) else {
            // Older commands block the join, and their outcomes cannot be learned.
            let in_the_way = end.code == Code::NOT_FOUND && self.want_join;
            if in_the_way {
                self.outbox.give_up_before_join();
            }
            return in_the_way;
        };
        // A relay that is busy may say so any number of times.
        let other_number = matches!(end.code, Code::MISSING | Code::KNOWN | Code::REUSED);
        self.tries += u32::from(other_number);
        match end.code {
            _ if other_number && self.tries > TRIES => false,
            Code::MISSING => {
                self.outbox.renumber_join(end.info.saturating_add(1));
                true
            }
            // A number far too high is answered by MISSING, which carries the right one.
            Code::KNOWN | Code::REUSED => {
                self.outbox.renumber_join(n.saturating_add(FAR));
                true
            }
            code if code.retry() == Retry::Final => {
                // What an earlier stream came to may be past: only a join that is sent the first time speaks of now.
                let again = self.outbox.is_doubtful(n);
                if again && self.want_join {
                    self.outbox.renumber_join(n + u64::from(code.decides()));
                } else {
                    self.outbox.settle(n, Err(ReceiptError::Refused(code)));
                }
                again
            }
            // It was not decided; with LOST it may have been.
            code => {
                if code.retry() == Retry::Later && code != Code::LOST {
                    self.outbox.wait_again(n);
                }
                false
            }
        }
    }

    /// Ends for good. Undecided commands are dropped, so that they are not sent in a later membership.
    fn end(&mut self, code: Code, refused: OpenError) {
        if self.opened.is_some() {
            self.outbox.give_up(ReceiptError::Unknown);
        } else {
            self.outbox.refuse_unsent(code);
        }
        // An app that waits for the opening has no events yet.
        match self.opening.take() {
            Some(opening) => drop(opening.send(Err(refused))),
            None => self.delivery.end(code),
        }
        self.delivery.close();
        self.save_cursor();
        self.stream = Stream::Over;
    }

    fn name(&mut self, user: &str) -> Result<UserId, Violation> {
        if let Some(known) = self.names.get(user) {
            return Ok(known.clone());
        }
        let user = UserId::parse(user).map_err(|_| Violation("invalid user id in an event"))?;
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert(user.clone());
        Ok(user)
    }
}

fn why(skip: Skip) -> SkipReason {
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
        members: opened.members,
        present: opened.present,
    }
}

/// The shortest pause before retrying a refused command or open.
const SHORT: Duration = Duration::from_millis(10);
/// The pause before retrying after an unusual refusal.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum attempts of a join with other numbers.
const TRIES: u32 = 5;
/// Added to a number to make it far too high.
const FAR: u64 = 1 << 32;
/// Maximum acknowledged own events that are remembered until delivery.
const OWN: usize = 4096;
/// Maximum user names shared between events.
const NAMES: usize = 1024;
