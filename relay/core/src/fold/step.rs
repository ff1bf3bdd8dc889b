//! One command on its way through the fold: its rows, and what has come of it so far.

use quip_protocol::{Code, ConversationId, DeviceId, Event, Kind, UserId, conversation::Outcome, event, frame};
use serde::Serialize;

use super::{Changed, Effect, Folded, NewEvent, Rows};
use crate::{Authority, ConversationRow, EventRow, MemberRow, MemberState, Recorded, Timestamp};

/// Accepted, with the place of the event that it became, or refused.
pub(super) type Verdict = Result<Placed, Code>;

/// The place of an event; zeros when no event was needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Placed {
    pub(super) seq: u64,
    pub(super) number: u64,
}

/// Accepted, and nothing for the others to see.
pub(super) const UNSEEN: Verdict = Ok(Placed { seq: 0, number: 0 });

pub(super) struct Step<'a> {
    pub(super) id: ConversationId,
    pub(super) authority: &'a Authority,
    pub(super) user: &'a UserId,
    pub(super) device: DeviceId,
    pub(super) n: u64,
    pub(super) at: Timestamp,
    pub(super) rows: Rows,
    pub(super) changed: Changed,
    event: Option<NewEvent>,
    pub(super) effects: Vec<Effect>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        id: ConversationId,
        authority: &'a Authority,
        user: &'a UserId,
        device: DeviceId,
        n: u64,
        at: Timestamp,
        rows: Rows,
    ) -> Self {
        Self { id, authority, user, device, n, at, rows, changed: Changed::default(), event: None, effects: Vec::new() }
    }

    pub(super) fn finish(self, outcome: Outcome) -> Folded {
        Folded {
            rows: self.rows,
            changed: self.changed,
            event: self.event,
            outcome: Some(outcome),
            effects: self.effects,
        }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.id.kind() == Some(kind)
    }

    /// True for one who moderates this room.
    pub(super) fn moderates(&self) -> bool {
        self.is(Kind::Room) && self.authority.moderate
    }

    /// The conversation.
    ///
    /// # Panics
    /// When there is none: only for code behind [`Self::member`] or [`Self::create`].
    pub(super) fn conversation(&self) -> &ConversationRow {
        self.rows.conversation.as_ref().expect("a conversation that has members exists")
    }

    /// The conversation, about to change.
    ///
    /// # Panics
    /// As [`Self::conversation`].
    pub(super) fn change(&mut self) -> &mut ConversationRow {
        self.changed.conversation = true;
        self.rows.conversation.as_mut().expect("a conversation that has members exists")
    }

    /// The acting user's membership. One who never was a member is told the same whether the
    /// conversation exists or not.
    pub(super) fn member(&self) -> Result<MemberRow, Code> {
        match self.rows.actor {
            Some(row) if self.rows.conversation.is_some() => match row.state {
                MemberState::Member => Ok(row),
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

    /// Writes an event: the one place where seqs and message numbers are given out.
    pub(super) fn append_raw(&mut self, kind: u64, body: &[u8]) -> Placed {
        debug_assert!(self.event.is_none(), "a command becomes at most one event");
        let (user, device, n, at) = (self.user, self.device, self.n, self.at);
        let conversation = self.change();
        conversation.head += 1;
        conversation.number += u64::from(event::kind::counts(kind));
        conversation.last_at = at;
        let (seq, number) = (conversation.head, conversation.number);
        let event = Event { seq, number, at, user: user.as_str(), kind, body: quip_protocol::Blob(body) };
        let row = EventRow { user: user.clone(), device, n, frame: frame::to_bytes(&event) };
        self.event = Some(NewEvent { seq, number, at, kind, row });
        Placed { seq, number }
    }

    /// A membership that begins with the event at `placed`, or unseen after the head.
    pub(super) fn begin(&mut self, user: &UserId, role: u8, placed: Placed) -> MemberRow {
        let at = self.at;
        let conversation = self.change();
        conversation.members += 1;
        conversation.owners += u64::from(role == event::role::OWNER);
        let first = if placed.seq > 0 { placed.seq } else { conversation.head + 1 };
        let from = if conversation.policy.history_open { 1 } else { first };
        // The event of a join never counts as unread, so the number after it is the one before it.
        let number = conversation.number;
        self.effects.push(Effect::Visible { user: user.clone(), from, to: u64::MAX, role });
        MemberRow { state: MemberState::Member, role, from, to: u64::MAX, number, at }
    }

    /// The end of a membership with the event at `placed`, or unseen at the head.
    pub(super) fn end(&mut self, user: &UserId, row: MemberRow, state: MemberState, placed: Placed) -> MemberRow {
        let at = self.at;
        let conversation = self.change();
        conversation.members = conversation.members.checked_sub(1).expect("a member was counted");
        let owner = u64::from(row.role == event::role::OWNER);
        conversation.owners = conversation.owners.checked_sub(owner).expect("an owner was counted");
        let to = if placed.seq > 0 { placed.seq } else { conversation.head };
        self.effects.push(Effect::Visible { user: user.clone(), from: row.from, to, role: 0 });
        MemberRow { state, to, at, ..row }
    }
}

/// What is remembered of a verdict.
pub(super) fn record(verdict: Verdict, at: Timestamp, hash: u64) -> Recorded {
    let (code, placed) = match verdict {
        Ok(placed) => (Code::DONE, placed),
        Err(code) => (code, Placed::default()),
    };
    debug_assert!(code == Code::DONE || code.decides(), "{code:?} says that the number is not used up");
    Recorded { code, seq: placed.seq, number: placed.number, at, hash }
}
