//! The state of one command while it is folded: its records and its effects so far.

use quip_protocol::{Blob, Code, ConversationId, DeviceId, Event, Kind, UserId, conversation::Outcome, event, frame};
use serde::Serialize;

use super::{Effect, Folded, Loaded, NewEvent, Write, about, loaded::Held};
use crate::{
    Action, Authority, Command, ConversationRecord, EditsRecord, EventRecord, MarkRecord, MemberRecord, MemberState,
    Naming, Parting, ReactionsRecord, Recorded, SendsRecord, Timestamp,
    record::{
        ConversationKey, EditsKey, EventKey, MarkKey, MemberKey, MembershipKey, MembershipRecord, ReactionsKey,
        SendsKey,
    },
};

/// Accepted, with the place of the event that it became, or refused.
pub(super) type Verdict = Result<Placed, Code>;

/// The place of an event; zeros when no event was needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Placed {
    pub(super) seq: u64,
    pub(super) number: u64,
}

/// Accepted without an event.
pub(super) const UNSEEN: Verdict = Ok(Placed { seq: 0, number: 0 });

pub(super) struct Step<'a> {
    pub(super) id: ConversationId,
    pub(super) authority: &'a Authority,
    pub(super) user: &'a UserId,
    pub(super) device: DeviceId,
    pub(super) n: u64,
    /// Never earlier than the conversation's newest event.
    pub(super) at: Timestamp,
    pub(super) is_damaged: bool,
    conversation: Held<ConversationRecord>,
    actor: Held<MemberRecord>,
    /// The user that the command is about, if that is not the actor.
    target: Option<(&'a UserId, Held<MemberRecord>)>,
    pub(super) sends: Held<SendsRecord>,
    /// How far the actor has read, if the command is a message.
    mark: Option<Held<MarkRecord>>,
    /// The event that the command is about.
    pub(super) event: Option<Held<EventRecord>>,
    pub(super) edits: Option<Held<EditsRecord>>,
    pub(super) reactions: Option<Held<ReactionsRecord>>,
    new_event: Option<NewEvent>,
    pub(super) effects: Vec<Effect>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        command: &'a Command,
        user: &'a UserId,
        device: DeviceId,
        n: u64,
        at: Timestamp,
        mut loaded: Loaded,
    ) -> Self {
        let (id, about) = (command.conversation, about(&command.action));
        let conversation = loaded.take::<ConversationRecord>(ConversationKey(id));
        let at = conversation.get().map_or(at, |conversation| at.max(conversation.last_at));
        let target = about.user.filter(|target| *target != user);
        Self {
            id,
            authority: &command.authority,
            user,
            device,
            n,
            at,
            is_damaged: loaded.is_damaged,
            conversation,
            actor: loaded.take(MemberKey(id, user.clone())),
            target: target.map(|target| (target, loaded.take(MemberKey(id, target.clone())))),
            sends: loaded.take(SendsKey(id, device, user.clone())),
            mark: matches!(command.action, Action::Post { .. }).then(|| loaded.take(MarkKey(user.clone(), id))),
            event: about.event.map(|seq| loaded.take(EventKey(id, seq))),
            edits: about.edits.map(|seq| loaded.take(EditsKey(id, seq))),
            reactions: about.reactions.map(|seq| loaded.take(ReactionsKey(id, seq))),
            new_event: None,
            effects: Vec::new(),
        }
    }

    pub(super) fn finish(self, outcome: Outcome) -> Folded {
        let (mut writes, mut unchanged) = (Vec::with_capacity(6), Vec::with_capacity(4));
        if let Some(event) = &self.new_event {
            writes.push((EventKey(self.id, event.seq).into(), Some(event.record.clone().into())));
        }
        for effect in &self.effects {
            if let Effect::Rewritten { seq, record } = effect {
                writes.push((EventKey(self.id, *seq).into(), Some(record.clone().into())));
            }
        }
        writes.extend(membership(self.id, self.user, &self.actor));
        writes.extend(self.target.iter().filter_map(|(user, held)| membership(self.id, user, held)));
        self.conversation.put(&mut writes, &mut unchanged);
        self.actor.put(&mut writes, &mut unchanged);
        self.sends.put(&mut writes, &mut unchanged);
        if let Some(mark) = self.mark {
            mark.put(&mut writes, &mut unchanged);
        }
        if let Some((_, target)) = self.target {
            target.put(&mut writes, &mut unchanged);
        }
        if let Some(edits) = self.edits {
            edits.put(&mut writes, &mut unchanged);
        }
        if let Some(reactions) = self.reactions {
            reactions.put(&mut writes, &mut unchanged);
        }
        Folded { writes, unchanged, event: self.new_event, outcome: Some(outcome), effects: self.effects }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.id.kind() == Some(kind)
    }

    /// True if the submitter moderates this room.
    pub(super) fn moderates(&self) -> bool {
        self.is(Kind::Room) && self.authority.moderate
    }

    pub(super) fn exists(&self) -> bool {
        self.conversation.get().is_some()
    }

    /// The conversation.
    ///
    /// # Panics
    /// If there is none. Call it only after [`Self::member`] or [`Self::create`].
    pub(super) fn conversation(&self) -> &ConversationRecord {
        self.conversation.get().expect("a conversation that has members exists")
    }

    /// The conversation, marked as changed.
    ///
    /// # Panics
    /// As [`Self::conversation`].
    pub(super) fn change(&mut self) -> &mut ConversationRecord {
        self.conversation.change().as_mut().expect("a conversation that has members exists")
    }

    pub(super) fn create(&mut self, conversation: ConversationRecord) {
        debug_assert!(!self.exists(), "a conversation is created once");
        self.conversation.set(conversation);
    }

    /// The acting user's membership, present or past.
    pub(super) fn actor(&self) -> Option<&MemberRecord> {
        self.actor.get()
    }

    /// The membership, present or past, of the user that the command is about, who may be the actor.
    pub(super) fn membership(&self, user: &UserId) -> Option<&MemberRecord> {
        match &self.target {
            Some((target, held)) if *target == user => held.get(),
            _ => self.actor(),
        }
    }

    pub(super) fn set_membership(&mut self, user: &UserId, member: MemberRecord) {
        match &mut self.target {
            Some((target, held)) if *target == user => held.set(member),
            _ => self.actor.set(member),
        }
    }

    /// The acting user's membership. `NOT_FOUND` for a user who never was a member.
    pub(super) fn member(&self) -> Result<&MemberRecord, Code> {
        match self.actor() {
            Some(member) if self.exists() => match member.state {
                MemberState::Member => Ok(member),
                MemberState::Left => Err(Code::NOT_A_MEMBER),
                MemberState::Banned => Err(Code::BANNED),
            },
            _ => Err(Code::NOT_FOUND),
        }
    }

    /// Writes an event whose body is a message.
    pub(super) fn append(&mut self, kind: u64, body: &impl Serialize) -> Placed {
        let body = postcard::to_stdvec(body).expect("plain data serialises into a Vec");
        self.append_raw(kind, &body)
    }

    /// Writes an event. The only place that assigns seqs and message numbers.
    pub(super) fn append_raw(&mut self, kind: u64, body: &[u8]) -> Placed {
        debug_assert!(self.new_event.is_none(), "a command becomes at most one event");
        let (user, device, n, at) = (self.user, self.device, self.n, self.at);
        let conversation = self.change();
        conversation.head += 1;
        conversation.number += u64::from(event::kind::counts(kind));
        conversation.last_at = at;
        let (seq, number) = (conversation.head, conversation.number);
        let event = Event { seq, number, at, user: user.as_str(), kind, body: Blob(body) };
        let record = EventRecord { user: user.clone(), device, n, frame: frame::to_bytes(&event) };
        self.new_event = Some(NewEvent { seq, number, at, kind, record });
        Placed { seq, number }
    }

    /// The acting member has read what they just said.
    pub(super) fn read_own(&mut self, Placed { seq, .. }: Placed) {
        let Self { conversation, actor, mark, .. } = self;
        let (Some(conversation), Some(member), Some(mark)) = (conversation.get(), actor.get(), mark) else { return };
        let mark = mark.change().get_or_insert_default();
        mark.say(seq, conversation, member);
        let (seq, number) = (mark.seq, mark.read_number(conversation, member));
        self.effects.push(Effect::Marked { user: self.user.clone(), seq, number });
    }

    /// Begins a membership with the event at `placed`, or without an event after the head. What the user could see before
    /// stays visible to them.
    pub(super) fn begin(&mut self, user: &UserId, role: u8, placed: Placed) {
        let at = self.at;
        let conversation = self.change();
        conversation.members += 1;
        conversation.owners += u64::from(role == event::role::OWNER);
        let first = if placed.seq > 0 { placed.seq } else { conversation.head + 1 };
        let from = if conversation.policy.history_open { 1 } else { first };
        // The event of a join never counts as unread, so the number after it is the one before it.
        let (number, first_kept) = (conversation.number, conversation.first_kept);
        let before = self.membership(user);
        let earlier = before.map_or_else(Vec::new, |member| member.still_visible(from, first_kept));
        let name = self.conversation().naming.shown(user).to_owned();
        self.effects.push(Effect::Visible { user: user.clone(), from, to: u64::MAX, role, name });
        let (state, parting) = (MemberState::Member, Parting::default());
        self.set_membership(user, MemberRecord { state, role, from, to: u64::MAX, number, at, parting, earlier });
    }

    /// Ends the membership of a present member with the event at `placed`, or without an event at the head.
    pub(super) fn end(&mut self, user: &UserId, state: MemberState, placed: Placed) {
        let Some(member) = self.membership(user).cloned() else { return };
        let at = self.at;
        let conversation = self.change();
        conversation.members = conversation.members.checked_sub(1).expect("a member was counted");
        let owner = u64::from(member.role == event::role::OWNER);
        conversation.owners = conversation.owners.checked_sub(owner).expect("an owner was counted");
        let to = if placed.seq > 0 { placed.seq } else { conversation.head };
        let title = if let Naming::Group(title) = &conversation.naming { title.clone() } else { String::new() };
        let parting = Parting { number: conversation.number, title };
        let name = self.conversation().naming.shown(user).to_owned();
        self.effects.push(Effect::Visible { user: user.clone(), from: member.from, to, role: 0, name });
        self.set_membership(user, MemberRecord { state, to, at, parting, ..member });
    }
}

/// Updates the membership record by user.
fn membership(id: ConversationId, user: &UserId, held: &Held<MemberRecord>) -> Option<Write> {
    let present = held.get().filter(|member| member.state == MemberState::Member);
    let record = present.map(|member| MembershipRecord { role: member.role }.into());
    held.is_changed().then(|| (MembershipKey(user.clone(), id).into(), record))
}

/// The outcome to record for a verdict.
pub(super) fn record(verdict: Verdict, at: Timestamp, hash: u64) -> Recorded {
    let (code, placed) = match verdict {
        Ok(placed) => (Code::DONE, placed),
        Err(code) => (code, Placed::default()),
    };
    debug_assert!(code == Code::DONE || code.decides(), "{code:?} says that the number is not used up");
    Recorded { code, seq: placed.seq, number: placed.number, at, hash }
}
