//! Opening a conversation stream, and ending it.

use quip_core::{Action, JoinAs};
use quip_protocol::{
    Code, ConversationId, Items, Kind, UserId,
    conversation::{End, Open, Opened, Outcome, Skip, Start, Target, skip},
    limit,
};
use quip_store::ReadError;

use super::{
    ConnectionKey, StreamKey, Worker,
    connection::room_of,
    follower::{Follower, Phase},
    intake::Next,
    reads::{self, Known, OpenRows, Read, encode_end, read_code},
    session::presence,
    stream::{Role, Stream},
};

/// How many looks at the store a cursor ahead of it is given, one a tick: 2 s.
const LOOKS_AHEAD: u32 = 20;

impl Worker {
    /// The first frame of a conversation stream.
    pub(super) fn open(&mut self, key: StreamKey, open: &Open<'_>) -> Next {
        let at = self.streams[key].connection;
        let Some(user) = self.connections[at].user().cloned() else { return Next::Nothing };
        let (target, start) = match (open.target(), open.start()) {
            (Ok(target), Ok(start)) => (target, start),
            _ => return self.refuse_open(key, Code::INVALID_NAME),
        };
        let id = id_of(&target, &user);
        if let Err(code) = self.may_open(at, id) {
            return self.refuse_open(key, code);
        }
        self.attach(key, at, id, &user, start);
        match (open.join, join_as(&target)) {
            (0, _) => self.read_rows(key),
            (join, JoinAs::Existing) => {
                self.set_phase(key, Phase::Naming { join });
                self.read_rows(key);
            }
            (n, join) => self.join(key, n, join),
        }
        if self.streams.contains_key(key) { Next::Hold } else { Next::Nothing }
    }

    fn may_open(&self, at: ConnectionKey, id: ConversationId) -> Result<(), Code> {
        let connection = &self.connections[at];
        let streams = connection.session.as_ref().map_or(0, |session| session.streams);
        if connection.has_open(id) {
            Err(Code::ALREADY_OPEN)
        } else if connection.open.len() >= streams {
            Err(Code::TOO_MANY_STREAMS)
        } else {
            Ok(())
        }
    }

    pub(super) fn refuse_open(&mut self, key: StreamKey, code: Code) -> Next {
        self.end(key, code, 0);
        if self.streams.contains_key(key) { Next::Frame } else { Next::Nothing }
    }

    fn attach(&mut self, key: StreamKey, at: ConnectionKey, id: ConversationId, user: &UserId, start: Start) {
        let connection = &mut self.connections[at];
        connection.open.push((id, key));
        let Some(session) = &connection.session else { return };
        let authority = session.authority(id.kind(), None, &self.shared.config);
        let device = session.device;
        self.streams[key].role = Role::Conversation(Box::new(Follower::new(id, start, Phase::Opening, authority)));
        self.conversations.entry(id).or_default().followers.push(key);
        self.senders.insert((id, user.clone(), device), key);
    }

    fn set_phase(&mut self, key: StreamKey, phase: Phase) {
        if let Some(follower) = self.streams.get_mut(key).and_then(|stream| stream.follower()) {
            follower.phase = phase;
        }
    }

    fn join(&mut self, key: StreamKey, n: u64, join: JoinAs) {
        if let JoinAs::Room(name) = &join {
            let room = quip_protocol::RoomName::parse(name).ok();
            let at = self.streams[key].connection;
            let Some(session) = &self.connections[at].session else { return };
            let authority = session.authority(Some(quip_protocol::Kind::Room), room.as_ref(), &self.shared.config);
            if let Some(follower) = self.streams[key].follower() {
                follower.authority = authority;
            }
        }
        self.set_phase(key, Phase::Joining { n });
        self.submit(key, n, Action::Join(join));
    }

    /// The join of a stream is decided.
    pub(super) fn joined(&mut self, key: StreamKey, outcome: &Outcome) {
        match outcome.code {
            Code::DONE | Code::KNOWN => {
                if let Some(follower) = self.streams[key].follower() {
                    follower.joined_at = outcome.seq;
                    let _ = follower.sends.decided(outcome, false, false);
                }
                self.set_phase(key, Phase::Opening);
                self.read_rows(key);
            }
            Code::MISSING => self.end(key, Code::MISSING, outcome.seq),
            code => self.end(key, code, 0),
        }
    }

    pub(super) fn read_rows(&mut self, key: StreamKey) {
        let at = self.streams[key].connection;
        let (Some(session), companions) = (&self.connections[at].session, self.companions()) else { return };
        let (user, device) = (session.identity.user.clone(), session.device);
        let Some(follower) = self.streams[key].follower() else { return };
        follower.outdated = false;
        let id = follower.id;
        self.ask(key, move |view| Read::Rows(reads::open(view, id, &user, device, companions)));
    }

    fn companions(&self) -> usize {
        self.shared.config.limits.presence_group_members
    }

    /// The rows of a conversation that is being opened were read.
    pub(super) fn rows(&mut self, key: StreamKey, rows: Result<Option<Box<OpenRows>>, ReadError>) {
        let Some(follower) = self.streams[key].follower() else { return };
        if follower.outdated {
            return self.read_rows(key);
        }
        let phase = follower.phase;
        let rows = match rows {
            Ok(Some(rows)) => rows,
            Ok(None) => return self.end(key, Code::NOT_FOUND, 0),
            Err(error) => {
                tracing::error!(%error, "a conversation cannot be opened");
                return self.end(key, read_code(&error), 0);
            }
        };
        self.name(key, &rows);
        match phase {
            // To one who was never there and may not join by it, an id tells nothing.
            Phase::Naming { .. } if rows.member.is_none() && !self.may_join(key) => self.end(key, Code::NOT_FOUND, 0),
            Phase::Naming { join } => self.join(key, join, JoinAs::Existing),
            _ if rows.member.is_none_or(|member| member.to == 0) => self.end(key, Code::NOT_FOUND, 0),
            _ => self.opened(key, &rows),
        }
    }

    /// Whether a conversation that exists can be joined by its id: a room can, by those with the grant.
    fn may_join(&mut self, key: StreamKey) -> bool {
        let follower = self.streams[key].follower();
        follower.is_some_and(|follower| follower.id.kind() == Some(Kind::Room) && follower.authority.join)
    }

    /// What the token allows here is known once the conversation's name is.
    fn name(&mut self, key: StreamKey, rows: &OpenRows) {
        let at = self.streams[key].connection;
        let Some(session) = &self.connections[at].session else { return };
        let naming = &rows.conversation.naming;
        let Some(follower) = self.streams[key].follower() else { return };
        follower.authority = session.authority(follower.id.kind(), room_of(naming).as_ref(), &self.shared.config);
        if let Some(conversation) = self.conversations.get_mut(&follower.id) {
            conversation.naming.get_or_insert_with(|| naming.clone());
        }
    }

    fn opened(&mut self, key: StreamKey, rows: &OpenRows) {
        let Some(member) = rows.member else { return };
        let generation = self.shared.generation;
        let visible = Visible::new(rows, &member);
        let Some(follower) = self.streams[key].follower() else { return };
        let wanted = match follower.start {
            Start::Now if follower.joined_at > 0 => follower.joined_at,
            Start::Now => visible.last + 1,
            Start::Last(count) => (visible.last + 1).saturating_sub(count),
            Start::After { generation: other, .. } if other != generation => 1,
            Start::After { seq, .. } => seq.saturating_add(1),
        };
        if wanted > visible.last + 1 && member.to == u64::MAX {
            return self.ahead(key, visible.last);
        }
        let asked_before = matches!(follower.start, Start::After { .. }) && wanted < visible.first;
        let start = wanted.max(visible.first);
        follower.cursor = start - 1;
        follower.until = member.to;
        follower.phase = Phase::Following;
        let id = follower.id;
        self.say_opened(key, id, rows, &visible, start);
        if asked_before {
            let joined_later = member.from > rows.conversation.first_kept;
            let why = if joined_later { skip::NOT_VISIBLE } else { skip::TRIMMED };
            self.streams[key].out.control(&Skip { to: start - 1, why });
        }
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.head = conversation.head.max(rows.conversation.head);
        }
        if let Some(companions) = &rows.companions {
            self.watch(key, companions);
        }
        self.release(key);
    }

    fn say_opened(&mut self, key: StreamKey, id: ConversationId, rows: &OpenRows, visible: &Visible, start: u64) {
        let present = self.conversations.get(&id).map_or(0, |conversation| conversation.followers.len() as u64);
        let at = self.streams[key].connection;
        let Some(user) = self.connections[at].user().cloned() else { return };
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
        });
        let opened = Opened {
            conversation: id,
            generation: self.shared.generation,
            first_kept: visible.first,
            head: visible.last,
            number: rows.conversation.number,
            start,
            role: visible.role,
            last_n: sends.last,
            outcomes: Items::encode(outcomes),
            read: rows.mark.seq,
            read_number: rows.mark.number.max(rows.member.map_or(0, |member| member.number)),
            name: reads::name(&rows.conversation.naming, &user),
            members: rows.conversation.members,
            present,
        };
        self.streams[key].out.control(&opened);
    }

    /// The cursor is ahead: this relay may yet come up to it.
    fn ahead(&mut self, key: StreamKey, head: u64) {
        let Some(follower) = self.streams[key].follower() else { return };
        let looks = match follower.phase {
            Phase::Ahead { looks: 0 } => return self.end(key, Code::BEHIND, head),
            Phase::Ahead { looks } => looks - 1,
            _ => LOOKS_AHEAD,
        };
        follower.phase = Phase::Ahead { looks };
        self.ahead.push(key);
    }

    fn watch(&mut self, key: StreamKey, companions: &[Known]) {
        let at = self.streams[key].connection;
        if let Some(follower) = self.streams[key].follower() {
            follower.watching = Some(companions.iter().map(|(user, _)| user.clone()).collect());
        }
        for (user, stored) in companions {
            if !self.streams.contains_key(key) {
                return;
            }
            self.roster.watch(user, at);
            self.tell(at, &presence(user, self.presence_of(user, *stored)));
        }
    }

    /// Ends a stream with a last frame that says why.
    pub(super) fn end(&mut self, key: StreamKey, code: Code, info: u64) {
        let mut last = Vec::new();
        encode_end(code, info, &mut last);
        self.streams[key].out.control_bytes(&last);
        self.end_quietly(key);
    }

    /// Ends a stream and says how many milliseconds to wait before the same again.
    pub(super) fn end_after(&mut self, key: StreamKey, code: Code, retry_after: u64) {
        self.streams[key].out.control(&End { code, retry_after, info: 0, text: &code.to_string() });
        self.end_quietly(key);
    }

    /// Ends a stream after what is to be written.
    pub(super) fn end_quietly(&mut self, key: StreamKey) {
        self.detach(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.role = Role::Ending;
        stream.held = false;
        self.pump(key);
    }

    /// Takes a follower off its conversation.
    pub(super) fn detach(&mut self, key: StreamKey) {
        if let Some(follower) = self.streams.get_mut(key).and_then(Stream::follower) {
            // A newer one does not wait until an older one was read for.
            follower.marking = false;
        }
        self.submit_mark(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let at = stream.connection;
        let Some(connection) = self.connections.get_mut(at) else { return };
        connection.turns.forget(key);
        let Role::Conversation(follower) = std::mem::replace(&mut stream.role, Role::Ending) else { return };
        connection.open.retain(|(_, open)| *open != key);
        let user = connection.user().cloned();
        let device = connection.session.as_ref().map(|session| session.device);
        if let (Some(user), Some(device)) = (user, device) {
            let sender = (follower.id, user, device);
            if self.senders.get(&sender) == Some(&key) {
                self.senders.remove(&sender);
            }
        }
        follower.watching.iter().flatten().for_each(|user| self.roster.unwatch(user, at));
        self.leave_conversation(follower.id, key);
    }

    fn leave_conversation(&mut self, id: ConversationId, key: StreamKey) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.followers.retain(|follower| *follower != key);
        // Who stood behind the one that left has moved up: everyone gets another look.
        conversation.left = conversation.followers.len();
        if conversation.followers.is_empty() {
            self.ring_bytes -= conversation.ring.bytes();
            self.conversations.remove(&id);
        }
    }
}

/// What a member may see of a conversation.
struct Visible {
    first: u64,
    last: u64,
    role: u8,
}

impl Visible {
    fn new(rows: &OpenRows, member: &quip_core::MemberRecord) -> Self {
        Self {
            first: member.from.max(rows.conversation.first_kept),
            last: member.to.min(rows.conversation.head),
            role: if member.state == quip_core::MemberState::Member { member.role } else { 0 },
        }
    }
}

fn id_of(target: &Target<'_>, user: &UserId) -> ConversationId {
    match target {
        Target::Id(id) | Target::NewGroup(id) => *id,
        Target::Direct(other) => ConversationId::direct(user, other),
        Target::Room(name) => ConversationId::room(name),
    }
}

fn join_as(target: &Target<'_>) -> JoinAs {
    match target {
        Target::Id(_) => JoinAs::Existing,
        Target::Direct(other) => JoinAs::Direct(other.clone()),
        Target::Room(name) => JoinAs::Room(name.as_str().to_owned()),
        Target::NewGroup(_) => JoinAs::NewGroup,
    }
}
