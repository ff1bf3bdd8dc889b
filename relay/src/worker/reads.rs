//! What a worker asks of the reader threads, and what they answer.

use std::ops::RangeInclusive;

use quip_core::{Command, ConversationRecord, MarkRecord, MemberRecord, MemberState, Naming, SendsRecord, Timestamp};
use quip_protocol::{
    Code, ConversationId, DeviceId, UserId,
    conversation::End,
    frame,
    request::{Entry, History, List, Member, Page as PageHead},
};
use quip_store::{Direction, Members, Page, PageLimit, ReadError, View};

use super::{ConnectionKey, StreamKey, news::Place};

/// The answer to one read, for one stream.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) connection: ConnectionKey,
    pub(super) stream: StreamKey,
    pub(super) read: Read,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// The rows that an open needs; `None` when there is no such conversation.
    Rows(Result<Option<Box<OpenRows>>, ReadError>),
    /// The next events of a follower.
    Page(Result<Page, ReadError>),
    /// A whole answer to a request.
    Answer(Vec<u8>),
    /// Nothing for anyone: the rows of this command are in memory now.
    Warm(Box<Command>),
    /// Members whose presence was asked for, and whether there are more.
    Members(Result<(Vec<Known>, bool), Code>),
}

/// A user, and when the store says that they were last seen; 0 = never.
pub(super) type Known = (UserId, Timestamp);

/// The rows that an open needs.
#[derive(Debug)]
pub(super) struct OpenRows {
    pub(super) conversation: ConversationRecord,
    pub(super) member: Option<MemberRecord>,
    pub(super) sends: SendsRecord,
    pub(super) mark: MarkRecord,
    /// All other members, where they are few enough to see each other's presence live.
    pub(super) companions: Option<Vec<Known>>,
}

/// Reads what an open needs. `companions` is the largest group whose members see each other live.
pub(super) fn open(
    view: &View,
    id: ConversationId,
    user: &UserId,
    device: DeviceId,
    companions: usize,
) -> Result<Option<Box<OpenRows>>, ReadError> {
    let Some(conversation) = view.conversation(id)? else { return Ok(None) };
    let companions = match &conversation.naming {
        Naming::Direct(a, b) => Some(vec![a.clone(), b.clone()]),
        Naming::Group(_) if conversation.members as usize <= companions => {
            Some(view.members(id, None, companions)?.members.into_iter().map(|(user, _)| user).collect())
        }
        _ => None,
    };
    let others = |all: Vec<UserId>| {
        all.into_iter().filter(|companion| companion != user).map(|user| known(view, user)).collect()
    };
    Ok(Some(Box::new(OpenRows {
        member: view.member(id, user)?,
        sends: view.sends(id, user, device)?.unwrap_or_default(),
        mark: view.mark(user, id)?.unwrap_or_default(),
        conversation,
        companions: companions.map(others),
    })))
}

/// A page of history as the user may see it.
pub(super) fn history(view: &View, user: &UserId, ask: &History, most: usize, bytes: usize) -> Vec<u8> {
    answer(|out| {
        let (conversation, member) = membership(view, ask.conversation, user)?;
        let first = member.from.max(conversation.first_kept);
        let last = member.to.min(conversation.head);
        let (range, direction) = match (ask.forward, ask.from) {
            (true, from) => (first.max(from.saturating_add(1))..=last, Direction::Forward),
            (false, 0) => (first..=last, Direction::Backward),
            (false, from) => (first..=last.min(from - 1), Direction::Backward),
        };
        let limit = PageLimit { events: (ask.limit as usize).clamp(1, most), bytes };
        let page = if range.is_empty() {
            Page::default()
        } else {
            whole_page(view, ask.conversation, range, direction, limit)?
        };
        let head = PageHead { generation: view.generation(), first, head: last, count: page.count as u64 };
        frame::encode(&head, out);
        out.extend_from_slice(&page.frames);
        Ok(match direction {
            Direction::Forward => page.count > 0 && page.last < last,
            Direction::Backward => page.count > 0 && page.first > first,
        })
    })
}

/// A page of the user's conversations.
pub(super) fn list(view: &View, user: &UserId, ask: &List, most: usize) -> Vec<u8> {
    answer(|out| {
        let after = (ask.after.0 != [0; 16]).then_some(ask.after);
        let page = view.list(user, after, (ask.limit as usize).clamp(1, most))?;
        for entry in &page.entries {
            let (row, member) = (&entry.conversation, &entry.member);
            let entry = Entry {
                conversation: entry.id,
                name: name(&row.naming, user),
                role: member.role,
                head: row.head,
                number: row.number,
                at: row.last_at,
                read: entry.mark.seq,
                read_number: entry.mark.number.max(member.number),
            };
            frame::encode(&entry, out);
        }
        Ok(page.next.is_some())
    })
}

/// A page of a conversation's members.
pub(super) fn members(view: &View, user: &UserId, id: ConversationId, after: &str, limit: u64, most: usize) -> Vec<u8> {
    answer(|out| {
        let page = member_page(view, user, id, after, (limit as usize).clamp(1, most))?;
        for (user, row) in &page.members {
            frame::encode(&Member { user: user.as_str(), role: row.role, since: row.from }, out);
        }
        Ok(page.next.is_some())
    })
}

/// Members whose presence is asked for.
pub(super) fn present(
    view: &View,
    user: &UserId,
    id: ConversationId,
    after: &str,
    limit: usize,
) -> Result<(Vec<Known>, bool), Code> {
    let page = member_page(view, user, id, after, limit).map_err(|refused| refused.0)?;
    Ok((page.members.into_iter().map(|(user, _)| known(view, user)).collect(), page.next.is_some()))
}

/// Reads when a user was last seen. A record that cannot be read is no reason to show nobody.
fn known(view: &View, user: UserId) -> Known {
    let row = view.user(&user).unwrap_or_else(|error| {
        tracing::error!(%error, "when a user was last seen is not known");
        None
    });
    (user, row.map_or(0, |row| row.seen))
}

/// Members of these groups, each from the place where it was left off, until there are enough of them. A group with more
/// than `most` has none here.
pub(super) fn news(view: &View, places: &[Place], most: usize) -> Vec<Result<Members, ReadError>> {
    let (mut pages, mut found) = (Vec::new(), 0);
    for (id, after) in places {
        let page = group_members(view, *id, after.as_ref(), most);
        found += page.as_ref().map_or(0, |page| page.members.len());
        pages.push(page);
        if found >= NEWS_MEMBERS {
            break;
        }
    }
    pages
}

fn group_members(view: &View, id: ConversationId, after: Option<&UserId>, most: usize) -> Result<Members, ReadError> {
    match view.conversation(id)? {
        Some(group) if group.members as usize <= most => view.members(id, after, NEWS_MEMBERS),
        _ => Ok(Members::default()),
    }
}

/// Members of one page, and of all pages of one read but for the last page.
const NEWS_MEMBERS: usize = 256;

/// What a conversation is called for one of its members.
pub(super) fn name<'a>(naming: &'a Naming, user: &UserId) -> &'a str {
    match naming {
        Naming::Direct(a, b) if a == user => b.as_str(),
        Naming::Direct(a, _) => a.as_str(),
        Naming::Group(title) => title,
        Naming::Room(name, _) => name,
    }
}

struct Refused(Code);

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "a read failed");
        Self(read_code(&error))
    }
}

/// The code that tells a client of a failed read.
pub(super) fn read_code(error: &ReadError) -> Code {
    match error {
        ReadError::Damaged { .. } => Code::STORED_DAMAGED,
        _ => Code::INTERNAL,
    }
}

fn member_page(view: &View, user: &UserId, id: ConversationId, after: &str, limit: usize) -> Result<Members, Refused> {
    // Who is in is for those who are in; what was said stays readable up to one's leaving.
    let (_, member) = membership(view, id, user)?;
    if member.state != MemberState::Member {
        return Err(Refused(Code::NOT_A_MEMBER));
    }
    let after = match after {
        "" => None,
        after => Some(UserId::parse(after).map_err(|_| Refused(Code::INVALID_NAME))?),
    };
    Ok(view.members(id, after.as_ref(), limit)?)
}

fn membership(view: &View, id: ConversationId, user: &UserId) -> Result<(ConversationRecord, MemberRecord), Refused> {
    match (view.conversation(id)?, view.member(id, user)?) {
        (Some(conversation), Some(member)) if member.to > 0 => Ok((conversation, member)),
        _ => Err(Refused(Code::NOT_FOUND)),
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

/// Appends an `End` without a pause to wait for.
pub(super) fn encode_end(code: Code, info: u64, out: &mut Vec<u8>) {
    let retry_after = if code.retry() == quip_protocol::Retry::Later { RETRY_AFTER_MS } else { 0 };
    let text = if code == Code::DONE { String::new() } else { code.to_string() };
    frame::encode(&End { code, retry_after, info, text: &text }, out);
}

/// How long a client waits before it asks again where nothing better is known, in milliseconds.
pub(super) const RETRY_AFTER_MS: u64 = 100;

/// Events as one chunk that a stream writes without copying.
pub(super) fn page(
    view: &View,
    id: ConversationId,
    seqs: RangeInclusive<u64>,
    bytes: usize,
) -> Result<Page, ReadError> {
    whole_page(view, id, seqs, Direction::Forward, PageLimit { bytes, events: usize::MAX })
}

/// A page at whose beginning nothing is missing but what was trimmed.
fn whole_page(
    view: &View,
    id: ConversationId,
    seqs: RangeInclusive<u64>,
    direction: Direction,
    limit: PageLimit,
) -> Result<Page, ReadError> {
    let page = view.page(id, seqs.clone(), direction, limit)?;
    let missing = match direction {
        _ if page.count == 0 => *seqs.end(),
        Direction::Forward => page.first - 1,
        Direction::Backward if page.last < *seqs.end() => *seqs.end(),
        Direction::Backward => return Ok(page),
    };
    // What was trimmed is known before its bytes go.
    let absent = seqs.contains(&missing) && view.conversation(id)?.is_none_or(|row| missing >= row.first_kept);
    if absent {
        let why = format!("event {missing} of conversation {id} is missing");
        return Err(ReadError::Damaged { kind: "events", key: id.to_string(), why });
    }
    Ok(page)
}
