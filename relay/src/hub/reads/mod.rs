//! What the hub asks of the store's reader threads, and what they answer.

mod pages;
mod requests;

use std::time::Duration;

use quip_core::{Command, ConversationRecord, MarkRecord, MemberRecord, MemberState, Naming, SendsRecord, Timestamp};
use quip_protocol::{
    Code, ConversationId, DeviceId, Event, Retry, UserId,
    conversation::End,
    frame, limit,
    request::{History, List},
};
use quip_store::{EventPage, Expired, Members, PageLimit, ReadError, View};

use super::{
    authority::Rights,
    forgetting::{self, ExpiredPage},
    keys::StreamKey,
    links::UserKey,
    sight::Sight,
};

/// One read of the store.
#[derive(Debug)]
pub struct Read(pub(super) Wanted);

/// What one [`Read`] came to.
#[derive(Debug)]
pub struct ReadDone(pub(super) Got);

/// What is wanted, and for whom.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Something for a stream.
    ForStream { user: UserKey, stream: StreamKey, query: Query },
    /// The rows of these commands in memory, which say when users were last seen.
    LastSeen(Vec<Command>),
    /// Members of these groups. A group with more than `most` has none here.
    GroupMembers { places: Vec<Place>, most: usize },
    /// Devices whose send numbers are not used any more.
    Expired(ExpiredPage),
}

/// What was wanted, now read.
#[derive(Debug)]
pub(super) enum Got {
    /// For a stream.
    ForStream { user: UserKey, stream: StreamKey, found: Found },
    /// The rows of these commands are in memory.
    LastSeen(Vec<Command>),
    /// A page of members for each group that the read came to.
    GroupMembers(Vec<Result<GroupPage, ReadError>>),
    /// A page of devices whose send numbers are not used any more.
    Expired(Result<Expired, ReadError>),
}

/// What a stream wants from the store.
#[derive(Debug)]
pub(super) enum Query {
    /// The rows that opening needs. `companions` is the largest group whose members see each other's presence live.
    Rows { id: ConversationId, user: UserId, device: DeviceId, companions: usize, at: Option<KnownEvent> },
    /// A follower's next events, as one chunk that streams write without copying.
    Page(PageOf),
    /// The rows of a command in memory.
    Warm(Box<Command>),
    /// A page of history.
    History { rights: Rights, ask: History, limit: PageLimit },
    /// A page of the user's conversations.
    List { user: UserId, ask: List, limit: usize },
    /// A page of a conversation's members.
    Members { rights: Rights, of: MembersOf },
    /// Members whose presence is asked for.
    Present { rights: Rights, of: MembersOf },
}

/// A conversation's events `first..=last`, or the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageOf {
    pub(super) id: ConversationId,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Which members.
#[derive(Debug)]
pub(super) struct MembersOf {
    pub(super) id: ConversationId,
    /// Exclusive; empty = from the start.
    pub(super) after: String,
    pub(super) limit: usize,
}

/// An event that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownEvent {
    pub(super) seq: u64,
    /// Its [`Event::digest`].
    pub(super) digest: [u8; 4],
}

/// What was found for a stream.
#[derive(Debug)]
pub(super) enum Found {
    /// `None` when there is no such conversation.
    Rows(Result<Option<Box<OpenRows>>, ReadError>),
    /// Events for followers.
    Page(PageOf, Result<EventPage, ReadError>),
    /// The rows of this command are in memory. `creates`: it is a join, and there was no such conversation.
    Warm { command: Box<Command>, creates: bool },
    /// A whole answer to a request.
    Frames(Vec<u8>),
    /// Members, and whether there are more.
    Present(Result<(Vec<UserSeen>, bool), Code>),
}

/// A user, and when the store says that they were last seen; 0 = never.
pub(super) type UserSeen = (UserId, Timestamp);

/// Some members of a group, and what it is called.
#[derive(Debug, Default)]
pub(super) struct GroupPage {
    pub(super) title: String,
    pub(super) members: Members,
}

/// Where to go on with the members of a group.
pub(super) type Place = (ConversationId, Option<UserId>);

/// The rows that opening needs.
#[derive(Debug, Clone)]
pub(super) struct OpenRows {
    pub(super) conversation: ConversationRecord,
    pub(super) member: Option<MemberRecord>,
    pub(super) sends: SendsRecord,
    pub(super) mark: MarkRecord,
    /// All other members, where they are few enough to see each other's presence live.
    pub(super) companions: Option<Vec<UserSeen>>,
    /// The client has another event in the place of one that is here.
    pub(super) is_other_log: bool,
}

/// How long a client waits before it asks again where nothing better is known, in milliseconds.
pub(super) const RETRY_AFTER_MS: u64 = 100;
/// Bytes of one page for followers that catch up.
const PAGE_BYTES: usize = 16 << 10;
/// Members in one page of a group, and in all pages of one read but for the last.
const GROUP_MEMBERS: usize = 256;

impl Read {
    /// Reads it.
    pub fn run(self, view: &View) -> ReadDone {
        ReadDone(match self.0 {
            Wanted::ForStream { user, stream, query } => Got::ForStream { user, stream, found: query.run(view) },
            Wanted::LastSeen(commands) => {
                commands.iter().for_each(|command| view.warm(&quip_core::keys(command)));
                Got::LastSeen(commands)
            }
            Wanted::GroupMembers { places, most } => Got::GroupMembers(group_members(view, &places, most)),
            Wanted::Expired(ExpiredPage { after, before }) => {
                Got::Expired(view.expired(after.as_ref(), before, forgetting::LOOKS))
            }
        })
    }
}

impl Query {
    fn run(self, view: &View) -> Found {
        match self {
            Self::Rows { id, user, device, companions, at } => {
                let rows = open_rows(view, id, &user, device, companions);
                let compared = |rows: OpenRows| {
                    let is_other_log = at.is_some_and(|known| is_other_log(view, id, &rows, known));
                    Box::new(OpenRows { is_other_log, ..rows })
                };
                Found::Rows(rows.map(|rows| rows.map(compared)))
            }
            Self::Page(of) => Found::Page(of, pages::forward(view, of.id, of.first..=of.last, PAGE_BYTES)),
            Self::Warm(command) => {
                view.warm(&quip_core::keys(&command));
                let creates =
                    command.may_create() && view.conversation(command.conversation).is_ok_and(|row| row.is_none());
                Found::Warm { command, creates }
            }
            Self::History { rights, ask, limit } => Found::Frames(requests::history(view, &rights, &ask, limit)),
            Self::List { user, ask, limit } => Found::Frames(requests::list(view, &user, &ask, limit)),
            Self::Members { rights, of } => Found::Frames(requests::members(view, &rights, &of)),
            Self::Present { rights, of } => Found::Present(requests::present(view, &rights, &of)),
        }
    }
}

/// Reads what opening needs.
fn open_rows(
    view: &View,
    id: ConversationId,
    user: &UserId,
    device: DeviceId,
    companions: usize,
) -> Result<Option<OpenRows>, ReadError> {
    let Some(conversation) = view.conversation(id)? else { return Ok(None) };
    let member = view.member(id, user)?;
    // Who is here is for those who are in.
    let is_in = member.as_ref().is_some_and(|row| row.state == MemberState::Member);
    let companions = match &conversation.naming {
        _ if !is_in => None,
        Naming::Direct(a, b) => Some(vec![a.clone(), b.clone()]),
        Naming::Group(_) if conversation.members as usize <= companions => {
            Some(view.members(id, None, companions)?.members.into_iter().map(|(user, _)| user).collect())
        }
        _ => None,
    };
    let others = |all: Vec<UserId>| {
        all.into_iter().filter(|companion| companion != user).map(|user| last_seen(view, user)).collect()
    };
    Ok(Some(OpenRows {
        member,
        sends: view.sends(id, user, device)?.unwrap_or_default(),
        mark: view.mark(user, id)?.unwrap_or_default(),
        conversation,
        companions: companions.map(others),
        is_other_log: false,
    }))
}

/// Whether a client has an event that it cannot have from this log. What lies behind the last one that the user may see says
/// nothing, since this relay may be behind, nor does what is not kept. An event that they may not see is not looked at, so that
/// nobody can probe for it.
fn is_other_log(view: &View, id: ConversationId, rows: &OpenRows, known: KnownEvent) -> bool {
    let Some(member) = &rows.member else { return false };
    let last = Sight::new(&rows.conversation, member).last();
    (rows.conversation.first_kept..=last).contains(&known.seq)
        && (!member.sees(known.seq) || has_other_event(view, id, known))
}

/// Whether another event is in the place of one that a client has. What is not kept or cannot be read says nothing.
fn has_other_event(view: &View, id: ConversationId, known: KnownEvent) -> bool {
    let Ok(Some(row)) = view.event(id, known.seq) else { return false };
    let frame = frame::split(&row.frame, limit::FRAME).ok().flatten();
    let event = frame.and_then(|(frame, _)| frame::decode::<Event<'_>>(frame.body).ok());
    event.is_some_and(|event| event.digest() != known.digest)
}

/// Reads when a user was last seen. A damaged record is no reason to show nobody.
fn last_seen(view: &View, user: UserId) -> UserSeen {
    let row = view.user(&user).unwrap_or_else(|error| {
        tracing::error!(%error, "could not read when a user was last seen");
        None
    });
    (user, row.map_or(0, |row| row.seen))
}

/// Members of these groups, each from the place where it was left off, until there are enough of them.
fn group_members(view: &View, places: &[Place], most: usize) -> Vec<Result<GroupPage, ReadError>> {
    let (mut pages, mut found) = (Vec::new(), 0);
    for (id, after) in places {
        let page = members_of_group(view, *id, after.as_ref(), most);
        found += page.as_ref().map_or(0, |page| page.members.members.len());
        pages.push(page);
        if found >= GROUP_MEMBERS {
            break;
        }
    }
    pages
}

fn members_of_group(
    view: &View,
    id: ConversationId,
    after: Option<&UserId>,
    most: usize,
) -> Result<GroupPage, ReadError> {
    let Some(ConversationRecord { members, naming: Naming::Group(title), .. }) = view.conversation(id)? else {
        return Ok(GroupPage::default());
    };
    if members as usize > most {
        return Ok(GroupPage::default());
    }
    Ok(GroupPage { title, members: view.members(id, after, GROUP_MEMBERS)? })
}

/// The code that tells a client of a failed read.
pub(super) fn read_code(error: &ReadError) -> Code {
    match error {
        ReadError::Damaged { .. } => Code::STORED_DAMAGED,
        _ => Code::INTERNAL,
    }
}

/// How many milliseconds a client is to wait. Rounded up: one that comes back a moment too early would be refused again.
pub(super) fn in_millis(wait: Duration) -> u64 {
    wait.as_micros().div_ceil(1000) as u64
}

/// Appends an `End` whose pause follows from its code.
pub(super) fn encode_end(code: Code, info: u64, out: &mut Vec<u8>) {
    let retry_after = if code.retry() == Retry::Later { RETRY_AFTER_MS } else { 0 };
    let text = if code == Code::DONE { String::new() } else { code.to_string() };
    frame::encode(&End { code, retry_after, info, text: &text }, out);
}
