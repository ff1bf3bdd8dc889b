//! Members and their roles.

use quip_protocol::{Code, Kind, UserId, event, event::role};

use super::step::{Placed, Step, UNSEEN, Verdict};
use crate::{MemberRecord, MemberState, Naming};

pub(super) fn leave(step: &mut Step<'_>) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    let alone = step.conversation().members == 1;
    if !alone && is_last_owner(step, member) {
        return Err(Code::LAST_OWNER);
    }
    let placed = shown(step, event::kind::LEFT, &());
    step.end(step.user, MemberState::Left, placed);
    Ok(placed)
}

pub(super) fn add(step: &mut Step<'_>, user: &UserId) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    if member.role < role::ADMIN && !step.moderates() {
        return Err(Code::FORBIDDEN);
    }
    if step.is(Kind::Room) { lift_ban(step, user) } else { add_to_group(step, user) }
}

fn add_to_group(step: &mut Step<'_>, user: &UserId) -> Verdict {
    if is_member(step.membership(user)) {
        return UNSEEN;
    }
    if step.conversation().members >= u64::from(step.authority.group_members) {
        return Err(Code::CONVERSATION_FULL);
    }
    if !step.authority.add {
        return Err(Code::ADDED_TOO_OFTEN);
    }
    let placed = step.append(event::kind::ADDED, &event::Added { user: user.as_str() });
    step.begin(user, role::MEMBER, placed);
    Ok(placed)
}

/// In a room, adding a user only lifts a ban; users join rooms by themselves.
fn lift_ban(step: &mut Step<'_>, user: &UserId) -> Verdict {
    match step.membership(user).cloned() {
        Some(member) if member.state == MemberState::Banned => {
            step.set_membership(user, MemberRecord { state: MemberState::Left, at: step.at, ..member });
            UNSEEN
        }
        _ => Err(Code::NO_TARGET),
    }
}

pub(super) fn remove(step: &mut Step<'_>, user: &UserId, ban: bool) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    if user == step.user {
        return Err(Code::WRONG_KIND);
    }
    if !may_remove(step, member, step.membership(user)) {
        return Err(Code::FORBIDDEN);
    }
    match step.membership(user) {
        member if is_member(member) => Ok(put_out(step, user, ban)),
        _ if ban => keep_out(step, user),
        _ => Err(Code::NO_TARGET),
    }
}

/// Owners may remove anyone, admins anyone with a lower role. A user who is not a member ranks below all roles.
fn may_remove(step: &Step<'_>, member: &MemberRecord, target: Option<&MemberRecord>) -> bool {
    let standing = target.filter(|member| member.state == MemberState::Member).map_or(0, |member| member.role);
    let outranks = member.role >= role::ADMIN && member.role > standing;
    outranks || member.role == role::OWNER || step.moderates()
}

/// A moderator who puts the last owner out becomes the owner, so that there always is one.
fn put_out(step: &mut Step<'_>, user: &UserId, ban: bool) -> Placed {
    let state = if ban { MemberState::Banned } else { MemberState::Left };
    let was_last_owner = step.membership(user).is_some_and(|member| is_last_owner(step, member));
    let placed = shown(step, event::kind::REMOVED, &event::Removed { user: user.as_str(), ban });
    step.end(user, state, placed);
    if was_last_owner {
        give_role(step, step.user, role::OWNER);
    }
    placed
}

/// Bans a user who is not a member.
fn keep_out(step: &mut Step<'_>, user: &UserId) -> Verdict {
    let banned = match step.membership(user).cloned() {
        Some(member) if member.state == MemberState::Banned => return UNSEEN,
        Some(member) => MemberRecord { state: MemberState::Banned, at: step.at, ..member },
        None => MemberRecord::never(MemberState::Banned, step.at),
    };
    step.set_membership(user, banned);
    UNSEEN
}

pub(super) fn set_role(step: &mut Step<'_>, user: &UserId, role: u8) -> Verdict {
    debug_assert!(role::is_known(role), "only roles that there are");
    let member = step.member()?;
    not_direct(step)?;
    if member.role != role::OWNER {
        return Err(Code::FORBIDDEN);
    }
    let target = step.membership(user).filter(|target| is_member(Some(target))).ok_or(Code::NO_TARGET)?;
    if target.role == role {
        return UNSEEN;
    }
    if is_last_owner(step, target) {
        return Err(Code::LAST_OWNER);
    }
    let placed = step.append(event::kind::ROLE, &event::RoleChanged { user: user.as_str(), role });
    give_role(step, user, role);
    Ok(placed)
}

/// A present member has another role from now on.
fn give_role(step: &mut Step<'_>, user: &UserId, role: u8) {
    let Some(member) = step.membership(user).cloned() else { return };
    let conversation = step.change();
    conversation.owners += u64::from(role == role::OWNER);
    conversation.owners -= u64::from(member.role == role::OWNER);
    step.set_membership(user, MemberRecord { role, ..member });
}

pub(super) fn set_title(step: &mut Step<'_>, title: &str) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    if member.role < role::ADMIN && !step.moderates() {
        return Err(Code::FORBIDDEN);
    }
    if let Naming::Group(old) | Naming::Room(_, old) = &step.conversation().naming
        && old == title
    {
        return UNSEEN;
    }
    match &mut step.change().naming {
        Naming::Group(old) | Naming::Room(_, old) => title.clone_into(old),
        Naming::Direct(..) => unreachable!("the naming follows the kind of the id"),
    }
    Ok(step.append(event::kind::TITLE, &event::Titled { title }))
}

fn is_member(member: Option<&MemberRecord>) -> bool {
    member.is_some_and(|member| member.state == MemberState::Member)
}

fn is_last_owner(step: &Step<'_>, member: &MemberRecord) -> bool {
    member.role == role::OWNER && step.conversation().owners == 1
}

fn not_direct(step: &Step<'_>) -> Result<(), Code> {
    if step.is(Kind::Direct) { Err(Code::WRONG_KIND) } else { Ok(()) }
}

/// Appends an event if the policy shows joins and leaves.
fn shown(step: &mut Step<'_>, kind: u64, body: &impl serde::Serialize) -> Placed {
    if step.conversation().policy.joins_shown { step.append(kind, body) } else { Placed::default() }
}
