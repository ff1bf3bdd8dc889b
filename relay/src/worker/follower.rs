//! A conversation stream's place in its conversation, and its device's unanswered commands. Pure.

use std::{collections::VecDeque, time::Instant};

use quip_core::Authority;
use quip_protocol::{
    Code, ConversationId, UserId,
    conversation::{Accepted, Ack, Mark, Outcome, Rejected, Start},
};

use super::warmth::Warmth;

/// One open conversation stream.
#[derive(Debug)]
pub(super) struct Follower {
    /// Which conversation.
    pub(super) id: ConversationId,
    /// How far opening has come.
    pub(super) phase: Phase,
    /// Where the client asked delivery to start.
    pub(super) start: Start,
    /// Seq of the join that this stream brought about; 0 = none.
    pub(super) joined_at: u64,
    /// The last event that was handed to the stream, or left out.
    pub(super) cursor: u64,
    /// The last event that the user may see.
    pub(super) until: u64,
    /// The rows that opening waits for may have been read before a membership ended.
    pub(super) outdated: bool,
    /// Follows from memory: the next event is the conversation's next one, or in its ring.
    pub(super) live: bool,
    /// A page was asked for.
    pub(super) reading: bool,
    /// What the token and config allow in this conversation.
    pub(super) authority: Authority,
    /// The newest read mark that is not submitted yet.
    pub(super) mark: Option<Mark>,
    /// A reader is at it, or at an earlier one.
    pub(super) marking: bool,
    /// Whether the sequencer has the rows that this stream's commands need.
    pub(super) warmth: Warmth,
    /// Users whose presence this stream watches; `None` where that is not live.
    pub(super) watching: Option<Vec<UserId>>,
    /// Commands of this stream.
    pub(super) sends: Sends,
}

/// How far opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The conversation's name is being read, to learn what the token allows there.
    Naming {
        /// The `n` of the join that follows.
        join: u64,
    },
    /// The join is on its way.
    Joining {
        /// Its `n`.
        n: u64,
    },
    /// The rows are being read.
    Opening,
    /// The cursor is ahead of this relay; it may yet come up to it.
    Ahead {
        /// Looks left until the client is sent elsewhere.
        looks: u32,
    },
    /// Open.
    Following,
}

/// The commands that a stream carried: which are unanswered, and what answers them.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// Each with when it was submitted; one that was sent twice stands here twice.
    unanswered: VecDeque<(u64, Instant)>,
    /// In the worker's list of streams that wait for outcomes.
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

impl Follower {
    /// A stream that has just been opened.
    pub(super) fn new(id: ConversationId, start: Start, phase: Phase, authority: Authority) -> Self {
        Self {
            id,
            phase,
            start,
            joined_at: 0,
            cursor: 0,
            until: u64::MAX,
            outdated: false,
            live: false,
            reading: false,
            authority,
            mark: None,
            marking: false,
            warmth: Warmth::default(),
            watching: None,
            sends: Sends::default(),
        }
    }

    /// The user's membership ended, with event `to` as the last one for them.
    pub(super) fn ended(&mut self, to: u64) {
        match self.phase {
            Phase::Following => self.until = self.until.min(to),
            Phase::Opening | Phase::Ahead { .. } => self.outdated = true,
            // The rows that say what is visible are read later.
            Phase::Naming { .. } | Phase::Joining { .. } => {}
        }
    }

    /// True once events are delivered.
    pub(super) fn following(&self) -> bool {
        self.phase == Phase::Following
    }
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

    /// The stream no longer follows from memory: what was to stand in an event's place is told at once.
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

    #[test]
    fn the_first_end_of_a_membership_ends_the_stream() {
        let id = ConversationId::group([7; 15]);
        let start = Start::Now;
        let mut follower = Follower::new(id, start, Phase::Joining { n: 1 }, Authority::default());
        follower.ended(9);
        assert!(!follower.outdated, "the rows are read after the join");
        follower.phase = Phase::Opening;
        follower.ended(10);
        assert!(follower.outdated && follower.until == u64::MAX, "what the rows say is looked up again");
        follower.phase = Phase::Following;
        follower.ended(20);
        follower.ended(30);
        assert_eq!(follower.until, 20, "the second one is of a membership that this stream is not of");
    }
}
