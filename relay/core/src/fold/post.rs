//! Messages, edits, deletions and reactions.

use quip_protocol::{Blob, Code, Kind, event, event::kind, limit};

use super::{
    Effect,
    event::Target,
    hash,
    loaded::Held,
    step::{Step, UNSEEN, Verdict},
};
use crate::{Naming, Origin, ReactionsRecord};

pub(super) fn post(step: &mut Step<'_>, kind: u64, body: &[u8]) -> Verdict {
    debug_assert!(kind::counts(kind), "only text and data are posted");
    step.member()?;
    may_write(step)?;
    let placed = step.append_raw(kind, body);
    step.read_own(placed);
    touch(step);
    Ok(placed)
}

/// The original event does not change; clients show the newest content in its place. The edits record lists the edit.
pub(super) fn edit(step: &mut Step<'_>, target: u64, body: &[u8]) -> Verdict {
    let member = step.member()?;
    may_write(step)?;
    let found = Target::message(step, member, target)?;
    if !found.is_by(step.user) {
        return Err(Code::FORBIDDEN);
    }
    if found.kind == kind::TEXT && std::str::from_utf8(body).is_err() {
        return Err(Code::NOT_TEXT);
    }
    if shows(step, &found, body) {
        return UNSEEN;
    }
    if noted(step) >= limit::EDITS {
        return Err(Code::TOO_MANY_EDITS);
    }
    let placed = step.append(kind::EDITED, &event::Edited { target, body: Blob(body) });
    let edit = Origin { seq: placed.seq, number: placed.number, at: step.at, device: step.device, n: step.n };
    if let Some(edits) = &mut step.edits {
        let record = edits.change().get_or_insert_default();
        record.edits.push(edit);
        record.content = hash::content(body);
    }
    Ok(placed)
}

/// The only place where stored events change: the message and all its edits become tombstones. An edit can be deleted alone.
/// It stays in the edits record, which the command does not name, and is replaced again when its message is deleted.
pub(super) fn delete(step: &mut Step<'_>, target: u64) -> Verdict {
    let member = step.member()?;
    let found = Target::content(step, member, target)?;
    if !(found.is_by(step.user) || member.role >= event::role::ADMIN || step.moderates()) {
        return Err(Code::FORBIDDEN);
    }
    let placed = step.append(kind::DELETED, &event::Deleted { target });
    if kind::counts(found.kind) {
        step.change().delete(found.number());
    }
    let edits = if noted(step) > 0 { step.edits.as_mut().and_then(|edits| edits.change().take()) } else { None };
    if let Some(reactions) = step.reactions.as_mut().filter(|reactions| reactions.get().is_some()) {
        *reactions.change() = None;
    }
    if found.kind == kind::EDITED {
        let conversation = step.change();
        conversation.reverted = conversation.reverted.max(target);
    }
    let tombstones = found.tombstones(edits.as_ref().map_or(&[], |record| &record.edits), placed.seq);
    step.effects.extend(tombstones.map(|(seq, record)| Effect::Rewritten { seq, record }));
    Ok(placed)
}

pub(super) fn react(step: &mut Step<'_>, target: u64, add: bool, reaction: &str) -> Verdict {
    let member = step.member()?;
    Target::message(step, member, target)?;
    let hash = hash::reaction(step.user, reaction);
    if let Some(reactions) = step.reactions.as_mut().filter(|held| !held.get().is_some_and(ReactionsRecord::is_full)) {
        if reactions.get().is_some_and(|record| record.has(hash)) == add {
            return UNSEEN;
        }
        let record = reactions.change();
        record.get_or_insert_default().set(hash, add);
        record.take_if(|record| record.hashes.is_empty());
    }
    Ok(step.append(kind::REACTED, &event::Reacted { target, add, reaction }))
}

/// Whether clients show this content of the message. False when that is not known: its newest edit, or another as new, was
/// deleted alone.
fn shows(step: &Step<'_>, message: &Target, body: &[u8]) -> bool {
    let Some(record) = step.edits.as_ref().and_then(Held::get) else { return message.body == body };
    let reverted = step.conversation().reverted;
    record.edits.last().is_some_and(|newest| newest.seq > reverted) && record.content == hash::content(body)
}

/// The number of edits in the record.
fn noted(step: &Step<'_>) -> usize {
    step.edits.as_ref().and_then(Held::get).map_or(0, |record| record.edits.len())
}

/// In rooms, posting and editing need a grant.
fn may_write(step: &Step<'_>) -> Result<(), Code> {
    if step.is(Kind::Room) && !step.authority.post { Err(Code::FORBIDDEN) } else { Ok(()) }
}

fn touch(step: &mut Step<'_>) {
    let Naming::Direct(a, b) = &step.conversation().naming else { return };
    let (a, b) = (a.clone(), b.clone());
    if a != b {
        step.effects.push(Effect::Touched { user: b.clone(), other: a.clone() });
    }
    step.effects.push(Effect::Touched { user: a, other: b });
}
