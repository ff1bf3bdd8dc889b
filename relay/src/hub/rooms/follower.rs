//! A conversation stream's place in its conversation. Pure.

use quip_core::Authority;
use quip_protocol::{
    ConversationId, DeviceId, UserId,
    conversation::{Mark, Start},
};

use super::{conversation::ConversationKey, sends::Sends, warmth::Warmth};
use crate::hub::port::ConnectionKey;

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
    /// What the user may do in this conversation; nothing before the name of a room is known.
    pub(super) authority: Authority,
    /// The newest read mark that is not submitted yet.
    pub(super) mark: Option<Mark>,
    /// A reader has it, or an earlier one.
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
            phase: Phase::Opening,
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
    pub(super) fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// True for an open stream of a present member, not of one who reads what there was until they left.
    pub(super) fn is_members(&self) -> bool {
        self.is_following() && self.until == u64::MAX
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
        follower.phase = Phase::Joining { n: 1 };
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
