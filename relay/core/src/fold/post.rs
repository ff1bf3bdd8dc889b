//! Messages, and what is done to them later.

use quip_protocol::{Blob, Code, Kind, event};

use super::{
    Effect,
    event::Target,
    step::{Step, Verdict},
};
use crate::Naming;

pub(super) fn post(step: &mut Step<'_>, kind: u64, body: &[u8]) -> Verdict {
    debug_assert!(event::kind::counts(kind), "only text and data are posted");
    step.member()?;
    may_write(step)?;
    let placed = step.append_raw(kind, body);
    touch(step);
    Ok(placed)
}

/// The original stays as it is: whoever shows it puts the later content in its place.
pub(super) fn edit(step: &mut Step<'_>, target: u64, body: &[u8]) -> Verdict {
    let member = step.member()?;
    may_write(step)?;
    if !Target::find(step, &member, target)?.is_by(step.user) {
        return Err(Code::FORBIDDEN);
    }
    Ok(step.append(event::kind::EDITED, &event::Edited { target, body: Blob(body) }))
}

/// The one place where a stored event changes.
pub(super) fn delete(step: &mut Step<'_>, target: u64) -> Verdict {
    let member = step.member()?;
    let found = Target::find(step, &member, target)?;
    if !(found.is_by(step.user) || member.role >= event::role::ADMIN || step.moderates()) {
        return Err(Code::FORBIDDEN);
    }
    let placed = step.append(event::kind::DELETED, &event::Deleted { target });
    let frame = found.tombstone(placed.seq);
    if let Some(row) = &mut step.rows.event {
        row.frame = frame.clone();
        step.changed.event = true;
    }
    step.effects.push(Effect::Rewritten { seq: target, frame });
    Ok(placed)
}

pub(super) fn react(step: &mut Step<'_>, target: u64, add: bool, reaction: &str) -> Verdict {
    let member = step.member()?;
    Target::find(step, &member, target)?;
    Ok(step.append(event::kind::REACTED, &event::Reacted { target, add, reaction }))
}

/// In rooms it takes a grant to write; an edit is writing too.
fn may_write(step: &Step<'_>) -> Result<(), Code> {
    if step.is(Kind::Room) && !step.authority.post { Err(Code::FORBIDDEN) } else { Ok(()) }
}

fn touch(step: &mut Step<'_>) {
    let Naming::Direct(a, b) = &step.conversation().naming else { return };
    let (a, b) = (a.clone(), b.clone());
    if a != b {
        step.effects.push(Effect::Touched { user: b });
    }
    step.effects.push(Effect::Touched { user: a });
}
