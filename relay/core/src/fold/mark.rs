//! Read marks. They merge to the highest, so they need no send numbers and no outcome.

use quip_protocol::{ConversationId, UserId};

use super::{Effect, Folded, Loaded};
use crate::{
    ConversationRecord, MarkRecord, MemberRecord, MemberState,
    record::{ConversationKey, MarkKey, MemberKey},
};

pub(super) fn mark(id: ConversationId, user: &UserId, seq: u64, number: u64, mut loaded: Loaded) -> Folded {
    let conversation = loaded.take::<ConversationRecord>(ConversationKey(id));
    let member = loaded.take::<MemberRecord>(MemberKey(id, user.clone()));
    let mut mark = loaded.take::<MarkRecord>(MarkKey(user.clone(), id));
    let mut effects = Vec::new();
    if let (Some(conversation), Some(member), false) = (conversation.get(), member.get(), loaded.is_damaged) {
        let old = mark.get().copied().unwrap_or_default();
        let seq = seq.min(conversation.head).min(member.to);
        if seq > old.seq {
            // One who has left learns nothing of what came later.
            let is_member = member.state == MemberState::Member;
            let last = if is_member { conversation.number } else { member.parting.number };
            let new = MarkRecord { seq, number: number.min(last).max(old.number) };
            mark.set(new);
            effects.push(Effect::Marked { user: user.clone(), mark: new });
        }
    }
    let mut folded = Folded { effects, ..Folded::default() };
    conversation.put(&mut folded.writes, &mut folded.unchanged);
    member.put(&mut folded.writes, &mut folded.unchanged);
    mark.put(&mut folded.writes, &mut folded.unchanged);
    folded
}
