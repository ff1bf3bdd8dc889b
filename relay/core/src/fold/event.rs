//! The event that a command is about.

use bytes::Bytes;
use quip_protocol::{Blob, Code, Event, UserId, event, event::kind, frame, limit};

use super::{loaded::Held, step::Step};
use crate::{EventRecord, MemberRecord, Origin};

/// A stored event with content: a message or an edit.
pub(super) struct Target {
    pub(super) kind: u64,
    pub(super) body: Bytes,
    user: UserId,
    origin: Origin,
}

impl Target {
    /// The message with this seq, which the acting `member` must see.
    ///
    /// # Errors
    /// `NO_TARGET` if they cannot see it, or it is not a message (any more).
    pub(super) fn message(step: &Step<'_>, member: &MemberRecord, seq: u64) -> Result<Self, Code> {
        let found = Self::content(step, member, seq)?;
        if member.sees(seq) && kind::counts(found.kind) { Ok(found) } else { Err(Code::NO_TARGET) }
    }

    /// The message or edit with this seq, which the acting `member` must see or have sent.
    ///
    /// # Errors
    /// `NO_TARGET` if it is neither (any more), or not for them; `STORED_DAMAGED` if another event is stored there.
    pub(super) fn content(step: &Step<'_>, member: &MemberRecord, seq: u64) -> Result<Self, Code> {
        let conversation = step.conversation();
        if !(conversation.first_kept..=conversation.head).contains(&seq) {
            return Err(Code::NO_TARGET);
        }
        let record = step.event.as_ref().and_then(Held::get);
        if !member.sees(seq) && record.is_none_or(|record| record.user != *step.user) {
            return Err(Code::NO_TARGET);
        }
        let record = record.ok_or(Code::STORED_DAMAGED)?;
        let event = decode(record)?;
        if event.seq != seq {
            return Err(Code::STORED_DAMAGED);
        }
        if !kind::counts(event.kind) && event.kind != kind::EDITED {
            return Err(Code::NO_TARGET);
        }
        let origin = Origin { seq, number: event.number, at: event.at, device: record.device, n: record.n };
        let body = record.frame.slice_ref(event.body.0);
        Ok(Self { kind: event.kind, body, user: record.user.clone(), origin })
    }

    pub(super) fn is_by(&self, user: &UserId) -> bool {
        self.user == *user
    }

    pub(super) fn number(&self) -> u64 {
        self.origin.number
    }

    /// The tombstones of this event and its `edits`, deleted by the event `by`.
    pub(super) fn tombstones<'a>(
        &'a self,
        edits: &'a [Origin],
        by: u64,
    ) -> impl Iterator<Item = (u64, EventRecord)> + use<'a> {
        let body = postcard::to_stdvec(&event::Tombstone { by }).expect("plain data serialises into a Vec");
        let places = std::iter::once(&self.origin).chain(edits);
        places.map(move |place| (place.seq, tombstone(place, &self.user, &body)))
    }
}

fn tombstone(place: &Origin, user: &UserId, body: &[u8]) -> EventRecord {
    let Origin { seq, number, at, device, n } = *place;
    let event = Event { seq, number, at, user: user.as_str(), kind: kind::TOMBSTONE, body: Blob(body) };
    EventRecord { user: user.clone(), device, n, frame: frame::to_bytes(&event) }
}

fn decode(record: &EventRecord) -> Result<Event<'_>, Code> {
    match frame::split(&record.frame, limit::FRAME) {
        Ok(Some((frame, used))) if used == record.frame.len() => {
            frame::decode::<Event<'_>>(frame.body).map_err(|_| Code::STORED_DAMAGED)
        }
        _ => Err(Code::STORED_DAMAGED),
    }
}
