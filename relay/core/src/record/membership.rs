//! An index of present memberships by user, so that a user's list of conversations is one scan. It is written together with
//! the member record, only by commands of the conversation.
//!
//! Key: slot of the user 2 ‖ length of the user id 1 ‖ user id ‖ conversation 16. Value: role 1.

use quip_protocol::{ConversationId, UserId};

use super::kind::{Kind, Stored, StoredKey, put_user, read_user};
use crate::codec::{Malformed, Reader, Sink};

/// Whose, and which conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MembershipKey(pub UserId, pub ConversationId);

/// A present membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRecord {
    /// `event::role`.
    pub role: u8,
}

impl StoredKey for MembershipKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_user(&self.0, out);
        out.put(&self.1.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_user(from)?, ConversationId(from.array()?)))
    }
}

impl MembershipRecord {
    /// The prefix of the keys of a user's memberships.
    pub fn prefix(user: &UserId) -> Vec<u8> {
        let mut out = vec![Self::NUMBER];
        put_user(user, &mut out);
        out
    }
}

impl Stored for MembershipRecord {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.role);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { role: from.u8()? })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn golden() {
        let key = "0508ff03616e6e03ababababababababababababababab";
        check(MembershipKey(user("ann"), room()), MembershipRecord { role: 3 }, key, "0103");
        assert_eq!(hex(&MembershipRecord::prefix(&user("ann"))), key[..14]);
    }

    #[test]
    fn a_longer_user_id_is_not_in_range() {
        let key = MembershipRecord::key(&MembershipKey(user("annie"), room()));
        assert!(!key.starts_with(&MembershipRecord::prefix(&user("ann"))));
    }

    #[test]
    fn any_comes_back() {
        (0..=u8::MAX).for_each(|role| comes_back(MembershipRecord { role }));
    }
}
