//! The commands and read marks that streams carry, and their outcomes.

use quip_core::{Action, By, Command};
use quip_protocol::conversation::{JOIN_CHECK, Mark, Outcome, Rejected};
use quip_store::Change;
use tokio::time::Instant;

use super::{
    Rooms,
    follower::{Follower, Phase},
    opening::Opening,
    sends::Admission,
};
use crate::hub::keys::StreamKey;

/// What follows from an outcome.
#[derive(Debug)]
pub(in crate::hub) enum Decided {
    /// The stream that carried the command may have something to say.
    Answered(StreamKey),
    /// The join that a stream waited for is decided.
    Opening(StreamKey, Opening),
}

impl Rooms {
    /// What is to be done with command `n` of a stream; `most` may be unanswered.
    pub(in crate::hub) fn admit(&mut self, stream: StreamKey, n: u64, most: usize) -> Admission {
        let follower = self.followers.get_mut(stream);
        follower.map_or(Admission::Submit, |follower| follower.sends.admit(n, most as u64))
    }

    /// A numbered command of a stream, and whether its rows may be on the disk alone.
    pub(in crate::hub) fn command(&self, stream: StreamKey, n: u64, action: Action) -> Option<(Command, bool)> {
        let follower = self.followers.get(stream)?;
        let command = follower.command(n, action);
        let cold = follower.warmth.is_cold(&quip_core::keys(&command), self.cache_epoch);
        Some((command, cold))
    }

    /// Command `n` of a stream was submitted, which may be a message. True when its answer is to be awaited from now on, see
    /// [`Rooms::overdue`].
    pub(in crate::hub) fn submitted(&mut self, stream: StreamKey, n: u64, is_message: bool, now: Instant) -> bool {
        let Some(follower) = self.followers.get_mut(stream) else { return false };
        follower.warmth.used_sends(self.cache_epoch);
        if is_message {
            follower.warmth.used_mark(self.cache_epoch);
        }
        follower.sends.submitted(n, now)
    }

    /// Whether a stream's command waits for its outcome since `since` or longer; `None` when none waits.
    pub(in crate::hub) fn overdue(&mut self, stream: StreamKey, since: Instant) -> Option<bool> {
        self.followers.get_mut(stream)?.sends.overdue(since)
    }

    /// A command of a stream is refused before it is ordered, and with it every later one until it comes again. False
    /// when it was the join that the stream waits for.
    pub(in crate::hub) fn refused(&mut self, stream: StreamKey, rejected: Rejected) -> bool {
        let Some(follower) = self.followers.get_mut(stream) else { return true };
        if follower.opening.phase == (Phase::Joining { n: rejected.n }) {
            return false;
        }
        follower.sends.refuse(rejected);
        true
    }

    /// True when more answers wait on a stream than a client that obeys the limit of unanswered commands can leave there.
    pub(in crate::hub) fn is_unread(&self, stream: StreamKey) -> bool {
        let most = self.config.limits.unanswered_per_stream;
        self.followers.get(stream).is_some_and(|follower| follower.sends.unsaid() > most)
    }

    /// True when a stream waits for its join.
    pub(in crate::hub) fn is_joining(&self, stream: StreamKey) -> bool {
        self.followers.get(stream).is_some_and(|follower| matches!(follower.opening.phase, Phase::Joining { .. }))
    }

    /// Brings the outcome of a command to the stream that carried it. `blocked` says whether a stream takes no more.
    pub(in crate::hub) fn outcome(
        &mut self,
        change: &Change,
        outcome: &Outcome,
        blocked: impl FnOnce(StreamKey) -> bool,
    ) -> Option<Decided> {
        let By::Device { user, device, .. } = &change.by else { return None };
        let stream = *self.senders.get(&(change.conversation, user.clone(), *device))?;
        let follower = self.followers.get_mut(stream)?;
        // A join tries numbers, and an order may repeat it when its number has become another command's.
        if outcome.check == JOIN_CHECK {
            let is_awaited = follower.opening.phase == (Phase::Joining { n: outcome.n });
            return is_awaited.then(|| Decided::Opening(stream, self.joined(stream, outcome)));
        }
        // A page may have brought the event before the batch did.
        let is_to_come = (follower.delivery.cursor + 1..=follower.delivery.until).contains(&outcome.seq);
        let at_head = follower.delivery.place.is_live() && !blocked(stream);
        follower.sends.decided(outcome, change.event.is_some() && is_to_come, at_head);
        Some(Decided::Answered(stream))
    }

    /// A read mark arrived: the highest one counts. True when it is to be submitted with the next tick.
    pub(in crate::hub) fn mark(&mut self, stream: StreamKey, mark: Mark) -> bool {
        self.followers.get_mut(stream).is_some_and(|follower| follower.marks.put(mark))
    }

    /// The read mark of a stream as a command, and whether its rows may be on the disk alone; `None` while a reader has
    /// one. A stream that is `leaving` does not wait for that.
    pub(in crate::hub) fn take_mark(&mut self, stream: StreamKey, leaving: bool) -> Option<(Command, bool)> {
        let follower = self.followers.get_mut(stream)?;
        let mark = follower.marks.next(leaving)?;
        let command = follower.command(0, Action::Mark { seq: mark.seq, number: mark.number });
        let cold = follower.warmth.is_cold(&quip_core::keys(&command), self.cache_epoch);
        if cold {
            follower.marks.lend();
        }
        Some((command, cold))
    }

    /// The read mark of a stream up to `seq` was submitted.
    pub(in crate::hub) fn mark_submitted(&mut self, stream: StreamKey, seq: u64) {
        let Some(follower) = self.followers.get_mut(stream) else { return };
        follower.warmth.used_mark(self.cache_epoch);
        follower.marks.submitted(seq);
    }

    /// No reader has a stream's mark any longer. True when one is to be submitted with the next tick: a mark has no number
    /// to refuse, so what is not submitted, or came meanwhile, waits.
    pub(in crate::hub) fn mark_again(&mut self, stream: StreamKey) -> bool {
        self.followers.get_mut(stream).is_some_and(|follower| follower.marks.is_back())
    }
}

impl Follower {
    fn command(&self, n: u64, action: Action) -> Command {
        let by = By::Device { user: self.seat.user.clone(), device: self.seat.device, n };
        Command { conversation: self.id, by, authority: self.authority, action }
    }
}
