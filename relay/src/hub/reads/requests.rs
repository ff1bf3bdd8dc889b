//! Answers to requests, as the asking user may see them.

use quip_core::{Authority, ConversationRecord, MemberRecord};
use quip_protocol::{
    Code, ConversationId, UserId, frame,
    request::{Entry, History, List, Member, Page},
};
use quip_store::{Direction, EventPage, Members, PageLimit, ReadError, View};

use super::{MembersOf, UserSeen, encode_end, last_seen, pages, read_code};
use crate::hub::{
    authority::{Membership, Rights, may_read, may_see_members, room_name},
    sight::Sight,
};

/// A page of history.
pub(super) fn history(view: &View, rights: &Rights, ask: &History, limit: PageLimit) -> Vec<u8> {
    answer(|out| {
        let Standing { conversation, member, authority } = find(view, rights, ask.conversation)?;
        may_read(&authority, Membership::of(Some(&member)))?;
        let sight = Sight::new(&conversation, &member);
        let (range, direction) = match (ask.forward, ask.from) {
            (true, from) => (sight.after(from), Direction::Forward),
            (false, 0) => (sight.before(u64::MAX), Direction::Backward),
            (false, from) => (sight.before(from), Direction::Backward),
        };
        let page = match range {
            Some(range) => pages::whole(view, ask.conversation, range, direction, limit)?,
            None => EventPage::default(),
        };
        let (first, last) = (sight.first(), sight.last());
        let head = Page { generation: view.generation(), first, head: last, count: page.count as u64 };
        frame::encode(&head, out);
        out.extend_from_slice(&page.frames);
        let rest = match direction {
            Direction::Forward => sight.after(page.last),
            Direction::Backward => sight.before(page.first),
        };
        Ok(page.count > 0 && rest.is_some())
    })
}

/// A page of the user's conversations.
pub(super) fn list(view: &View, user: &UserId, ask: &List, limit: usize) -> Vec<u8> {
    answer(|out| {
        let after = (ask.after.0 != [0; 16]).then_some(ask.after);
        let page = view.list(user, after, limit)?;
        for entry in &page.entries {
            let (row, member) = (&entry.conversation, &entry.member);
            let entry = Entry {
                conversation: entry.id,
                name: row.naming.shown(user),
                role: member.role,
                head: row.head,
                number: row.number,
                at: row.last_at,
                read: entry.mark.seq,
                read_number: entry.mark.read_number(row, member),
            };
            frame::encode(&entry, out);
        }
        Ok(page.next.is_some())
    })
}

/// A page of a conversation's members.
pub(super) fn members(view: &View, rights: &Rights, of: &MembersOf) -> Vec<u8> {
    answer(|out| {
        let page = member_page(view, rights, of)?;
        for (user, row) in &page.members {
            frame::encode(&Member { user: user.as_str(), role: row.role, since: row.from }, out);
        }
        Ok(page.next.is_some())
    })
}

/// Members whose presence is asked for, and whether there are more.
pub(super) fn present(view: &View, rights: &Rights, of: &MembersOf) -> Result<(Vec<UserSeen>, bool), Code> {
    let page = member_page(view, rights, of).map_err(|refused| refused.0)?;
    Ok((page.members.into_iter().map(|(user, _)| last_seen(view, user)).collect(), page.next.is_some()))
}

fn member_page(view: &View, rights: &Rights, of: &MembersOf) -> Result<Members, Refused> {
    let Standing { member, authority, .. } = find(view, rights, of.id)?;
    may_see_members(&authority, Membership::of(Some(&member)))?;
    let after = match &*of.after {
        "" => None,
        after => Some(UserId::parse(after).map_err(|_| Refused(Code::INVALID_NAME))?),
    };
    Ok(view.members(of.id, after.as_ref(), of.limit)?)
}

/// A conversation that exists, and where the asking user stands in it.
struct Standing {
    conversation: ConversationRecord,
    member: MemberRecord,
    authority: Authority,
}

/// The conversation is read first: then its head is not newer than the membership, and nothing is shown that came after the
/// membership's end.
fn find(view: &View, rights: &Rights, id: ConversationId) -> Result<Standing, Refused> {
    let (Some(conversation), Some(member)) = (view.conversation(id)?, view.member(id, rights.user())?) else {
        return Err(Refused(Code::NOT_FOUND));
    };
    let authority = rights.authority(id, room_name(&conversation.naming)).ok_or(Refused(Code::NOT_FOUND))?;
    Ok(Standing { conversation, member, authority })
}

struct Refused(Code);

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self(code)
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "a read failed");
        Self(read_code(&error))
    }
}

/// Frames and then `End`, which says whether there is more. A refusal leaves only `End`.
fn answer(fill: impl FnOnce(&mut Vec<u8>) -> Result<bool, Refused>) -> Vec<u8> {
    let mut out = Vec::new();
    let (code, info) = match fill(&mut out) {
        Ok(more) => (Code::DONE, u64::from(more)),
        Err(Refused(code)) => {
            out.clear();
            (code, 0)
        }
    };
    encode_end(code, info, &mut out);
    out
}
