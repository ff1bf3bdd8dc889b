//! Who is in a conversation, and as what.

use quip_protocol::{Code, Kind, UserId, event, event::role};

use super::step::{Placed, Step, UNSEEN, Verdict};
use crate::{MemberRow, MemberState, Naming};

pub(super) fn leave(step: &mut Step<'_>) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    let alone = step.conversation().members == 1;
    if step.is(Kind::Group) && !alone && is_last_owner(step, &member) {
        return Err(Code::LAST_OWNER);
    }
    let placed = shown(step, event::kind::LEFT, &());
    step.rows.actor = Some(step.end(step.user, member, MemberState::Left, placed));
    step.changed.actor = true;
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
    if is_member(target(step, user)) {
        return UNSEEN;
    }
    if step.conversation().members >= u64::from(step.authority.group_members) {
        return Err(Code::CONVERSATION_FULL);
    }
    let placed = step.append(event::kind::ADDED, &event::Added { user: user.as_str() });
    step.rows.target = Some(step.begin(user, role::MEMBER, placed));
    step.changed.target = true;
    Ok(placed)
}

/// Rooms are joined by oneself: adding only opens the door again.
fn lift_ban(step: &mut Step<'_>, user: &UserId) -> Verdict {
    match target(step, user) {
        Some(row) if row.state == MemberState::Banned => {
            step.rows.target = Some(MemberRow { state: MemberState::Left, at: step.at, ..row });
            step.changed.target = true;
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
    let row = target(step, user);
    if !may_remove(step, &member, row) {
        return Err(Code::FORBIDDEN);
    }
    match row {
        Some(row) if row.state == MemberState::Member => Ok(put_out(step, user, row, ban)),
        row if ban => keep_out(step, row),
        _ => Err(Code::NO_TARGET),
    }
}

/// Owners may remove anyone, admins those below them. One who is no member stands below all.
fn may_remove(step: &Step<'_>, member: &MemberRow, target: Option<MemberRow>) -> bool {
    let standing = target.filter(|row| row.state == MemberState::Member).map_or(0, |row| row.role);
    let outranks = member.role >= role::ADMIN && member.role > standing;
    outranks || member.role == role::OWNER || step.moderates()
}

fn put_out(step: &mut Step<'_>, user: &UserId, row: MemberRow, ban: bool) -> Placed {
    let state = if ban { MemberState::Banned } else { MemberState::Left };
    let placed = shown(step, event::kind::REMOVED, &event::Removed { user: user.as_str(), ban });
    step.rows.target = Some(step.end(user, row, state, placed));
    step.changed.target = true;
    placed
}

/// Bans one who is no member now.
fn keep_out(step: &mut Step<'_>, row: Option<MemberRow>) -> Verdict {
    let banned = match row {
        Some(row) if row.state == MemberState::Banned => return UNSEEN,
        Some(row) => MemberRow { state: MemberState::Banned, at: step.at, ..row },
        None => MemberRow { state: MemberState::Banned, role: role::MEMBER, from: 1, to: 0, number: 0, at: step.at },
    };
    step.rows.target = Some(banned);
    step.changed.target = true;
    UNSEEN
}

pub(super) fn set_role(step: &mut Step<'_>, user: &UserId, role: u8) -> Verdict {
    debug_assert!(role::is_known(role), "only roles that there are");
    let member = step.member()?;
    not_direct(step)?;
    if member.role != role::OWNER {
        return Err(Code::FORBIDDEN);
    }
    let own = user == step.user;
    let row = target(step, user).filter(|row| row.state == MemberState::Member).ok_or(Code::NO_TARGET)?;
    if row.role == role {
        return UNSEEN;
    }
    if is_last_owner(step, &row) {
        return Err(Code::LAST_OWNER);
    }
    let placed = step.append(event::kind::ROLE, &event::RoleChanged { user: user.as_str(), role });
    let conversation = step.change();
    conversation.owners += u64::from(role == role::OWNER);
    conversation.owners -= u64::from(row.role == role::OWNER);
    let (slot, changed) = match own {
        true => (&mut step.rows.actor, &mut step.changed.actor),
        false => (&mut step.rows.target, &mut step.changed.target),
    };
    (*slot, *changed) = (Some(MemberRow { role, ..row }), true);
    Ok(placed)
}

pub(super) fn set_title(step: &mut Step<'_>, title: &str) -> Verdict {
    let member = step.member()?;
    not_direct(step)?;
    if member.role < role::ADMIN && !step.moderates() {
        return Err(Code::FORBIDDEN);
    }
    match &mut step.change().naming {
        Naming::Group(old) | Naming::Room(_, old) => title.clone_into(old),
        Naming::Direct(..) => unreachable!("the naming follows the kind of the id"),
    }
    Ok(step.append(event::kind::TITLE, &event::Titled { title }))
}

/// The membership of the user that the command is about, who may be the actor.
fn target(step: &Step<'_>, user: &UserId) -> Option<MemberRow> {
    if user == step.user { step.rows.actor } else { step.rows.target }
}

fn is_member(row: Option<MemberRow>) -> bool {
    row.is_some_and(|row| row.state == MemberState::Member)
}

fn is_last_owner(step: &Step<'_>, row: &MemberRow) -> bool {
    row.role == role::OWNER && step.conversation().owners == 1
}

fn not_direct(step: &Step<'_>) -> Result<(), Code> {
    if step.is(Kind::Direct) { Err(Code::WRONG_KIND) } else { Ok(()) }
}

/// An event, where coming and going is shown.
fn shown(step: &mut Step<'_>, kind: u64, body: &impl serde::Serialize) -> Placed {
    if step.conversation().policy.joins_shown { step.append(kind, body) } else { Placed::default() }
}
