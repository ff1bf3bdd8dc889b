//! The head of a conversation.
//!
//! Key: slot 2 ‖ conversation 16. Value: varints of `created_at`, `head`, `number`, `first_kept`, `last_at`, `members`,
//! `owners` and `reverted` ‖ policy 1 ‖ naming: kind 1 ‖ two texts ‖ `deleted`: varint of the count ‖ varint of each, as the
//! difference to the one before.

use quip_protocol::{ConversationId, UserId};

use super::kind::{Stored, StoredKey, put_conversation, read_conversation};
use crate::{
    Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// Which conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationKey(pub ConversationId);

/// The head of a conversation. It is kept when all members have left, so that `head` never restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRecord {
    /// When it was created.
    pub created_at: Timestamp,
    /// Seq of the newest event; 0 = none.
    pub head: u64,
    /// Message number: the number of messages, deleted ones too.
    pub number: u64,
    /// The oldest event that is kept; 1 if nothing was trimmed.
    pub first_kept: u64,
    /// Time of the newest event.
    pub last_at: Timestamp,
    /// Number of members.
    pub members: u64,
    /// Number of owners.
    pub owners: u64,
    /// The newest edit that was deleted alone; 0 = none. What shows of a message without a newer edit is not known.
    pub reverted: u64,
    /// Standing policy.
    pub policy: Policy,
    /// Its name.
    pub naming: Naming,
    /// The message numbers of deleted messages, lowest first: the highest [`ConversationRecord::DELETED`] of them. These are
    /// not unread for anybody.
    pub deleted: Vec<u64>,
}

/// The name of a conversation, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// The two users, in byte order (the same twice for a conversation with oneself).
    Direct(UserId, UserId),
    /// A group's title, empty at first.
    Group(String),
    /// A room's name and its title.
    Room(String, String),
}

/// Standing policy of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Members may read events from before they joined.
    pub history_open: bool,
    /// Joins and leaves are events that everyone sees.
    pub joins_shown: bool,
}

impl StoredKey for ConversationKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        read_conversation(from).map(Self)
    }
}

impl ConversationRecord {
    /// Deleted messages whose numbers are known. The record is written with each event, so there are few of them.
    pub const DELETED: usize = 16;

    /// The message with this number was deleted.
    pub(crate) fn delete(&mut self, number: u64) {
        if let Err(place) = self.deleted.binary_search(&number) {
            self.deleted.insert(place, number);
        }
        if self.deleted.len() > Self::DELETED {
            self.deleted.remove(0);
        }
    }
}

impl Stored for ConversationRecord {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { created_at, head, number, first_kept, last_at, members, owners, reverted, .. } = *self;
        for value in [created_at, head, number, first_kept, last_at, members, owners, reverted] {
            out.put_varint(value);
        }
        self.policy.put(out);
        self.naming.put(out);
        out.put_varint(self.deleted.len() as u64);
        let mut before = 0;
        for number in &self.deleted {
            out.put_varint(number - before);
            before = *number;
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            created_at: from.varint()?,
            head: from.varint()?,
            number: from.varint()?,
            first_kept: from.varint()?,
            last_at: from.varint()?,
            members: from.varint()?,
            owners: from.varint()?,
            reverted: from.varint()?,
            policy: Policy::read(from)?,
            naming: Naming::read(from)?,
            deleted: read_deleted(from)?,
        })
    }
}

fn read_deleted(from: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let count = from.varint()?;
    if count > ConversationRecord::DELETED as u64 {
        return Err(Malformed);
    }
    let mut before: u64 = 0;
    let mut number = || {
        before = before.checked_add(from.varint()?).filter(|number| *number > before).ok_or(Malformed)?;
        Ok(before)
    };
    (0..count).map(|_| number()).collect()
}

/// The same numbers as `quip_protocol::Kind`.
const DIRECT: u8 = 1;
const GROUP: u8 = 2;
const ROOM: u8 = 3;

impl Naming {
    /// What a conversation is called for one of its members.
    pub fn shown<'a>(&'a self, user: &UserId) -> &'a str {
        match self {
            Self::Direct(a, b) if a == user => b.as_str(),
            Self::Direct(a, _) => a.as_str(),
            Self::Group(title) => title,
            Self::Room(name, _) => name,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (kind, texts) = match self {
            Self::Direct(a, b) => (DIRECT, [a.as_str(), b.as_str()]),
            Self::Group(title) => (GROUP, [title.as_str(), ""]),
            Self::Room(name, title) => (ROOM, [name.as_str(), title.as_str()]),
        };
        out.put_u8(kind);
        texts.into_iter().for_each(|text| out.put_blob(text.as_bytes()));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            DIRECT => Ok(Self::Direct(from.user()?, from.user()?)),
            GROUP => {
                let title = from.text()?.to_owned();
                if from.blob()?.is_empty() { Ok(Self::Group(title)) } else { Err(Malformed) }
            }
            ROOM => Ok(Self::Room(from.text()?.to_owned(), from.text()?.to_owned())),
            _ => Err(Malformed),
        }
    }
}

impl Policy {
    pub(crate) fn put(self, out: &mut impl Sink) {
        out.put_u8(u8::from(self.history_open) | u8::from(self.joins_shown) << 1);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            bits @ 0..=3 => Ok(Self { history_open: bits & 1 != 0, joins_shown: bits & 2 != 0 }),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::*, *};

    fn conversation(naming: Naming) -> ConversationRecord {
        ConversationRecord {
            created_at: 1_700_000_000_000,
            head: 300,
            number: 200,
            first_kept: 1,
            last_at: 1_700_000_000_001,
            members: 2,
            owners: 1,
            reverted: 299,
            policy: Policy { history_open: true, joins_shown: true },
            naming,
            deleted: vec![7, 200],
        }
    }

    #[test]
    fn golden() {
        let head = ["01", "80d095ffbc31", "ac02", "c801", "01", "81d095ffbc31", "02", "01", "ab02", "03"].concat();
        for (naming, rest) in [
            (Naming::Direct(user("ann"), user("bob")), ["01", "03616e6e", "03626f62"]),
            (Naming::Group("Us".into()), ["02", "025573", "00"]),
            (Naming::Room("a:b".into(), "T".into()), ["03", "03613a62", "0154"]),
        ] {
            let value = head.clone() + &rest.concat() + "0207c101";
            check(ConversationKey(room()), conversation(naming), "010f6703ababababababababababababababab", &value);
        }
    }

    #[test]
    fn the_latest_deletions_are_known() {
        let mut record = ConversationRecord { deleted: Vec::new(), ..conversation(Naming::Group(String::new())) };
        [9, 3, 9, 5].into_iter().for_each(|number| record.delete(number));
        assert_eq!(record.deleted, [3, 5, 9]);
        (10..24).for_each(|number| record.delete(number));
        assert_eq!((record.deleted.len(), record.deleted[0]), (ConversationRecord::DELETED, 5));
        comes_back(record.clone());
        record.delete(2);
        assert_eq!(record.deleted[0], 5, "it is older than the ones that are known");
        let none = super::super::Kind::value(&ConversationRecord { deleted: Vec::new(), ..record });
        let head = &none[..none.len() - 1];
        // Zero is no number, more than the limit, fewer than are said.
        for rest in [&[1, 0][..], &[17], &[2, 1]] {
            assert_malformed::<ConversationRecord>(&[head, rest].concat());
        }
    }

    proptest! {
        #[test]
        fn any_comes_back(title in ".{0,40}", head: u64, members: u64, history_open: bool, joins_shown: bool) {
            let policy = Policy { history_open, joins_shown };
            let naming = Naming::Room("a:b".into(), title);
            let record = ConversationRecord { head, members, policy, ..conversation(naming) };
            comes_back(record);
        }
    }
}
