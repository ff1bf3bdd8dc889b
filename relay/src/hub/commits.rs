//! What follows from a committed batch.

use quip_core::Effect;
use quip_protocol::{
    ConversationId, UserId,
    conversation::Outcome,
    event::{kind, role},
    session::Marked,
};
use quip_store::{Change, Committed};

use super::{
    Hub,
    about::{About, changed_without_event},
    keys::StreamKey,
    port::Port,
    rooms::{Decided, Watching},
};

/// The user whom a change added to a group.
fn added(change: &Change) -> Option<&UserId> {
    change.event.as_ref().filter(|event| event.kind == kind::ADDED)?;
    change.effects.iter().find_map(|effect| match effect {
        Effect::Visible { user, .. } => Some(user),
        _ => None,
    })
}

impl<P: Port> Hub<P> {
    /// A batch is durable.
    pub(super) fn committed(&mut self, batch: &Committed) {
        self.rooms.in_epoch(batch.cache_epoch);
        // Each is written to once, after all of the batch.
        let mut answered = Vec::new();
        for change in &batch.changes {
            if let Some(event) = &change.event {
                self.people.event(change.conversation, event, self.now);
                self.rooms.event(change.conversation, event);
            }
            if let Some(outcome) = &change.outcome {
                answered.extend(self.decided(change, outcome));
            }
            for effect in &change.effects {
                self.effect(change, effect);
            }
            self.links.settle_addition(change.conversation, &change.by, added(change), self.now);
        }
        answered.sort_unstable();
        answered.dedup();
        answered.into_iter().for_each(|stream| self.pump(stream));
    }

    /// A command is decided. Gives the stream that carried it, if it has something to say.
    fn decided(&mut self, change: &Change, outcome: &Outcome) -> Option<StreamKey> {
        let links = &self.links;
        match self.rooms.outcome(change, outcome, |stream| links.is_blocked(stream))? {
            Decided::Opening(stream, opening) => self.go_on_opening(stream, opening),
            Decided::Answered(stream) => return Some(stream),
        }
        None
    }

    fn effect(&mut self, change: &Change, effect: &Effect) {
        let conversation = change.conversation;
        match effect {
            Effect::Visible { user, to, role, name, .. } => {
                self.membership(conversation, user, *to);
                self.tell_changed(change, user, *role, name);
            }
            Effect::Touched { user, other } => self.tell_changed(change, user, role::MEMBER, other.as_str()),
            Effect::Marked { user, seq, number } => {
                // What they said themselves, where it is open, comes on its stream.
                let told = match &change.event {
                    Some(_) => self.elsewhere(user, conversation),
                    None => self.people.connections(user),
                };
                let marked = Marked { conversation, seq: *seq, number: *number };
                told.into_iter().for_each(|at| self.tell(at, &marked));
            }
            Effect::Seen { user, at } => self.people.written(user, *at),
            Effect::Rewritten { seq, record } => {
                self.rooms.rewritten(conversation, *seq, &record.frame);
                self.people.deleted(conversation, *seq);
            }
            // What is given up is not read any more: openings and pages look at the conversation's record.
            Effect::Trimmed { .. } => {}
        }
    }

    /// Notifies a user of a change, where they do not have the conversation open.
    fn tell_changed(&mut self, change: &Change, user: &UserId, role: u8, name: &str) {
        let id = change.conversation;
        let told = self.elsewhere(user, id);
        if told.is_empty() {
            return;
        }
        let about = change.event.as_ref().map(About::new);
        let without_event = || changed_without_event(id, role, name);
        let changed = about.as_ref().map_or_else(without_event, |about| about.changed(id, role, name));
        told.into_iter().for_each(|at| self.tell(at, &changed));
    }

    /// A user may see a conversation up to event `to` from now on; `u64::MAX` for a present member.
    fn membership(&mut self, id: ConversationId, user: &UserId, to: u64) {
        let present = to == u64::MAX;
        if !present {
            let connections = self.people.connections(user).into_iter();
            let theirs: Vec<_> = connections.filter_map(|at| self.links.stream_of(at, id)).collect();
            self.rooms.membership_ended(id, &theirs, to);
        }
        for change in self.rooms.members_changed(id, user, present) {
            match change {
                Watching::Also(at, user) => {
                    let now = self.people.watch(&user, at, 0, self.time());
                    self.tell(at, &now.message(&user));
                }
                Watching::NoLonger(at, users) => self.people.unwatch(&users, at),
            }
        }
        self.people.members_changed(id);
    }
}
