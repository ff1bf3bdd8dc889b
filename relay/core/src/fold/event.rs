//! The event that a command is about.

use bytes::Bytes;
use quip_protocol::{Blob, Code, Event, UserId, event, frame, limit};

use super::step::Step;
use crate::{EventRow, MemberRow};

/// A stored text or data event that the actor may see.
pub(super) struct Target {
    seq: u64,
    number: u64,
    at: u64,
    user: UserId,
}

impl Target {
    /// Looks at the event with this seq.
    ///
    /// # Errors
    /// `NO_TARGET` when it is not there for this member, or is no message (any more).
    pub(super) fn find(step: &Step<'_>, member: &MemberRow, seq: u64) -> Result<Self, Code> {
        let conversation = step.conversation();
        let first = member.from.max(conversation.first_kept);
        if !(first..=conversation.head).contains(&seq) {
            return Err(Code::NO_TARGET);
        }
        let row = step.rows.event.as_ref().ok_or(Code::NO_TARGET)?;
        let event = decode(row)?;
        if event.seq != seq {
            return Err(Code::STORED_DAMAGED);
        }
        if !event::kind::counts(event.kind) {
            return Err(Code::NO_TARGET);
        }
        Ok(Self { seq, number: event.number, at: event.at, user: row.user.clone() })
    }

    pub(super) fn is_by(&self, user: &UserId) -> bool {
        self.user == *user
    }

    /// The frame that takes its place once the event `by` has deleted it.
    pub(super) fn tombstone(&self, by: u64) -> Bytes {
        let body = postcard::to_stdvec(&event::Tombstone { by }).expect("plain data serialises into a Vec");
        frame::to_bytes(&Event {
            seq: self.seq,
            number: self.number,
            at: self.at,
            user: self.user.as_str(),
            kind: event::kind::TOMBSTONE,
            body: Blob(&body),
        })
    }
}

fn decode(row: &EventRow) -> Result<Event<'_>, Code> {
    match frame::split(&row.frame, limit::FRAME) {
        Ok(Some((frame, used))) if used == row.frame.len() => {
            frame::decode::<Event<'_>>(frame.body).map_err(|_| Code::STORED_DAMAGED)
        }
        _ => Err(Code::STORED_DAMAGED),
    }
}
