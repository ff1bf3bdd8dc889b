//! Who is in a conversation, and in which conversations one is.

use std::ops::Bound;

use quip_core::{
    ConversationRecord, Kind as _, MarkRecord, MemberRecord, MemberState,
    record::{ConversationKey, MarkKey, MemberKey, MembershipKey, MembershipRecord, behind},
};
use quip_protocol::{ConversationId, UserId};

use crate::{List, Listed, Members, ReadError, engine::Snapshot, read::get, store::Inner};

/// How many records a page of members looks at, for each that it may hold: former members are passed over.
const LOOKS: usize = 4;

pub(crate) fn members(
    inner: &Inner,
    id: ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Members, ReadError> {
    let prefix = MemberRecord::prefix(id);
    let first = after.map_or(prefix.clone(), |user| MemberRecord::key(&MemberKey(id, user.clone())));
    let end = behind(&prefix);
    let rows = inner.snapshot()?;
    let mut page = Members::default();
    let mut last = None;
    for (looked, row) in rows.range(Bound::Excluded(&first), Bound::Excluded(&end)).enumerate() {
        let (key, value) = row.map_err(|error| ReadError::engine(MemberRecord::NAME, &first, error))?;
        if page.members.len() == limit || looked == limit * LOOKS {
            page.next = last;
            break;
        }
        let damaged = |why: String| ReadError::damaged(MemberRecord::NAME, &key, why);
        let MemberKey(_, user) =
            MemberRecord::read_key(&key).ok_or_else(|| damaged("the key names no member".to_owned()))?;
        let member = MemberRecord::decode(&value).map_err(|error| damaged(error.to_string()))?;
        if member.state == MemberState::Member {
            page.members.push((user.clone(), member));
        }
        last = Some(user);
    }
    Ok(page)
}

pub(crate) fn list(
    inner: &Inner,
    user: &UserId,
    after: Option<ConversationId>,
    limit: usize,
) -> Result<List, ReadError> {
    let prefix = MembershipRecord::prefix(user);
    let first = after.map_or(prefix.clone(), |id| MembershipRecord::key(&MembershipKey(user.clone(), id)));
    let end = behind(&prefix);
    let rows = inner.snapshot()?;
    let mut page = List::default();
    for row in rows.range(Bound::Excluded(&first), Bound::Excluded(&end)) {
        let (key, _) = row.map_err(|error| ReadError::engine(MembershipRecord::NAME, &first, error))?;
        if page.entries.len() == limit {
            page.next = page.entries.last().map(|entry| entry.id);
            break;
        }
        let damaged = |why: &str| ReadError::damaged(MembershipRecord::NAME, &key, why);
        let MembershipKey(_, id) =
            MembershipRecord::read_key(&key).ok_or_else(|| damaged("the key names no conversation"))?;
        let entry = listed(&rows, user, id)?;
        page.entries.push(entry.ok_or_else(|| damaged("there is no such membership"))?);
    }
    Ok(page)
}

fn listed(rows: &Snapshot, user: &UserId, id: ConversationId) -> Result<Option<Listed>, ReadError> {
    let conversation = get::<ConversationRecord>(rows, ConversationKey(id))?;
    let member = get::<MemberRecord>(rows, MemberKey(id, user.clone()))?;
    let mark = get::<MarkRecord>(rows, MarkKey(user.clone(), id))?.unwrap_or_default();
    Ok(conversation.zip(member).map(|(conversation, member)| Listed { id, conversation, member, mark }))
}
