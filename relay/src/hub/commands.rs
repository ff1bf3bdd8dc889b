//! Numbered commands and read marks, from a stream to the order.

use std::time::Duration;

use quip_core::{Action, By, Command};
use quip_order::SubmitError;
use quip_protocol::{
    Code, ToRelay,
    conversation::{Mark, Rejected},
};
use quip_store::Busy;

use super::{
    Hub,
    intake::Next,
    keys::StreamKey,
    links::{Cost, Numbered, ReadFor, UserKey, numbered},
    port::Port,
    reads::{Query, RETRY_AFTER_MS, in_millis},
    rooms::Admission,
};

impl<P: Port> Hub<P> {
    /// A numbered command arrived.
    pub(super) fn command(&mut self, stream: StreamKey, message: &ToRelay<'_>) -> Next {
        let limits = &self.setup.config.limits;
        let Some(Numbered { n, action }) = numbered(message, limits.message_bytes) else {
            return self.violation(stream, Code::UNEXPECTED);
        };
        if n == 0 {
            return self.violation(stream, Code::MALFORMED);
        }
        let admission = self.rooms.admit(stream, n, limits.unanswered_per_stream);
        if admission == Admission::Drop {
            return Next::Frame;
        }
        // A refusal costs too: it is an answer.
        if let Err(wait) = self.links.charge(stream, Cost::Command, self.now) {
            return self.reject(stream, n, Code::RATE, Some(wait));
        }
        match action {
            _ if admission == Admission::TooMany => {
                self.reject(stream, n, Code::UNANSWERED, Some(Duration::from_millis(RETRY_AFTER_MS)))
            }
            Ok(action) => self.submit(stream, n, action),
            Err(code) => self.reject(stream, n, code, None),
        }
    }

    /// Gives a numbered command of a stream to the order. If its rows may not be in memory, a reader has it first and what
    /// comes behind it on the stream waits, so that the order of `n` is kept.
    pub(super) fn submit(&mut self, stream: StreamKey, n: u64, action: Action) -> Next {
        let Some((command, cold)) = self.rooms.command(stream, n, action) else { return Next::Frame };
        if !cold {
            return self.order(stream, n, command, false);
        }
        match self.try_ask(ReadFor::Stream(stream), Query::Warm(Box::new(command))) {
            Ok(()) => Next::Hold,
            Err(Busy) => self.reject_busy(stream, n),
        }
    }

    /// The rows of a command are in memory. `creates`: it is a join, and there was no such conversation.
    pub(super) fn warmed(&mut self, user: UserKey, stream: StreamKey, command: Command, creates: bool) {
        let By::Device { n, .. } = command.by else { return };
        if n == 0 {
            return self.order_mark(user, stream, command);
        }
        // Of a stream that is gone nothing is known. The client sends again what it wants decided.
        if self.rooms.seat(stream).is_none() {
            return;
        }
        let joining = self.rooms.is_joining(stream);
        // An earlier stream may have submitted the same join, and then it may be decided by now.
        if matches!(command.action, Action::Join(_)) && !joining {
            return;
        }
        match if creates { self.links.may_create(stream, self.now) } else { Ok(()) } {
            Ok(()) => self.order(stream, n, command, creates),
            Err(wait) => self.reject(stream, n, Code::TOO_MANY_CREATED, Some(wait)),
        };
        if !joining {
            self.release(stream);
        }
    }

    fn order(&mut self, stream: StreamKey, n: u64, mut command: Command, creates: bool) -> Next {
        let is_message = matches!(command.action, Action::Post { .. });
        let is_addition = matches!(command.action, Action::Add { .. });
        let addition = is_addition.then(|| (command.conversation, command.by.clone()));
        if is_addition {
            command.authority.add = self.links.reserve_addition(&command, self.now);
        }
        let submitted = self.port.submit(command);
        if let (Err(_), Some((conversation, by))) = (submitted, &addition) {
            self.links.cancel_addition(*conversation, by);
        }
        match submitted {
            Ok(()) => {
                if creates {
                    self.links.charge_creation(stream, self.now);
                }
                if self.rooms.submitted(stream, n, is_message, self.now) {
                    self.deadlines.await_answer(stream, self.now);
                }
                Next::Frame
            }
            Err(SubmitError::Full { retry_after_ms }) => {
                self.reject(stream, n, Code::FULL, Some(Duration::from_millis(retry_after_ms)))
            }
            Err(SubmitError::Closed) => self.reject(stream, n, Code::SHUTDOWN, None),
        }
    }

    /// Refuses a command that the relay does not know.
    pub(super) fn refuse_unsupported(&mut self, stream: StreamKey, n: u64) -> Next {
        match self.rooms.admit(stream, n, self.setup.config.limits.unanswered_per_stream) {
            Admission::Drop => Next::Frame,
            Admission::Submit | Admission::TooMany => match self.links.charge(stream, Cost::Command, self.now) {
                Ok(()) => self.reject(stream, n, Code::UNSUPPORTED, None),
                Err(wait) => self.reject(stream, n, Code::RATE, Some(wait)),
            },
        }
    }

    /// The readers are too busy for a command's rows.
    pub(super) fn not_warmed(&mut self, stream: StreamKey, n: u64) {
        self.reject_busy(stream, n);
        self.release(stream);
    }

    fn reject_busy(&mut self, stream: StreamKey, n: u64) -> Next {
        self.reject(stream, n, Code::BUSY, Some(Duration::from_millis(RETRY_AFTER_MS)))
    }

    /// Refuses a command before it is ordered.
    fn reject(&mut self, stream: StreamKey, n: u64, code: Code, wait: Option<Duration>) -> Next {
        let retry_after = wait.map_or(0, in_millis);
        // It is said once all of the input was looked at.
        if !self.rooms.refused(stream, Rejected { n, code, retry_after, info: 0 }) {
            self.end_after(stream, code, retry_after);
        }
        Next::Frame
    }

    /// A read mark arrived. It goes on its way with the next tick.
    pub(super) fn mark(&mut self, stream: StreamKey, mark: Mark) -> Next {
        if self.rooms.mark(stream, mark) {
            self.links.queue_mark(stream);
        }
        Next::Frame
    }

    /// Submits the read marks that their users' rates have room for. Those that come back meanwhile wait for the next tick.
    pub(super) fn submit_marks(&mut self) {
        for (user, marks) in self.links.queued_marks() {
            for _ in 0..marks {
                let Some(stream) = self.links.next_mark(user, self.now) else { break };
                self.submit_mark(stream, false);
            }
        }
    }

    /// Submits the read mark of a stream, which may be `leaving`. If its rows may not be in memory, a reader has it first.
    pub(super) fn submit_mark(&mut self, stream: StreamKey, leaving: bool) {
        let Some((_, user)) = self.links.user_of(stream) else { return };
        let Some((command, cold)) = self.rooms.take_mark(stream, leaving) else { return };
        self.links.charge_mark(user, self.now);
        if cold {
            let query = Query::Warm(Box::new(command));
            self.try_ask(ReadFor::Mark(stream), query).unwrap_or_else(|Busy| self.not_submitted(user, stream));
        } else {
            self.order_mark(user, stream, command);
        }
    }

    /// The stream may be gone by now: what its user has read stays read.
    fn order_mark(&mut self, user: UserKey, stream: StreamKey, command: Command) {
        let Action::Mark { seq, .. } = command.action else { return };
        if self.port.submit(command).is_err() {
            return self.not_submitted(user, stream);
        }
        self.rooms.mark_submitted(stream, seq);
        self.mark_again(stream);
    }

    /// The readers or the order took no mark of a stream. It goes again with the next tick.
    pub(super) fn not_submitted(&mut self, user: UserKey, stream: StreamKey) {
        self.links.refund_mark(user);
        self.mark_again(stream);
    }

    /// No reader has a stream's mark any longer.
    fn mark_again(&mut self, stream: StreamKey) {
        if self.rooms.mark_again(stream) {
            self.links.queue_mark(stream);
        }
    }
}
