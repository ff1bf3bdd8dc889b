//! Opening a conversation on a stream.

use quip_core::{Action, JoinAs, MemberRecord, MemberState, Naming};
use quip_protocol::{
    Code, ConversationId, Items, Kind, UserId,
    conversation::{Opened, Outcome, Skip, Start, Target, skip},
    frame, limit,
};
use quip_store::ReadError;

use super::{
    Rooms,
    follower::{Follower, Phase, Seat},
};
use crate::hub::{
    authority::{Membership, Rights, may_read, room_name},
    keys::StreamKey,
    reads::{KnownEvent, OpenRows, Query, UserSeen, read_code},
    sight::Sight,
};

/// What a client asks for with `Open`.
#[derive(Debug)]
pub(in crate::hub) struct OpenRequest<'a> {
    pub(in crate::hub) target: Target<'a>,
    pub(in crate::hub) start: Start,
    /// The `n` of the join; 0 = none.
    pub(in crate::hub) join: u64,
    /// Of the event at the cursor; zero if it is not known.
    pub(in crate::hub) digest: [u8; 4],
}

/// What an opening needs next, or what it came to.
#[derive(Debug)]
pub(in crate::hub) enum Opening {
    /// The stream does not open anything, or not any longer.
    Nothing,
    /// Something from the store.
    Read(Query),
    /// Command `n`, its join.
    Join { n: u64, action: Action },
    /// To look again a little later: the cursor is ahead of this relay.
    Later,
    /// It is open. These frames go first, and then the presence of the companions.
    Open { frames: Vec<u8>, companions: Vec<UserSeen> },
    /// It is refused.
    End { code: Code, info: u64 },
}

/// How many looks at the store a cursor ahead of it is given, one a tick: 2 s.
const LOOKS_AHEAD: u32 = 20;

impl OpenRequest<'_> {
    /// The conversation, which for a direct one depends on who asks.
    pub(in crate::hub) fn id(&self, user: &UserId) -> ConversationId {
        match &self.target {
            Target::Id(id) | Target::NewGroup(id) => *id,
            Target::Direct(other) => ConversationId::direct(user, other),
            Target::Room(name) => ConversationId::room(name),
        }
    }

    /// The name of a room, if it was asked for by that.
    fn room(&self) -> Option<&str> {
        match &self.target {
            Target::Room(name) => Some(name.as_str()),
            Target::Id(_) | Target::NewGroup(_) | Target::Direct(_) => None,
        }
    }

    fn join_as(&self) -> JoinAs {
        match &self.target {
            Target::Id(_) => JoinAs::Existing,
            Target::Direct(other) => JoinAs::Direct(other.clone()),
            Target::Room(name) => JoinAs::Room(name.as_str().to_owned()),
            Target::NewGroup(_) => JoinAs::NewGroup,
        }
    }
}

impl Rooms {
    /// A stream begins to open a conversation.
    pub(in crate::hub) fn open(
        &mut self,
        stream: StreamKey,
        request: &OpenRequest<'_>,
        seat: Seat,
        rights: &Rights,
    ) -> Opening {
        let id = request.id(&seat.user);
        let conversations = &mut self.conversations;
        let key = *self.by_id.entry(id).or_insert_with(|| conversations.insert(super::Conversation::default()));
        if let Some(conversation) = self.conversations.get_mut(key) {
            conversation.add(stream);
            if conversation.room.is_none() {
                conversation.room = request.room().map(str::to_owned);
            }
        }
        self.senders.insert((id, seat.user.clone(), seat.device), stream);
        let authority = rights.authority(id, request.room()).unwrap_or_default();
        let mut follower = Follower::new(id, key, seat, request.start, authority);
        follower.opening.known = match request.start {
            Start::After { generation, seq } if generation == self.generation && request.digest != [0; 4] => {
                Some(KnownEvent { seq, digest: request.digest })
            }
            _ => None,
        };
        self.followers.insert(stream, Box::new(follower));
        match (request.join, request.join_as()) {
            (0, _) => self.read_rows(stream),
            // What the token allows there is known once the name is.
            (join, JoinAs::Existing) => {
                self.set_phase(stream, Phase::Naming { join });
                self.read_rows(stream)
            }
            (n, join) => self.join(stream, n, join),
        }
    }

    fn set_phase(&mut self, stream: StreamKey, phase: Phase) {
        if let Some(follower) = self.followers.get_mut(stream) {
            follower.opening.phase = phase;
        }
    }

    fn join(&mut self, stream: StreamKey, n: u64, join: JoinAs) -> Opening {
        self.set_phase(stream, Phase::Joining { n });
        Opening::Join { n, action: Action::Join(join) }
    }

    /// The join of a stream is decided.
    pub(super) fn joined(&mut self, stream: StreamKey, outcome: &Outcome) -> Opening {
        match outcome.code {
            Code::DONE | Code::KNOWN => {
                if let Some(follower) = self.followers.get_mut(stream) {
                    follower.opening.joined_at = outcome.seq;
                    follower.opening.phase = Phase::Opening;
                    follower.sends.answered(outcome.n);
                }
                self.read_rows(stream)
            }
            Code::MISSING => Opening::End { code: Code::MISSING, info: outcome.seq },
            code => Opening::End { code, info: 0 },
        }
    }

    fn read_rows(&mut self, stream: StreamKey) -> Opening {
        let Some(follower) = self.followers.get_mut(stream) else { return Opening::Nothing };
        follower.opening.outdated = false;
        let Seat { user, device, .. } = follower.seat.clone();
        let companions = self.config.limits.presence_group_members;
        Opening::Read(Query::Rows { id: follower.id, user, device, companions, at: follower.opening.known })
    }

    /// Looks again for a stream whose cursor was ahead of this relay.
    pub(in crate::hub) fn look_again(&mut self, stream: StreamKey) -> Opening {
        match self.followers.get(stream) {
            Some(follower) if matches!(follower.opening.phase, Phase::Ahead { .. }) => self.read_rows(stream),
            _ => Opening::Nothing,
        }
    }

    /// The rows that a stream's opening needs were read.
    pub(in crate::hub) fn rows(
        &mut self,
        stream: StreamKey,
        rows: Result<Option<Box<OpenRows>>, ReadError>,
        rights: &Rights,
    ) -> Opening {
        match self.followers.get(stream) {
            None => Opening::Nothing,
            Some(follower) if follower.opening.outdated => self.read_rows(stream),
            Some(_) => self.decide(stream, rows, rights).unwrap_or_else(|code| Opening::End { code, info: 0 }),
        }
    }

    fn decide(
        &mut self,
        stream: StreamKey,
        rows: Result<Option<Box<OpenRows>>, ReadError>,
        rights: &Rights,
    ) -> Result<Opening, Code> {
        let rows = rows.map_err(|error| {
            tracing::error!(%error, "could not open a conversation");
            read_code(&error)
        })?;
        let rows = rows.ok_or(Code::NOT_FOUND)?;
        let Some(follower) = self.followers.get_mut(stream) else { return Ok(Opening::Nothing) };
        let room = room_name(&rows.conversation.naming);
        let authority = rights.authority(follower.id, room).ok_or(Code::NOT_FOUND)?;
        follower.authority = authority;
        if let Some(conversation) = self.conversations.get_mut(follower.conversation) {
            conversation.room = room.map(str::to_owned);
        }
        if let Phase::Naming { join } = follower.opening.phase {
            // To one who was never there and may not join by it, an id tells nothing.
            let by_id = follower.id.kind() == Some(Kind::Room) && authority.join;
            let known = rows.member.is_some() || by_id;
            return if known { Ok(self.join(stream, join, JoinAs::Existing)) } else { Err(Code::NOT_FOUND) };
        }
        may_read(&authority, Membership::of(rows.member.as_ref()))?;
        let member = rows.member.as_ref().ok_or(Code::NOT_FOUND)?;
        Ok(self.opened(stream, &rows, member))
    }

    fn opened(&mut self, stream: StreamKey, rows: &OpenRows, member: &MemberRecord) -> Opening {
        let Some(follower) = self.followers.get_mut(stream) else { return Opening::Nothing };
        let sight = Sight::new(&rows.conversation, member);
        let wanted = if rows.is_other_log { 1 } else { wanted(follower, &sight, self.generation) };
        let is_present = member.state == MemberState::Member;
        if wanted > sight.last() + 1 && is_present {
            let opening = ahead(follower, sight.last());
            if matches!(opening, Opening::End { .. }) && follower.opening.known.is_some() {
                suspect_copy(&mut self.suspected, "a client has more events of a conversation than this relay");
            }
            return opening;
        }
        if rows.is_other_log {
            suspect_copy(&mut self.suspected, "a client has other events of a conversation than this relay");
        }
        let start = sight.from(wanted);
        follower.delivery.cursor = start - 1;
        follower.delivery.until = if is_present { u64::MAX } else { sight.last() };
        follower.delivery.holes = sight.holes(start - 1);
        follower.opening.phase = Phase::Following;
        follower.watching = rows.companions.as_ref().map(|all| all.iter().map(|(user, _)| user.clone()).collect());
        let mut present = 0;
        if let Some(conversation) = self.conversations.get_mut(follower.conversation) {
            conversation.set_head(conversation.head.max(rows.conversation.head));
            self.memory.set_needed(follower.conversation, conversation.audience.needs_memory());
            present = conversation.followers.len() as u64;
        }
        let mut frames = Vec::new();
        // A start at or below the cursor shows the client that the log is another one.
        let shown = follower.opening.known.filter(|_| rows.is_other_log).map_or(start, |known| known.seq.min(start));
        let opened_at = OpenedAt { generation: self.generation, start: shown, present };
        encode_opened(follower, rows, member, &sight, opened_at, &mut frames);
        if matches!(follower.opening.start, Start::After { .. }) && wanted < start {
            let was_trimmed = start <= rows.conversation.first_kept;
            let why = if was_trimmed { skip::TRIMMED } else { skip::NOT_VISIBLE };
            frame::encode(&Skip { to: start - 1, why }, &mut frames);
        }
        Opening::Open { frames, companions: rows.companions.clone().unwrap_or_default() }
    }
}

/// The first event that a client asked for.
fn wanted(follower: &Follower, sight: &Sight, generation: u64) -> u64 {
    match follower.opening.start {
        Start::Now if follower.opening.joined_at > 0 => follower.opening.joined_at,
        Start::Now => sight.last() + 1,
        Start::Last(count) => sight.last_events(count),
        Start::After { generation: other, .. } if other != generation => 1,
        Start::After { seq, .. } => seq.saturating_add(1),
    }
}

/// Says once that the data folder may be a copy that was put back.
fn suspect_copy(suspected: &mut bool, why: &str) {
    if !std::mem::replace(suspected, true) {
        tracing::warn!(
            "{why}. If the data folder was copied back from a backup, stop the relay and run `quip-relay restore`"
        );
    }
}

/// The cursor is ahead. This relay may yet come up to it.
fn ahead(follower: &mut Follower, head: u64) -> Opening {
    let looks = match follower.opening.phase {
        Phase::Ahead { looks: 0 } => return Opening::End { code: Code::BEHIND, info: head },
        Phase::Ahead { looks } => looks - 1,
        _ => LOOKS_AHEAD,
    };
    follower.opening.phase = Phase::Ahead { looks };
    Opening::Later
}

/// Where delivery starts, and among how many streams.
struct OpenedAt {
    generation: u64,
    start: u64,
    present: u64,
}

fn encode_opened(
    follower: &Follower,
    rows: &OpenRows,
    member: &MemberRecord,
    sight: &Sight,
    opened_at: OpenedAt,
    into: &mut Vec<u8>,
) {
    let sends = &rows.sends;
    let kept = sends.latest.len().min(limit::UNANSWERED as usize);
    let first = sends.last + 1 - kept as u64;
    let latest = sends.latest.iter().skip(sends.latest.len() - kept);
    let outcomes = latest.zip(first..).map(|(recorded, n)| Outcome {
        n,
        code: recorded.code,
        seq: recorded.seq,
        number: recorded.number,
        at: recorded.at,
        check: recorded.check(),
    });
    let conversation = &rows.conversation;
    let is_present = member.state == MemberState::Member;
    let opened = Opened {
        conversation: follower.id,
        generation: opened_at.generation,
        first_kept: sight.first(),
        head: sight.last(),
        number: member.last_number(conversation),
        start: opened_at.start,
        role: if is_present { member.role } else { 0 },
        last_n: sends.last,
        outcomes: Items::encode(outcomes),
        read: rows.mark.seq,
        read_number: rows.mark.read_number(conversation, member),
        name: match &conversation.naming {
            Naming::Group(_) if !is_present => &member.parting.title,
            naming => naming.shown(&follower.seat.user),
        },
        members: if is_present { conversation.members } else { 0 },
        present: if is_present { opened_at.present } else { 0 },
    };
    frame::encode(&opened, into);
}
