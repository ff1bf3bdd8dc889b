//! What only a relay does: standing policy, trimming, and who was seen when. Nobody waits for an outcome.

use quip_protocol::{ConversationId, UserId};

use super::{Effect, Folded, Loaded};
use crate::{
    Action, ConversationRecord, Naming, Timestamp, UserRecord,
    record::{ConversationKey, UserKey},
};

pub(super) fn fold(id: ConversationId, action: &Action, mut loaded: Loaded) -> Folded {
    let mut folded = Folded::default();
    let mut conversation = loaded.take::<ConversationRecord>(ConversationKey(id));
    if let Some((changed, effect)) = conversation.get().and_then(|old| change(old, action)) {
        conversation.set(changed);
        folded.effects.extend(effect);
    }
    conversation.put(&mut folded.writes, &mut folded.unchanged);
    folded
}

/// The conversation afterwards, if anything changed, and what follows.
fn change(old: &ConversationRecord, action: &Action) -> Option<(ConversationRecord, Option<Effect>)> {
    match action {
        Action::SetPolicy { policy } if matches!(old.naming, Naming::Room(..)) && old.policy != *policy => {
            Some((ConversationRecord { policy: *policy, ..old.clone() }, None))
        }
        Action::Trim { first_kept } => {
            let until = (*first_kept).min(old.head + 1);
            let trimmed = Effect::Trimmed { from: old.first_kept, until };
            let changed = || ConversationRecord { first_kept: until, ..old.clone() };
            (until > old.first_kept).then(|| (changed(), Some(trimmed)))
        }
        _ => None,
    }
}

/// Times merge to the highest, in whatever order and however often they come. The relay that submitted learns what is
/// stored even if nothing changed, so that it can stop asking.
pub(super) fn seen(user: &UserId, at: Timestamp, mut loaded: Loaded) -> Folded {
    let mut folded = Folded::default();
    let mut held = loaded.take::<UserRecord>(UserKey(user.clone()));
    if !loaded.is_damaged {
        let old = held.get().copied().unwrap_or_default();
        if at > old.seen {
            held.set(UserRecord { seen: at });
        }
        folded.effects.push(Effect::Seen { user: user.clone(), at: old.seen.max(at) });
    }
    held.put(&mut folded.writes, &mut folded.unchanged);
    folded
}
