//! The commands that one stream carried: which are unanswered, and what answers them. Pure.

use std::collections::VecDeque;

use quip_protocol::{
    Code,
    conversation::{Accepted, Ack, Outcome, Rejected},
};
use tokio::time::Instant;

/// The commands that a stream carried: which are unanswered, and what answers them.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// Each with when it was submitted; one that was sent twice stands here twice.
    unanswered: VecDeque<(u64, Instant)>,
    /// Among the streams that the deadlines look at for overdue answers.
    watched: bool,
    refused: Option<u64>,
    in_place: VecDeque<Accepted>,
}

/// What a stream says about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing now: `Accepted` will stand in the event's place, or the stream never carried the command.
    Nothing,
    /// At once.
    Ack(Ack),
    /// At once.
    Rejected(Rejected),
}

impl Sends {
    /// Whether command `n` may be submitted now; `limit` may be unanswered.
    ///
    /// # Errors
    /// The code of the refusal. Every later `n` is refused until this one comes again.
    pub(super) fn admit(&mut self, n: u64, limit: u64) -> Result<(), Code> {
        if self.refused.is_some_and(|refused| n > refused) {
            return Err(Code::BLOCKED);
        }
        if self.unanswered.len() as u64 >= limit {
            self.refuse(n);
            return Err(Code::UNANSWERED);
        }
        // A lower one, which a gap before the refused one asks for, does not stand in for it.
        self.refused.take_if(|refused| *refused == n);
        Ok(())
    }

    /// Command `n` was refused before it was ordered.
    pub(super) fn refuse(&mut self, n: u64) {
        self.refused = Some(n);
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

    /// Command `outcome.n` is decided. `event`: it became an event just now; `at_head`: this stream has
    /// everything before that event and can take it. What this stream did not carry, or has answered, is nothing to it:
    /// an order may repeat a command, and bring one after its stream is gone.
    pub(super) fn decided(&mut self, outcome: &Outcome, event: bool, at_head: bool) -> Answer {
        let Outcome { n, code, seq, number, at } = *outcome;
        let Some(place) = self.unanswered.iter().position(|(waiting, _)| *waiting == n) else { return Answer::Nothing };
        self.unanswered.remove(place);
        if code != Code::DONE {
            let info = if code == Code::MISSING { seq } else { 0 };
            return Answer::Rejected(Rejected { n, code, retry_after: 0, info });
        }
        if event && at_head {
            self.in_place.push_back(Accepted { n, seq, number, at });
            return Answer::Nothing;
        }
        if self.in_place.iter().any(|accepted| accepted.n == n) {
            return Answer::Nothing;
        }
        Answer::Ack(Ack { n, seq, number, at })
    }

    /// What stands in the place of event `seq`, if this stream's own command became it.
    pub(super) fn take_in_place(&mut self, seq: u64) -> Option<Accepted> {
        self.in_place.pop_front_if(|accepted| accepted.seq == seq)
    }

    /// The stream no longer follows from memory: what was to stand in an event's place is answered at once.
    pub(super) fn give_up_places(&mut self) -> impl Iterator<Item = Ack> {
        self.in_place.drain(..).map(|Accepted { n, seq, number, at }| Ack { n, seq, number, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(n: u64, code: Code, seq: u64) -> Outcome {
        Outcome { n, code, seq, number: seq, at: 9 }
    }

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn carried(range: std::ops::RangeInclusive<u64>) -> Sends {
        let mut sends = Sends::default();
        range.for_each(|n| _ = sends.submitted(n, Instant::now()));
        sends
    }

    #[test]
    fn at_the_head_the_answer_stands_in_the_events_place() {
        let mut sends = carried(1..=2);
        assert_eq!(sends.decided(&outcome(1, Code::DONE, 7), true, true), Answer::Nothing);
        assert_eq!(sends.take_in_place(6), None);
        assert_eq!(sends.take_in_place(7).map(|accepted| accepted.n), Some(1));
        assert_eq!(sends.take_in_place(7), None);
    }

    #[test]
    fn elsewhere_it_comes_at_once() {
        let mut sends = carried(1..=1);
        let answer = sends.decided(&outcome(1, Code::DONE, 7), true, false);
        assert_eq!(answer, Answer::Ack(Ack { n: 1, seq: 7, number: 7, at: 9 }));
    }

    #[test]
    fn a_repeat_is_not_answered_twice_while_its_place_is_to_come() {
        let mut sends = carried(1..=1);
        sends.submitted(1, Instant::now());
        assert_eq!(sends.decided(&outcome(1, Code::DONE, 7), true, true), Answer::Nothing);
        assert_eq!(sends.decided(&outcome(1, Code::DONE, 7), false, true), Answer::Nothing);
        assert_eq!(sends.take_in_place(7).map(|accepted| accepted.n), Some(1));
    }

    #[test]
    fn an_outcome_that_comes_again_is_not_told_again() {
        let mut sends = carried(1..=2);
        assert!(sends.decided(&outcome(1, Code::DONE, 7), true, false) != Answer::Nothing);
        assert_eq!(sends.decided(&outcome(1, Code::DONE, 7), false, false), Answer::Nothing);
        let now = Instant::now();
        assert_eq!(
            (sends.overdue(now), sends.overdue(now - HOUR)),
            (Some(true), Some(false)),
            "the second still waits"
        );
        assert!(!sends.submitted(3, now), "looked at already");
        assert!(sends.decided(&outcome(2, Code::FORBIDDEN, 0), false, false) != Answer::Nothing);
        assert!(sends.decided(&outcome(3, Code::FORBIDDEN, 0), false, false) != Answer::Nothing);
        assert_eq!(sends.overdue(now), None);
        assert!(sends.submitted(4, now), "to be looked at again");
    }

    #[test]
    fn places_given_up_become_acks() {
        let mut sends = carried(1..=1);
        sends.decided(&outcome(1, Code::DONE, 7), true, true);
        assert_eq!(sends.give_up_places().collect::<Vec<_>>(), [Ack { n: 1, seq: 7, number: 7, at: 9 }]);
        assert_eq!(sends.take_in_place(7), None);
    }

    #[test]
    fn what_another_stream_carried_is_not_answered_here() {
        let mut sends = carried(4..=5);
        assert_eq!(sends.decided(&outcome(3, Code::DONE, 7), true, true), Answer::Nothing);
        assert_eq!(sends.take_in_place(7), None);
    }

    #[test]
    fn after_a_refusal_everything_waits_for_that_number() {
        let mut sends = Sends::default();
        assert_eq!(sends.admit(1, 64), Ok(()));
        sends.refuse(1);
        assert_eq!(sends.admit(2, 64), Err(Code::BLOCKED));
        assert_eq!(sends.admit(1, 64), Ok(()));
        assert_eq!(sends.admit(2, 64), Ok(()));
    }

    #[test]
    fn a_lower_number_than_the_refused_one_may_come_first() {
        let mut sends = Sends::default();
        sends.refuse(5);
        assert_eq!(sends.admit(3, 64), Ok(()));
        assert_eq!(sends.admit(6, 64), Err(Code::BLOCKED));
        assert_eq!(sends.admit(4, 64), Ok(()));
        assert_eq!((sends.admit(5, 64), sends.admit(6, 64)), (Ok(()), Ok(())));
    }

    #[test]
    fn unanswered_commands_are_bounded() {
        let mut sends = carried(1..=64);
        assert_eq!(sends.admit(65, 64), Err(Code::UNANSWERED));
        sends.decided(&outcome(1, Code::FORBIDDEN, 0), false, true);
        assert_eq!(sends.admit(66, 64), Err(Code::BLOCKED));
        assert_eq!(sends.admit(65, 64), Ok(()));
    }

    #[test]
    fn missing_tells_the_last_decided_number() {
        let mut sends = carried(9..=9);
        let answer = sends.decided(&outcome(9, Code::MISSING, 4), false, true);
        assert_eq!(answer, Answer::Rejected(Rejected { n: 9, code: Code::MISSING, retry_after: 0, info: 4 }));
    }
}
