//! What only a relay does: standing policy, trimming, and who was seen when. Nobody waits for an outcome.

use quip_protocol::UserId;

use super::{Changed, Effect, Folded, Rows};
use crate::{Action, ConversationRow, Naming, Timestamp, UserRow};

pub(super) fn fold(action: &Action, mut rows: Rows) -> Folded {
    let mut changed = Changed::default();
    if let Some(conversation) = &mut rows.conversation {
        changed.conversation = change(conversation, action);
    }
    Folded { rows, changed, event: None, outcome: None, effects: Vec::new() }
}

/// Whether anything changed.
fn change(conversation: &mut ConversationRow, action: &Action) -> bool {
    match action {
        Action::SetPolicy { policy } if matches!(conversation.naming, Naming::Room(..)) => {
            std::mem::replace(&mut conversation.policy, *policy) != *policy
        }
        Action::Trim { first_kept } => {
            let kept = (*first_kept).min(conversation.head + 1).max(conversation.first_kept);
            std::mem::replace(&mut conversation.first_kept, kept) != kept
        }
        _ => false,
    }
}

/// Times merge to the highest, in whatever order and however often they come. The relay that submitted learns what is
/// stored even if nothing changed, so that it can stop asking.
pub(super) fn seen(user: &UserId, at: Timestamp, mut rows: Rows) -> Folded {
    let old = rows.user.unwrap_or_default();
    let new = UserRow { seen: old.seen.max(at) };
    let changed = Changed { user: new != old && !rows.damaged, ..Changed::default() };
    let mut effects = Vec::new();
    if changed.user {
        rows.user = Some(new);
    }
    if !rows.damaged {
        effects.push(Effect::Seen { user: user.clone(), at: new.seen });
    }
    Folded { rows, changed, event: None, outcome: None, effects }
}
