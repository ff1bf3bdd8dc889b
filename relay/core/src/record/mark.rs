//! How far a user has read a conversation.
//!
//! Key: slot of the user 2 ‖ length of the user id 1 ‖ user id ‖ conversation 16. Value: varints of `seq` and `number` ‖ the
//! intervals of `own`.

use quip_protocol::{ConversationId, UserId};

use super::{
    interval::{self, Interval},
    kind::{Stored, StoredKey, put_user, read_user},
};
use crate::{
    ConversationRecord, MemberRecord,
    codec::{Malformed, Reader, Sink},
};

/// Whose, and in which conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkKey(pub UserId, pub ConversationId);

/// How far a user has read a conversation. What they said themselves is never unread for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MarkRecord {
    /// Read up to this event.
    pub seq: u64,
    /// All messages up to this number are read.
    pub number: u64,
    /// The numbers of the user's own messages behind unread ones, lowest first: the highest [`MarkRecord::OWN`] intervals.
    pub own: Vec<Interval>,
}

impl MarkRecord {
    /// Intervals of own messages that are known behind the mark.
    pub const OWN: usize = 16;

    /// How many of the conversation's messages are not unread for the user: those up to the mark, or to the latest joining if that
    /// is later, and of those behind it their own and the deleted ones.
    pub fn read_number(&self, conversation: &ConversationRecord, member: &MemberRecord) -> u64 {
        member.last_number(conversation) - self.unread(conversation, member)
    }

    /// How many messages the user has not read.
    fn unread(&self, conversation: &ConversationRecord, member: &MemberRecord) -> u64 {
        let last = member.last_number(conversation);
        let read = self.number.max(member.number).min(last);
        let own = |interval: &Interval| (interval.to.min(last) + 1).saturating_sub(interval.from.max(read + 1));
        let is_counted = |number: &u64| !self.own.iter().any(|interval| interval.contains(*number));
        let behind = conversation.deleted.iter().filter(|number| (read + 1..=last).contains(*number));
        let deleted = behind.filter(|number| is_counted(number)).count() as u64;
        last - read - self.own.iter().map(own).sum::<u64>() - deleted
    }

    /// The user said the newest message. With it all is read, unless there is something unread before it.
    pub(crate) fn say(&mut self, seq: u64, conversation: &ConversationRecord, member: &MemberRecord) {
        let number = conversation.number;
        match self.own.last_mut().filter(|last| last.to + 1 == number) {
            Some(last) => last.to = number,
            None => self.own.push(Interval { from: number, to: number }),
        }
        if self.own.len() > Self::OWN {
            self.own.remove(0);
        }
        if self.unread(conversation, member) == 0 {
            *self = Self { seq, number, own: Vec::new() };
        }
    }

    /// Moves the mark forward, and over own messages that come next.
    pub(crate) fn advance(&mut self, seq: u64, number: u64) {
        (self.seq, self.number) = (seq, self.number.max(number));
        let Self { number, own, .. } = self;
        own.retain(|interval| {
            let is_next = interval.from <= *number + 1;
            *number = if is_next { interval.to.max(*number) } else { *number };
            !is_next
        });
    }
}

impl StoredKey for MarkKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_user(&self.0, out);
        out.put(&self.1.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_user(from)?, ConversationId(from.array()?)))
    }
}

impl Stored for MarkRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.seq);
        out.put_varint(self.number);
        interval::put(&self.own, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { seq: from.varint()?, number: from.varint()?, own: interval::read(from, Self::OWN)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    fn own(all: &[(u64, u64)]) -> Vec<Interval> {
        all.iter().map(|(from, to)| Interval { from: *from, to: *to }).collect()
    }

    #[test]
    fn golden() {
        let key = "0708ff03616e6e03ababababababababababababababab";
        let mark = MarkRecord { seq: 300, number: 2, own: Vec::new() };
        check(MarkKey(user("ann"), room()), mark.clone(), key, "01ac020200");
        check(
            MarkKey(user("ann"), room()),
            MarkRecord { own: own(&[(4, 4), (6, 9)]), ..mark },
            key,
            "01ac02020204000203",
        );
        // Over 64 bits.
        assert_malformed::<MarkRecord>(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0]);
        // More than the limit.
        assert_malformed::<MarkRecord>(&[1, 1, 1, 17]);
    }

    #[test]
    fn a_mark_that_comes_to_own_messages_goes_on_behind_them() {
        let mark = MarkRecord { seq: 9, number: 4, own: own(&[(6, 7), (9, 9), (11, 12)]) };
        let moved = |number| {
            let mut mark = mark.clone();
            mark.advance(20, number);
            (mark.number, mark.own.len())
        };
        assert_eq!(
            [2, 4, 5, 6, 7, 8, 10, 11, 99].map(moved),
            [(4, 3), (4, 3), (7, 2), (7, 2), (7, 2), (9, 1), (12, 0), (12, 0), (99, 0)]
        );
    }

    proptest! {
        #[test]
        fn any_comes_back(seq: u64, number: u64, steps in prop::collection::vec((1..1u64 << 40, 0..1u64 << 40), 0..=MarkRecord::OWN)) {
            let mut own = Vec::new();
            for (gap, length) in steps {
                let from = own.last().map_or(0, |last: &Interval| last.to) + gap;
                own.push(Interval { from, to: from + length });
            }
            comes_back(MarkRecord { seq, number, own });
        }
    }
}
