//! Read marks. They merge to the highest, so they need no send numbers and no outcome.

use quip_protocol::{ConversationId, UserId};

use super::{Effect, Folded, Loaded};
use crate::{
    ConversationRecord, MarkRecord, MemberRecord,
    record::{ConversationKey, MarkKey, MemberKey},
};

pub(super) fn mark(id: ConversationId, user: &UserId, seq: u64, number: u64, mut loaded: Loaded) -> Folded {
    let conversation = loaded.take::<ConversationRecord>(ConversationKey(id));
    let member = loaded.take::<MemberRecord>(MemberKey(id, user.clone()));
    let mut mark = loaded.take::<MarkRecord>(MarkKey(user.clone(), id));
    let mut effects = Vec::new();
    if let (Some(conversation), Some(member), false) = (conversation.get(), member.get(), loaded.is_damaged) {
        let seq = seq.min(conversation.head).min(member.to);
        if seq > mark.get().map_or(0, |old| old.seq) {
            // One who has left learns nothing of what came later.
            let number = number.min(member.last_number(conversation));
            let mark = mark.change().get_or_insert_default();
            mark.advance(seq, number);
            let number = mark.read_number(conversation, member);
            effects.push(Effect::Marked { user: user.clone(), seq, number });
        }
    }
    let mut folded = Folded { effects, ..Folded::default() };
    conversation.put(&mut folded.writes, &mut folded.unchanged);
    member.put(&mut folded.writes, &mut folded.unchanged);
    mark.put(&mut folded.writes, &mut folded.unchanged);
    folded
}
