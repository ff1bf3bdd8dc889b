//! Read marks: they merge to the highest, so they need no numbers and no outcome.

use quip_protocol::UserId;

use super::{Changed, Effect, Folded, Rows};
use crate::MarkRow;

pub(super) fn mark(user: &UserId, seq: u64, number: u64, mut rows: Rows) -> Folded {
    let mut changed = Changed::default();
    let mut effects = Vec::new();
    if let (Some(conversation), Some(member), false) = (&rows.conversation, &rows.actor, rows.damaged) {
        let old = rows.mark.unwrap_or_default();
        let seq = seq.min(conversation.head).min(member.to);
        if seq > old.seq {
            let mark = MarkRow { seq, number: number.min(conversation.number).max(old.number) };
            rows.mark = Some(mark);
            changed.mark = true;
            effects.push(Effect::Marked { user: user.clone(), mark });
        }
    }
    Folded { rows, changed, event: None, outcome: None, effects }
}
