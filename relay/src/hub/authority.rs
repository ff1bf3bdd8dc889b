//! What a user may do and read in a conversation. Decided here and nowhere else.
//!
//! [`Rights::authority`] combines the token's grants with the configuration, and [`may_read`] combines the result with
//! the membership. Opening, refreshing a token, history, members, presence and commands all use these two.

use std::sync::Arc;

use quip_core::{Authority, MemberRecord, MemberState, Naming, Policy};
use quip_protocol::{Code, ConversationId, Kind, RoomName, UserId};

use crate::{
    auth::{Identity, Permission},
    config::{Config, HistoryPolicy, Namespaces},
};

/// The part of the configuration that decides what users may do.
#[derive(Debug)]
pub(super) struct Rules {
    namespaces: Namespaces,
    group_members: u32,
}

/// What one client's token allows under the rules. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    identity: Arc<Identity>,
    rules: Arc<Rules>,
}

/// Where a user stands in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    /// Was never a member, or may see nothing.
    Never,
    /// Was a member, and may see what there was until the membership ended.
    Former,
    /// Is a member.
    Present,
}

impl Rules {
    /// Takes them from the configuration.
    pub(super) fn new(config: &Config) -> Self {
        Self { namespaces: config.namespaces.clone(), group_members: config.limits.group_members as u32 }
    }
}

impl Rights {
    /// What the token of `identity` allows.
    pub(super) fn new(identity: Identity, rules: &Arc<Rules>) -> Self {
        Self { identity: Arc::new(identity), rules: Arc::clone(rules) }
    }

    /// Whose token it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The user.
    pub(super) fn user(&self) -> &UserId {
        &self.identity.user
    }

    /// What the user may do in a conversation. `None` for a room whose name is not known yet: grants are about names,
    /// so nothing is decided.
    pub(super) fn authority(&self, id: ConversationId, room: Option<&str>) -> Option<Authority> {
        let group_members = self.rules.group_members;
        if id.kind() != Some(Kind::Room) {
            // The members of direct conversations and groups decide, not the token.
            let all = Authority { join: true, post: true, create: true, add: true, ..Authority::default() };
            return Some(Authority { group_members, ..all });
        }
        let room = &RoomName::parse(room?).ok()?;
        let allows = |permission| self.identity.grants.allows(permission, room);
        let policy = self.rules.namespaces.policy(room);
        Some(Authority {
            join: allows(Permission::Join),
            post: allows(Permission::Post),
            create: allows(Permission::Create),
            moderate: allows(Permission::Moderate),
            add: true,
            policy: Policy { history_open: policy.history == HistoryPolicy::All, joins_shown: policy.joins_shown },
            group_members,
        })
    }
}

impl Membership {
    /// What a membership's row says.
    pub(super) fn of(row: Option<&MemberRecord>) -> Self {
        match row {
            Some(row) if row.to == 0 => Self::Never,
            Some(row) if row.state == MemberState::Member => Self::Present,
            Some(_) => Self::Former,
            None => Self::Never,
        }
    }
}

/// The name of a room, where a conversation is one.
pub(super) fn room_name(naming: &Naming) -> Option<&str> {
    match naming {
        Naming::Room(name, _) => Some(name),
        Naming::Direct(..) | Naming::Group(_) => None,
    }
}

/// Whether somebody may read what they can see of a conversation.
///
/// # Errors
/// The code of the refusal. To one who was never there, it is as if there were no such conversation.
pub(super) fn may_read(authority: &Authority, membership: Membership) -> Result<(), Code> {
    match membership {
        Membership::Never => Err(Code::NOT_FOUND),
        _ if !authority.join => Err(Code::FORBIDDEN),
        Membership::Former | Membership::Present => Ok(()),
    }
}

/// Whether somebody may see who the members are. What was said stays readable after leaving, who is there does not.
///
/// # Errors
/// The code of the refusal.
pub(super) fn may_see_members(authority: &Authority, membership: Membership) -> Result<(), Code> {
    may_read(authority, membership)?;
    if membership == Membership::Present { Ok(()) } else { Err(Code::NOT_A_MEMBER) }
}

#[cfg(test)]
mod tests {
    use quip_core::Parting;

    use super::*;
    use crate::auth::Grants;

    fn rights(grants: Grants) -> Rights {
        let rules = Arc::new(Rules::new(&Config::development(None, None)));
        Rights::new(Identity { user: UserId::parse("ann").unwrap(), expires_at: None, grants }, &rules)
    }

    fn room() -> ConversationId {
        ConversationId::room(&RoomName::parse("lobby:main").unwrap())
    }

    fn member(state: MemberState, to: u64) -> MemberRecord {
        let (parting, earlier) = (Parting::default(), Vec::new());
        MemberRecord { state, role: 1, from: 1, to, number: 0, at: 0, parting, earlier }
    }

    #[test]
    fn a_token_decides_about_rooms_once_their_name_is_known() {
        let (all, nothing) = (rights(Grants::everything()), rights(Grants::default()));
        assert_eq!(all.authority(room(), None), None);
        let authority = |rights: &Rights| rights.authority(room(), Some("lobby:main")).unwrap();
        let may = |authority: Authority| [authority.join, authority.post, authority.create, authority.moderate];
        assert_eq!(may(authority(&all)), [true; 4]);
        assert_eq!(may(authority(&nothing)), [false; 4]);
        assert!(authority(&all).policy.history_open, "the policy of the namespace comes with it");
    }

    #[test]
    fn members_decide_about_groups_and_direct_conversations() {
        let nothing = rights(Grants::default());
        for id in [ConversationId::group([1; 15]), ConversationId::direct(nothing.user(), nothing.user())] {
            let authority = nothing.authority(id, None).unwrap();
            assert!(authority.join && authority.post && authority.create && !authority.moderate);
            assert_eq!(may_read(&authority, Membership::Former), Ok(()));
        }
    }

    #[test]
    fn reading_takes_a_membership_and_in_a_room_the_grant() {
        use MemberState::{Left, Member};
        let (not_found, forbidden, no_member) = (Code::NOT_FOUND, Code::FORBIDDEN, Code::NOT_A_MEMBER);
        for (grants, row, reads, sees_members) in [
            (Grants::everything(), None, Err(not_found), Err(not_found)),
            (Grants::everything(), Some(member(Left, 0)), Err(not_found), Err(not_found)),
            (Grants::everything(), Some(member(Left, 9)), Ok(()), Err(no_member)),
            (Grants::everything(), Some(member(Member, u64::MAX)), Ok(()), Ok(())),
            (Grants::default(), None, Err(not_found), Err(not_found)),
            (Grants::default(), Some(member(Left, 9)), Err(forbidden), Err(forbidden)),
            (Grants::default(), Some(member(Member, u64::MAX)), Err(forbidden), Err(forbidden)),
        ] {
            let authority = rights(grants).authority(room(), Some("lobby:main")).unwrap();
            let membership = Membership::of(row.as_ref());
            assert_eq!(may_read(&authority, membership), reads, "{row:?}");
            assert_eq!(may_see_members(&authority, membership), sees_members, "{row:?}");
        }
    }
}
