//! What only a relay does: standing policy and trimming. Nobody waits for an outcome.

use super::{Changed, Folded, Rows};
use crate::{Action, ConversationRow, Naming};

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
