//! A user's membership of a conversation.
//!
//! Key: slot 2 ‖ conversation 16 ‖ user id. Value: state 1 ‖ role 1 ‖ varints of `from`, `to`, `number` and `at`.

use quip_protocol::{ConversationId, UserId};

use super::kind::{Stored, StoredKey, parse_user, put_conversation, read_conversation};
use crate::{
    Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// Which conversation, and who.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey(pub ConversationId, pub UserId);

/// A user's membership of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its state.
    pub state: MemberState,
    /// `event::role`; of a former member, the last one held.
    pub role: u8,
    /// The first event that this member may see.
    pub from: u64,
    /// The last event that this member may see; `u64::MAX` for a present member.
    pub to: u64,
    /// The message number just before the join, from which unread messages are counted.
    pub number: u64,
    /// When this state began.
    pub at: Timestamp,
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
}

impl Stored for MemberRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put(&[self.state as u8, self.role]);
        for value in [self.from, self.to, self.number, self.at] {
            out.put_varint(value);
        }
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
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let member = MemberRecord { state: MemberState::Banned, role: 2, from: 5, to: 300, number: 4, at: 1000 };
        let key = "040f6703ababababababababababababababab616e6e";
        check(MemberKey(room(), user("ann")), member, key, "01030205ac0204e807");
        assert_eq!(hex(&MemberRecord::prefix(room())), key[..38]);
        for (state, byte) in [(MemberState::Member, 1), (MemberState::Left, 2), (MemberState::Banned, 3)] {
            let record = MemberRecord { state, to: u64::MAX, ..member };
            assert_eq!(super::super::Kind::value(&record)[1], byte);
            comes_back(record);
        }
        assert_malformed::<MemberRecord>(&[1, 4, 2, 5, 1, 4, 1]);
    }

    proptest! {
        #[test]
        fn any_comes_back(role: u8, from: u64, to: u64, number: u64, at: u64) {
            comes_back(MemberRecord { state: MemberState::Left, role, from, to, number, at });
        }
    }
}
