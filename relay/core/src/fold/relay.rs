//! Commands of a relay: policy, trimming, forgetting and last-seen times. They have no outcome.

use quip_protocol::{ConversationId, UserId};

use super::{Effect, Folded, Loaded};
use crate::{
    Action, ConversationRecord, Naming, SendsRecord, Timestamp, UserRecord,
    record::{ConversationKey, SendsKey, UserKey},
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

/// The changed conversation, if it changed, and the effects.
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

/// A device that was used meanwhile is not forgotten.
pub(super) fn forget(key: SendsKey, before: Timestamp, mut loaded: Loaded) -> Folded {
    let mut folded = Folded::default();
    let mut sends = loaded.take::<SendsRecord>(key);
    if sends.get().is_some_and(|sends| sends.last_used() < before) {
        *sends.change() = None;
    }
    sends.put(&mut folded.writes, &mut folded.unchanged);
    folded
}

/// Times up to `now` merge to the highest, so order and repetition do not matter. A stored time later than `now` is a wrong
/// clock's, and is replaced. The effect is reported even if nothing changed, so that the submitting relay stops retrying.
pub(super) fn seen(user: &UserId, heard: Timestamp, now: Timestamp, mut loaded: Loaded) -> Folded {
    let mut folded = Folded::default();
    let mut held = loaded.take::<UserRecord>(UserKey(user.clone()));
    if !loaded.is_damaged {
        let old = held.get().copied().unwrap_or_default().seen;
        let known = if old > now { 0 } else { old };
        let seen = heard.min(now).max(known);
        if seen != old {
            held.set(UserRecord { seen });
        }
        folded.effects.push(Effect::Seen { user: user.clone(), at: seen });
    }
    held.put(&mut folded.writes, &mut folded.unchanged);
    folded
}
