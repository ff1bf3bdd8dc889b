//! The commands that one stream carried: which are unanswered, and what answers them. Pure.

use std::collections::VecDeque;

use quip_protocol::{
    Code,
    conversation::{Accepted, Ack, Outcome, Rejected},
};
use tokio::time::Instant;

/// The commands that a stream carried: which are unanswered, and what answers them in order of `n`.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// Each with when it was submitted; one that was sent twice stands here twice.
    unanswered: VecDeque<(u64, Instant)>,
    /// Among the streams that the deadlines look at for overdue answers.
    watched: bool,
    /// Later ones are dropped until this one comes again.
    refused: Option<u64>,
    /// The refusal of that one, until everything before it is answered.
    refusal: Option<Rejected>,
    /// Answers that were not said yet, in order.
    answers: VecDeque<Answer>,
}

/// What is to be done with a command that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum Admission {
    /// It goes on its way.
    Submit,
    /// Nothing: one before it was refused and has not come again.
    Drop,
    /// It is refused: too many are unanswered.
    TooMany,
}

/// What a stream says about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum Answer {
    /// In the place of the event that it became.
    Accepted(Accepted),
    /// It was accepted, and its event, if there is one, comes by itself.
    Ack(Ack),
    /// It was not accepted.
    Rejected(Rejected),
}

impl Sends {
    /// What is to be done with command `n`; `limit` may be unanswered.
    pub(super) fn admit(&mut self, n: u64, limit: u64) -> Admission {
        if self.refused.is_some_and(|refused| n > refused) {
            return Admission::Drop;
        }
        if self.unanswered.len() as u64 >= limit {
            return Admission::TooMany;
        }
        // A lower one, which a gap before the refused one asks for, does not stand in for it.
        self.refused.take_if(|refused| *refused == n);
        Admission::Submit
    }

    /// A command was refused before it was ordered: the client goes back to it.
    pub(super) fn refuse(&mut self, rejected: Rejected) {
        self.refused = Some(rejected.n);
        self.refusal = Some(rejected);
        self.end_of_line();
    }

    /// Command `n` was submitted. True when [`Self::overdue`] has to be asked from now on.
    pub(super) fn submitted(&mut self, n: u64, now: Instant) -> bool {
        self.unanswered.push_back((n, now));
        !std::mem::replace(&mut self.watched, true)
    }

    /// Whether a command waits for its outcome since `since` or longer; `None` when none waits and this need not be
    /// asked again.
    pub(super) fn overdue(&mut self, since: Instant) -> Option<bool> {
        self.watched = !self.unanswered.is_empty();
        self.unanswered.front().map(|(_, at)| *at <= since)
    }

    /// Command `outcome.n` is decided. `event`: it became an event just now, which is to come on this stream; `at_head`: this
    /// stream follows from memory and can take it. What this stream did not carry, or has answered, is nothing to it:
    /// an order may repeat a command, and bring one after its stream is gone.
    pub(super) fn decided(&mut self, outcome: &Outcome, event: bool, at_head: bool) {
        let Outcome { n, code, seq, number, at, .. } = *outcome;
        let Some(place) = self.unanswered.iter().position(|(waiting, _)| *waiting == n) else { return };
        self.unanswered.remove(place);
        if !at_head {
            // A stream that takes nothing now keeps no places, so that what it owes stays small.
            self.give_up_places();
        }
        if code != Code::DONE {
            let info = if code == Code::MISSING { seq } else { 0 };
            self.answers.push_back(Answer::Rejected(Rejected { n, code, retry_after: 0, info }));
        } else if event && at_head {
            self.answers.push_back(Answer::Accepted(Accepted { n, seq, number, at }));
        } else if !self.answers.iter().any(|answer| matches!(answer, Answer::Accepted(waiting) if waiting.n == n)) {
            self.answers.push_back(Answer::Ack(Ack { n, seq, number, at }));
        }
        self.end_of_line();
    }

    /// Command `n` is answered in another way, as a join is by `Opened`.
    pub(super) fn answered(&mut self, n: u64) {
        self.unanswered.retain(|(waiting, _)| *waiting != n);
    }

    /// How many answers are decided and not said yet.
    pub(super) fn unsaid(&self) -> usize {
        self.answers.len()
    }

    /// Once nothing before a refused command is unanswered, its refusal is the next answer.
    fn end_of_line(&mut self) {
        if self.unanswered.is_empty() {
            self.answers.extend(self.refusal.take().map(Answer::Rejected));
        }
    }

    /// The next answer, unless it stands in an event's place.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front_if(|answer| !matches!(answer, Answer::Accepted(_)))
    }

    /// What stands in the place of event `seq`, if this stream's own command became it.
    pub(super) fn take_in_place(&mut self, seq: u64) -> Option<Accepted> {
        match self.answers.pop_front_if(|answer| matches!(answer, Answer::Accepted(accepted) if accepted.seq == seq)) {
            Some(Answer::Accepted(accepted)) => Some(accepted),
            _ => None,
        }
    }

    /// The stream no longer follows from memory: what was to stand in an event's place is answered by itself.
    pub(super) fn give_up_places(&mut self) {
        for answer in &mut self.answers {
            if let Answer::Accepted(Accepted { n, seq, number, at }) = *answer {
                *answer = Answer::Ack(Ack { n, seq, number, at });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(n: u64, code: Code, seq: u64) -> Outcome {
        Outcome { n, code, seq, number: seq, at: 9, check: [9; 4] }
    }

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn carried(range: std::ops::RangeInclusive<u64>) -> Sends {
        let mut sends = Sends::default();
        range.for_each(|n| _ = sends.submitted(n, Instant::now()));
        sends
    }

    fn ack(n: u64, seq: u64) -> Option<Answer> {
        Some(Answer::Ack(Ack { n, seq, number: seq, at: 9 }))
    }

    fn rejected(n: u64, code: Code, info: u64) -> Rejected {
        Rejected { n, code, retry_after: 0, info }
    }

    #[test]
    fn at_the_head_the_answer_stands_in_the_events_place() {
        let mut sends = carried(1..=2);
        sends.decided(&outcome(1, Code::DONE, 7), true, true);
        assert_eq!((sends.next_answer(), sends.take_in_place(6)), (None, None));
        assert_eq!(sends.take_in_place(7).map(|accepted| accepted.n), Some(1));
        assert_eq!((sends.next_answer(), sends.take_in_place(7)), (None, None));
    }

    #[test]
    fn elsewhere_it_comes_at_once() {
        let mut sends = carried(1..=1);
        sends.decided(&outcome(1, Code::DONE, 7), true, false);
        assert_eq!(sends.next_answer(), ack(1, 7));
    }

    #[test]
    fn a_repeat_is_not_answered_twice_while_its_place_is_to_come() {
        let mut sends = carried(1..=1);
        sends.submitted(1, Instant::now());
        sends.decided(&outcome(1, Code::DONE, 7), true, true);
        sends.decided(&outcome(1, Code::DONE, 7), false, true);
        assert_eq!(sends.take_in_place(7).map(|accepted| accepted.n), Some(1));
        assert_eq!(sends.next_answer(), None);
    }

    #[test]
    fn an_outcome_that_comes_again_is_not_told_again() {
        let mut sends = carried(1..=2);
        sends.decided(&outcome(1, Code::DONE, 7), true, false);
        sends.decided(&outcome(1, Code::DONE, 7), false, false);
        assert_eq!((sends.next_answer(), sends.next_answer()), (ack(1, 7), None));
        let now = Instant::now();
        assert_eq!(
            (sends.overdue(now), sends.overdue(now - HOUR)),
            (Some(true), Some(false)),
            "the second still waits"
        );
        assert!(!sends.submitted(3, now), "looked at already");
        sends.decided(&outcome(2, Code::FORBIDDEN, 0), false, false);
        sends.decided(&outcome(3, Code::FORBIDDEN, 0), false, false);
        assert_eq!(sends.overdue(now), None);
        assert!(sends.submitted(4, now), "to be looked at again");
    }

    #[test]
    fn places_given_up_become_acks() {
        let mut sends = carried(1..=1);
        sends.decided(&outcome(1, Code::DONE, 7), true, true);
        sends.give_up_places();
        assert_eq!((sends.take_in_place(7), sends.next_answer()), (None, ack(1, 7)));
    }

    #[test]
    fn what_another_stream_carried_is_not_answered_here() {
        let mut sends = carried(4..=5);
        sends.decided(&outcome(3, Code::DONE, 7), true, true);
        assert_eq!((sends.take_in_place(7), sends.next_answer()), (None, None));
    }

    #[test]
    fn answers_come_in_order_of_the_numbers() {
        let mut sends = carried(3..=6);
        sends.decided(&outcome(3, Code::DONE, 7), true, true);
        sends.decided(&outcome(4, Code::FORBIDDEN, 0), false, true);
        sends.decided(&outcome(5, Code::DONE, 0), false, true);
        sends.decided(&outcome(6, Code::DONE, 8), true, true);
        assert_eq!(sends.next_answer(), None, "the first one stands in its event's place");
        assert_eq!(sends.take_in_place(7).map(|accepted| accepted.n), Some(3));
        assert_eq!(sends.next_answer(), Some(Answer::Rejected(rejected(4, Code::FORBIDDEN, 0))));
        assert_eq!((sends.next_answer(), sends.next_answer()), (ack(5, 0), None));
        assert_eq!(sends.take_in_place(8).map(|accepted| accepted.n), Some(6));
    }

    #[test]
    fn a_refusal_waits_for_the_answers_before_it_and_drops_what_comes_behind() {
        let mut sends = carried(1..=2);
        sends.refuse(rejected(3, Code::RATE, 0));
        assert_eq!((sends.admit(4, 64), sends.next_answer()), (Admission::Drop, None));
        sends.decided(&outcome(1, Code::DONE, 7), true, false);
        assert_eq!((sends.next_answer(), sends.next_answer()), (ack(1, 7), None));
        sends.decided(&outcome(2, Code::DONE, 8), true, true);
        assert_eq!(sends.next_answer(), None, "the second one stands in its event's place");
        assert!(sends.take_in_place(8).is_some());
        assert_eq!(sends.next_answer(), Some(Answer::Rejected(rejected(3, Code::RATE, 0))));
        assert_eq!([3, 4].map(|n| sends.admit(n, 64)), [Admission::Submit; 2]);
    }

    #[test]
    fn a_lower_number_than_the_refused_one_may_come_first() {
        let mut sends = Sends::default();
        sends.refuse(rejected(5, Code::FULL, 0));
        let admitted = [3, 6, 4, 5, 6].map(|n| sends.admit(n, 64));
        let [submit, drop] = [Admission::Submit, Admission::Drop];
        assert_eq!(admitted, [submit, drop, submit, submit, submit]);
    }

    #[test]
    fn unanswered_commands_are_bounded() {
        let mut sends = carried(1..=64);
        assert_eq!(sends.admit(65, 64), Admission::TooMany);
        sends.refuse(rejected(65, Code::UNANSWERED, 0));
        sends.decided(&outcome(1, Code::FORBIDDEN, 0), false, true);
        assert_eq!([66, 65, 66].map(|n| sends.admit(n, 64)), [Admission::Drop, Admission::Submit, Admission::Submit]);
    }

    #[test]
    fn missing_tells_the_last_decided_number() {
        let mut sends = carried(9..=9);
        sends.decided(&outcome(9, Code::MISSING, 4), false, true);
        assert_eq!(sends.next_answer(), Some(Answer::Rejected(rejected(9, Code::MISSING, 4))));
    }
}
