//! A user's membership of a conversation.
//!
//! Key: slot 2 ‖ conversation 16 ‖ user id. Value: state 1 ‖ role 1 ‖ varints of `from`, `to`, `number` and `at` ‖ parting:
//! varint of `number`, title ‖ the earlier intervals.

use quip_protocol::{ConversationId, UserId, event::role, limit};

use super::{
    interval::{self, Interval},
    kind::{Stored, StoredKey, parse_user, put_conversation, read_conversation},
};
use crate::{
    ConversationRecord, Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// Which conversation, and who.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey(pub ConversationId, pub UserId);

/// A user's membership of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its state.
    pub state: MemberState,
    /// `event::role`; of a former member, the last one held.
    pub role: u8,
    /// The first event of the latest membership.
    pub from: u64,
    /// The last event of it; `u64::MAX` for a present member.
    pub to: u64,
    /// The message number just before the join, from which unread messages are counted.
    pub number: u64,
    /// When this state began.
    pub at: Timestamp,
    /// How the conversation was when the membership ended; empty for a present member.
    pub parting: Parting,
    /// What the user could see in earlier memberships and still may, oldest first, all of it before `from`. At most
    /// [`limit::EARLIER`].
    pub earlier: Vec<Interval>,
}

/// What a former member is shown of a conversation besides its events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parting {
    /// The message number of the last event that they may see.
    pub number: u64,
    /// The title of a group.
    pub title: String,
}

/// The state of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MemberState {
    /// A member.
    Member = 1,
    /// Was a member, may join again.
    Left = 2,
    /// Banned. `to` is 0 if the user never was a member.
    Banned = 3,
}

impl StoredKey for MemberKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
        out.put(self.1.as_str().as_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_conversation(from)?, parse_user(from.rest())?))
    }
}

impl MemberRecord {
    /// The prefix of the keys of a conversation's members.
    pub fn prefix(id: ConversationId) -> Vec<u8> {
        let mut out = vec![<Self as super::Kind>::NUMBER];
        put_conversation(id, &mut out);
        out
    }

    /// Of a user who never was a member, and sees nothing.
    pub(crate) fn never(state: MemberState, at: Timestamp) -> Self {
        Self {
            state,
            role: role::MEMBER,
            from: 1,
            to: 0,
            number: 0,
            at,
            parting: Parting::default(),
            earlier: Vec::new(),
        }
    }

    /// The events that this user may see, oldest first. Neither what was trimmed nor what is still to come is left out.
    pub fn visible(&self) -> impl DoubleEndedIterator<Item = Interval> {
        let latest = Interval { from: self.from, to: self.to };
        self.earlier.iter().copied().chain([latest]).filter(|interval| interval.from <= interval.to)
    }

    /// Whether this user may see an event.
    pub fn sees(&self, seq: u64) -> bool {
        self.visible().any(|interval| interval.contains(seq))
    }

    /// The message number of the last event that this user may have, or may come to have.
    pub fn last_number(&self, conversation: &ConversationRecord) -> u64 {
        if self.state == MemberState::Member { conversation.number } else { self.parting.number }
    }

    /// What stays visible of earlier memberships once another begins with event `from`. Events before `first_kept` are gone.
    ///
    /// Intervals without an event between them become one. When there are too many, the one with the fewest events goes.
    pub fn still_visible(&self, from: u64, first_kept: u64) -> Vec<Interval> {
        let mut kept: Vec<Interval> = Vec::new();
        for interval in self.visible().filter(|interval| interval.to < from && interval.to >= first_kept) {
            match kept.last_mut() {
                Some(last) if last.to + 1 == interval.from => last.to = interval.to,
                _ => kept.push(interval),
            }
        }
        if kept.len() > limit::EARLIER
            && let Some(fewest) = (0..kept.len()).min_by_key(|place| kept[*place].to - kept[*place].from)
        {
            kept.remove(fewest);
        }
        kept
    }
}

impl Stored for MemberRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put(&[self.state as u8, self.role]);
        for value in [self.from, self.to, self.number, self.at, self.parting.number] {
            out.put_varint(value);
        }
        out.put_blob(self.parting.title.as_bytes());
        interval::put(&self.earlier, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            state: match from.u8()? {
                1 => MemberState::Member,
                2 => MemberState::Left,
                3 => MemberState::Banned,
                _ => return Err(Malformed),
            },
            role: from.u8()?,
            from: from.varint()?,
            to: from.varint()?,
            number: from.varint()?,
            at: from.varint()?,
            parting: Parting { number: from.varint()?, title: from.text()?.to_owned() },
            earlier: interval::read(from, limit::EARLIER)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    fn member() -> MemberRecord {
        MemberRecord {
            state: MemberState::Banned,
            role: 2,
            from: 5,
            to: 300,
            number: 4,
            at: 1000,
            parting: Parting::default(),
            earlier: Vec::new(),
        }
    }

    fn interval(from: u64, to: u64) -> Interval {
        Interval { from, to }
    }

    #[test]
    fn golden() {
        let key = "040f6703ababababababababababababababab616e6e";
        check(MemberKey(room(), user("ann")), member(), key, "01030205ac0204e807000000");
        assert_eq!(hex(&MemberRecord::prefix(room())), key[..38]);
        for (state, byte) in [(MemberState::Member, 1), (MemberState::Left, 2), (MemberState::Banned, 3)] {
            let record = MemberRecord { state, to: u64::MAX, ..member() };
            assert_eq!(super::super::Kind::value(&record)[1], byte);
            comes_back(record);
        }
        assert_malformed::<MemberRecord>(&[1, 4, 2, 5, 1, 4, 1]);
    }

    #[test]
    fn golden_with_a_past() {
        let past = MemberRecord {
            from: 400,
            to: 500,
            parting: Parting { number: 300, title: "Us".to_owned() },
            earlier: vec![interval(5, 5), interval(7, 300)],
            ..member()
        };
        let value = ["01", "0302", "9003", "f403", "04", "e807", "ac02", "025573", "02", "0500", "02a502"].concat();
        assert_eq!(hex(&super::super::Kind::value(&past)), value);
        comes_back(past);
        let head = [1, 3, 2, 5, 9, 4, 1, 0, 0];
        // More than the limit, one that does not follow the one before it, and one over 64 bits.
        assert_malformed::<MemberRecord>(&[&head[..], &[33]].concat());
        assert_malformed::<MemberRecord>(&[&head[..], &[1, 0, 7]].concat());
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_malformed::<MemberRecord>(&[&head[..], &[1, 2], &most].concat());
    }

    #[test]
    fn a_member_sees_every_interval_and_nothing_between() {
        let member = MemberRecord { to: u64::MAX, from: 20, earlier: vec![interval(2, 4), interval(8, 8)], ..member() };
        let seen: Vec<_> = (0..25).filter(|seq| member.sees(*seq)).collect();
        assert_eq!(seen, [2, 3, 4, 8, 20, 21, 22, 23, 24]);
        let nobody = MemberRecord { from: 1, to: 0, ..member.clone() };
        assert_eq!(nobody.visible().collect::<Vec<_>>(), [interval(2, 4), interval(8, 8)]);
    }

    #[test]
    fn what_was_visible_stays_so() {
        let member = MemberRecord { from: 20, to: 22, earlier: vec![interval(2, 4), interval(8, 8)], ..member() };
        assert_eq!(member.still_visible(30, 1), [interval(2, 4), interval(8, 8), interval(20, 22)]);
        assert_eq!(member.still_visible(30, 5), [interval(8, 8), interval(20, 22)], "some was trimmed");
        assert_eq!(member.still_visible(1, 1), [], "all of it is in what comes");
        let touching = MemberRecord { from: 9, ..member };
        assert_eq!(touching.still_visible(30, 1), [interval(2, 4), interval(8, 22)]);
    }

    #[test]
    fn the_interval_with_the_fewest_events_goes_first() {
        let earlier: Vec<_> = (1..=limit::EARLIER as u64).map(|place| interval(10 * place, 10 * place + 3)).collect();
        let mut member = MemberRecord { from: 1000, to: 1001, earlier: earlier.clone(), ..member() };
        assert_eq!(member.still_visible(2000, 1), earlier);
        member.to = 1009;
        let kept = member.still_visible(2000, 1);
        assert_eq!((kept[0], kept[kept.len() - 1]), (earlier[1], interval(1000, 1009)), "of equal ones the oldest");
        assert_eq!(kept.len(), limit::EARLIER);
    }

    proptest! {
        #[test]
        fn any_comes_back(
            role: u8, from: u64, to: u64, at: u64, title in ".{0,40}",
            steps in prop::collection::vec((1..1u64 << 40, 0..1u64 << 40), 0..=limit::EARLIER)
        ) {
            let mut earlier = Vec::new();
            for (gap, length) in steps {
                let from = earlier.last().map_or(0, |last: &Interval| last.to) + gap;
                earlier.push(interval(from, from + length));
            }
            let parting = Parting { number: at, title };
            comes_back(MemberRecord { role, from, to, number: from, at, parting, earlier, ..member() });
        }
    }
}
