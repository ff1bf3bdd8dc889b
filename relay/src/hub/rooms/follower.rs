//! A conversation stream's place in its conversation. Pure.

use std::collections::VecDeque;

use quip_core::{Authority, Interval};
use quip_protocol::{ConversationId, DeviceId, UserId, conversation::Start};

use super::{audience::Place, conversation::ConversationKey, marks::Marks, sends::Sends, warmth::Warmth};
use crate::hub::{keys::ConnectionKey, reads::KnownEvent};

/// Whose stream it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub) struct Seat {
    pub(in crate::hub) connection: ConnectionKey,
    pub(in crate::hub) user: UserId,
    pub(in crate::hub) device: DeviceId,
}

/// One open conversation stream.
#[derive(Debug)]
pub(super) struct Follower {
    /// Which conversation.
    pub(super) id: ConversationId,
    /// Where it is kept.
    pub(super) conversation: ConversationKey,
    /// Whose it is.
    pub(super) seat: Seat,
    /// What the user may do in this conversation; nothing before the name of a room is known.
    pub(super) authority: Authority,
    /// How it is opened.
    pub(super) opening: Progress,
    /// How far it has come.
    pub(super) delivery: Delivery,
    /// Its read mark.
    pub(super) marks: Marks,
    /// Whether the sequencer has the rows that this stream's commands need.
    pub(super) warmth: Warmth,
    /// Users whose presence this stream watches; `None` where that is not live.
    pub(super) watching: Option<Vec<UserId>>,
    /// Commands of this stream.
    pub(super) sends: Sends,
}

/// How a stream is opened.
#[derive(Debug)]
pub(super) struct Progress {
    /// How far that has come.
    pub(super) phase: Phase,
    /// Where the client asked delivery to start.
    pub(super) start: Start,
    /// The event at the client's cursor, if the client knows it and the cursor is of this log.
    pub(super) known: Option<KnownEvent>,
    /// Seq of the join that this stream brought about; 0 = none.
    pub(super) joined_at: u64,
    /// The rows that it waits for may have been read before a membership ended.
    pub(super) outdated: bool,
}

/// How far delivery has come.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The last event that was handed to the stream, or left out.
    pub(super) cursor: u64,
    /// The last event that the user may see.
    pub(super) until: u64,
    /// Events behind the cursor that are not for the user, since they were no member then.
    pub(super) holes: VecDeque<Interval>,
    /// Among those that take events from memory.
    pub(super) place: Place,
    /// A page was asked for.
    pub(super) reading: bool,
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

impl Follower {
    /// A stream that has just been opened.
    pub(super) fn new(
        id: ConversationId,
        conversation: ConversationKey,
        seat: Seat,
        start: Start,
        authority: Authority,
    ) -> Self {
        Self {
            id,
            conversation,
            seat,
            authority,
            opening: Progress { phase: Phase::Opening, start, known: None, joined_at: 0, outdated: false },
            delivery: Delivery {
                cursor: 0,
                until: u64::MAX,
                holes: VecDeque::new(),
                place: Place::default(),
                reading: false,
            },
            marks: Marks::default(),
            warmth: Warmth::default(),
            watching: None,
            sends: Sends::default(),
        }
    }

    /// The user's membership ended, with event `to` as the last one for them.
    pub(super) fn ended(&mut self, to: u64) {
        match self.opening.phase {
            Phase::Following => self.delivery.until = self.delivery.until.min(to),
            Phase::Opening | Phase::Ahead { .. } => self.opening.outdated = true,
            // The rows that say what is visible are read later.
            Phase::Naming { .. } | Phase::Joining { .. } => {}
        }
    }

    /// True once events are delivered.
    pub(super) fn is_following(&self) -> bool {
        self.opening.phase == Phase::Following
    }

    /// True for an open stream of a present member, not of one who reads what there was until they left.
    pub(super) fn is_members(&self) -> bool {
        self.is_following() && self.delivery.until == u64::MAX
    }
}

impl Delivery {
    /// Passes the hole that is next, if there is one; the last event of it.
    pub(super) fn pass_hole(&mut self) -> Option<u64> {
        let next = self.cursor + 1;
        let hole = self.holes.pop_front_if(|hole| hole.from == next)?;
        self.cursor = hole.to;
        Some(hole.to)
    }

    /// The last event before a hole, at most `last`.
    pub(super) fn before_hole(&self, last: u64) -> u64 {
        self.holes.front().map_or(last, |hole| last.min(hole.from - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_of_a_membership_ends_the_stream() {
        let seat = Seat {
            connection: ConnectionKey::default(),
            user: UserId::parse("ann").unwrap(),
            device: DeviceId([1; 16]),
        };
        let id = ConversationId::group([7; 15]);
        let mut follower = Follower::new(id, ConversationKey::default(), seat, Start::Now, Authority::default());
        follower.opening.phase = Phase::Joining { n: 1 };
        follower.ended(9);
        assert!(!follower.opening.outdated, "the rows are read after the join");
        follower.opening.phase = Phase::Opening;
        follower.ended(10);
        assert!(
            follower.opening.outdated && follower.delivery.until == u64::MAX,
            "what the rows say is looked up again"
        );
        follower.opening.phase = Phase::Following;
        follower.ended(20);
        follower.ended(30);
        assert_eq!(follower.delivery.until, 20, "the second one is of a membership that this stream is not of");
    }
}
