//! Who is in a conversation, and in which conversations one is.

use std::ops::Bound;

use fjall::Snapshot;
use quip_core::{ConversationRow, MarkRow, MemberRow, MemberState};
use quip_protocol::{ConversationId, UserId};

use crate::{List, Listed, Members, ReadError, keys, store::Inner};

/// How many records a page of members looks at, for each that it may hold: former members are passed over.
const LOOKS: usize = 4;

pub(crate) fn members(
    inner: &Inner,
    id: ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Members, ReadError> {
    let space = &inner.spaces.members;
    let prefix = keys::member::prefix(id);
    let first = after.map_or(prefix.to_vec(), |user| keys::member::encode(id, user));
    let end = keys::behind(&prefix);
    let mut page = Members::default();
    let mut last = None;
    for (looked, record) in
        space.range(&inner.published(), &first, (Bound::Excluded(&first[..]), Bound::Excluded(&end[..]))).enumerate()
    {
        let (key, value) = record?;
        if page.members.len() == limit || looked == limit * LOOKS {
            page.next = last;
            break;
        }
        let user = keys::member::user(&key).ok_or_else(|| space.damaged(&key, "it names no member"))?;
        let row = MemberRow::decode(&value).map_err(|error| space.damaged(&key, error))?;
        if row.state == MemberState::Member {
            page.members.push((user.clone(), row));
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
    let space = &inner.spaces.members_by_user;
    let at = inner.published();
    let prefix = keys::membership::prefix(user);
    let first = after.map_or(prefix.clone(), |id| keys::membership::encode(user, id));
    let end = keys::behind(&prefix);
    let mut page = List::default();
    for record in space.range(&at, &first, (Bound::Excluded(&first[..]), Bound::Excluded(&end[..]))) {
        let (key, _) = record?;
        if page.entries.len() == limit {
            page.next = page.entries.last().map(|entry| entry.id);
            break;
        }
        let id = keys::membership::conversation(&key).ok_or_else(|| space.damaged(&key, "it names no conversation"))?;
        let entry = listed(inner, &at, user, id)?;
        page.entries.push(entry.ok_or_else(|| space.damaged(&key, "there is no such membership"))?);
    }
    Ok(page)
}

fn listed(inner: &Inner, at: &Snapshot, user: &UserId, id: ConversationId) -> Result<Option<Listed>, ReadError> {
    let spaces = &inner.spaces;
    let conversation = spaces.conversations.get(at, &keys::conversation::encode(id), ConversationRow::decode)?;
    let member = spaces.members.get(at, &keys::member::encode(id, user), MemberRow::decode)?;
    let mark = spaces.marks.get(at, &keys::mark::encode(user, id), MarkRow::decode)?.unwrap_or_default();
    Ok(conversation.zip(member).map(|(conversation, member)| Listed { id, conversation, member, mark }))
}
