//! Joining, and creating conversations by joining.

use quip_protocol::{Code, ConversationId, Kind, RoomName, UserId, event};

use super::step::{Placed, Step, UNSEEN, Verdict};
use crate::{ConversationRecord, JoinAs, MemberState, Naming, Policy};

/// Members of a group see only the history since they joined, and who joins and leaves.
const GROUP: Policy = Policy { history_open: false, joins_shown: true };
/// Both users are members from the start, so neither joins or leaves.
const DIRECT: Policy = Policy { history_open: true, joins_shown: false };

pub(super) fn join(step: &mut Step<'_>, how: &JoinAs) -> Verdict {
    if !is_of(step, how) {
        return Err(Code::NOT_FOUND);
    }
    match step.member() {
        Ok(_) => return UNSEEN,
        Err(Code::BANNED) => return Err(Code::BANNED),
        Err(_) => {}
    }
    match how {
        JoinAs::Existing if step.is(Kind::Room) => existing_room(step),
        JoinAs::Room(name) => room(step, name),
        JoinAs::NewGroup if !step.exists() => new_group(step),
        JoinAs::Direct(peer) if !step.exists() => new_direct(step, peer),
        // Users join a group by being added. They cannot rejoin by themselves.
        JoinAs::Existing | JoinAs::NewGroup | JoinAs::Direct(_) => Err(Code::NOT_FOUND),
    }
}

/// Whether the id belongs to what the join names.
fn is_of(step: &Step<'_>, how: &JoinAs) -> bool {
    match how {
        JoinAs::Existing => step.id.kind().is_some(),
        JoinAs::Direct(peer) => step.id == ConversationId::direct(step.user, peer),
        JoinAs::Room(name) => RoomName::parse(name).is_ok_and(|name| step.id == ConversationId::room(&name)),
        JoinAs::NewGroup => step.is(Kind::Group),
    }
}

/// Joins by id. A user who never was a member and may not join gets `NOT_FOUND`.
fn existing_room(step: &mut Step<'_>) -> Verdict {
    match (step.exists(), step.authority.join) {
        (true, true) => Ok(enter_room(step)),
        (true, false) if step.actor().is_some() => Err(Code::FORBIDDEN),
        _ => Err(Code::NOT_FOUND),
    }
}

/// Joins by name, to which the grants apply.
fn room(step: &mut Step<'_>, name: &str) -> Verdict {
    let authority = step.authority;
    if !authority.join {
        return Err(Code::FORBIDDEN);
    }
    if !step.exists() {
        if !authority.create {
            return Err(Code::NOT_FOUND);
        }
        create(step, authority.policy, Naming::Room(name.to_owned(), String::new()));
    }
    Ok(enter_room(step))
}

/// A room that has no owner, because it is new or all its members have left, is owned by the next to come who might create it.
fn enter_room(step: &mut Step<'_>) -> Placed {
    let owns = step.conversation().owners == 0 && step.authority.create;
    enter(step, if owns { event::role::OWNER } else { event::role::MEMBER })
}

fn new_group(step: &mut Step<'_>) -> Verdict {
    create(step, GROUP, Naming::Group(String::new()));
    Ok(enter(step, event::role::OWNER))
}

fn new_direct(step: &mut Step<'_>, peer: &UserId) -> Verdict {
    let user = step.user;
    let (first, second) = if user <= peer { (user, peer) } else { (peer, user) };
    create(step, DIRECT, Naming::Direct(first.clone(), second.clone()));
    let placed = enter(step, event::role::MEMBER);
    if peer != user {
        step.begin(peer, event::role::MEMBER, placed);
    }
    Ok(placed)
}

fn create(step: &mut Step<'_>, policy: Policy, naming: Naming) {
    step.create(ConversationRecord {
        created_at: step.at,
        head: 0,
        number: 0,
        first_kept: 1,
        last_at: step.at,
        members: 0,
        owners: 0,
        reverted: 0,
        policy,
        naming,
        deleted: Vec::new(),
    });
}

/// The acting user becomes a member.
fn enter(step: &mut Step<'_>, role: u8) -> Placed {
    debug_assert!(step.actor().is_none_or(|member| member.state == MemberState::Left), "not a member, not banned");
    let shown = step.conversation().policy.joins_shown;
    let placed = if shown { step.append_raw(event::kind::JOINED, &[]) } else { Placed::default() };
    step.begin(step.user, role, placed);
    placed
}
