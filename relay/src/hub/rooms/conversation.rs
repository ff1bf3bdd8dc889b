//! A conversation that is open on some streams here.

use super::audience::Audience;
use crate::hub::keys::StreamKey;

slotmap::new_key_type! {
    /// Where an open conversation is kept.
    pub(super) struct ConversationKey;
}

/// A conversation that is open here.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The newest event that is known here.
    pub(super) head: u64,
    /// Streams that have it open.
    pub(super) followers: Vec<StreamKey>,
    /// Those of them that take events from memory.
    pub(super) audience: Audience,
    /// The name of a room, once it is known.
    pub(super) room: Option<String>,
    /// It waits for turns.
    pub(super) queued: bool,
    /// The follower to look at next.
    next: usize,
    /// How many are to be looked at until each had a turn.
    left: usize,
}

impl Conversation {
    /// A stream opens it. Who waits for a turn still gets one: the round becomes longer with the followers.
    pub(super) fn add(&mut self, stream: StreamKey) {
        self.followers.push(stream);
        self.left += usize::from(self.left > 0);
    }

    /// The newest event is this one from now on.
    pub(super) fn set_head(&mut self, head: u64) {
        if std::mem::replace(&mut self.head, head) != head {
            self.audience.event();
        }
    }

    /// Every follower gets a turn from now on.
    pub(super) fn look_at_all(&mut self) {
        self.left = self.followers.len();
    }

    /// The followers that have the next turns, at most `most`. True when more are left.
    pub(super) fn take_turns(&mut self, most: usize, into: &mut Vec<StreamKey>) -> bool {
        let turns = self.left.min(most);
        self.left -= turns;
        for _ in 0..turns {
            self.next = if self.next >= self.followers.len() { 0 } else { self.next };
            into.extend(self.followers.get(self.next));
            self.next += 1;
        }
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn each_follower_has_a_turn_and_a_new_event_gives_all_another() {
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        let followers: Vec<_> = (0..5).map(|_| keys.insert(())).collect();
        let mut conversation = Conversation { followers: followers.clone(), ..Conversation::default() };
        let mut turns = Vec::new();
        conversation.look_at_all();
        assert!(conversation.take_turns(3, &mut turns));
        assert!(!conversation.take_turns(3, &mut turns));
        assert_eq!(turns, followers);
        conversation.look_at_all();
        conversation.take_turns(2, &mut turns);
        conversation.look_at_all();
        turns.clear();
        assert!(!conversation.take_turns(9, &mut turns));
        turns.sort_unstable();
        assert_eq!(turns, followers, "those who had a turn in between have another one");
    }

    #[test]
    fn one_who_comes_in_the_middle_of_a_round_takes_nobodys_turn() {
        let mut keys = SlotMap::<StreamKey, ()>::with_key();
        let followers: Vec<_> = (0..4).map(|_| keys.insert(())).collect();
        let mut conversation = Conversation { followers: followers.clone(), ..Conversation::default() };
        let mut turns = Vec::new();
        conversation.look_at_all();
        conversation.take_turns(3, &mut turns);
        // The next round begins with the last of them.
        conversation.look_at_all();
        conversation.add(keys.insert(()));
        turns.clear();
        assert!(!conversation.take_turns(9, &mut turns));
        assert!(followers.iter().all(|follower| turns.contains(follower)), "{turns:?}");
    }
}
