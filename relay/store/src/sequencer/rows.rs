//! The rows that the sequencer works on.

use hashbrown::HashMap;
use quip_core::{
    Changed, ConversationRow, EditsRow, EventRow, Keys, MarkRow, MemberRow, MemberState, Rows, SendsRow, UserRow,
};
use quip_protocol::{ConversationId, DeviceId, UserId};

use super::{batch::Batch, table::Table};
use crate::{
    ReadError, View, keys,
    space::{Space, Spaces},
};

/// Rows in memory. Changes are visible to the commands that follow, and are written together.
pub(super) struct Working {
    conversations: Table<ConversationId, ConversationRow>,
    members: Table<(ConversationId, UserId), MemberRow>,
    sends: Table<(ConversationId, DeviceId, UserId), SendsRow>,
    marks: Table<(UserId, ConversationId), MarkRow>,
    users: Table<UserId, UserRow>,
    /// Events of this batch: new ones, and tombstones.
    events: HashMap<(ConversationId, u64), EventRow>,
    /// Edits of messages that this batch changed.
    edits: HashMap<(ConversationId, u64), Option<EditsRow>>,
    turnovers: u64,
}

/// Where the rows of a command are put back.
pub(super) struct Places {
    conversation: Option<usize>,
    actor: Option<usize>,
    target: Option<usize>,
    sends: Option<usize>,
    mark: Option<usize>,
    user: Option<usize>,
    edits: Option<u64>,
}

impl Working {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            conversations: Table::new(limit),
            members: Table::new(limit),
            sends: Table::new(limit),
            marks: Table::new(limit),
            users: Table::new(limit),
            events: HashMap::new(),
            edits: HashMap::new(),
            turnovers: 0,
        }
    }

    /// Makes room before a batch, and says how often that was needed so far. Rows of all kinds are forgotten together, so
    /// that this one number tells about all of them: those that were used at one number are here until it has gone up
    /// by two.
    pub(super) fn make_room(&mut self) -> u64 {
        let full = [
            self.conversations.is_full(),
            self.members.is_full(),
            self.sends.is_full(),
            self.marks.is_full(),
            self.users.is_full(),
        ];
        if full.contains(&true) {
            self.conversations.turn_over();
            self.members.turn_over();
            self.sends.turn_over();
            self.marks.turn_over();
            self.users.turn_over();
            self.turnovers += 1;
        }
        self.turnovers
    }

    /// Takes out the rows that a command needs; they must be put back. Of a damaged one the fold learns that it is.
    ///
    /// # Errors
    /// When the store fails, or the send numbers are damaged: without them nothing can be recorded.
    pub(super) fn take(&mut self, keys: &Keys<'_>, view: &View) -> Result<(Places, Rows), ReadError> {
        let (id, mut damaged) = (keys.conversation, false);
        let places = self.places(keys, view, &mut damaged)?;
        let event = keys.event.map(|seq| sound(self.event(id, seq, view), &mut damaged)).transpose()?;
        let edits = keys.edits.map(|message| sound(self.edits(id, message, view), &mut damaged)).transpose()?;
        let rows = Rows {
            conversation: places.conversation.and_then(|place| self.conversations.take(place)),
            actor: places.actor.and_then(|place| self.members.take(place)),
            target: places.target.and_then(|place| self.members.take(place)),
            sends: places.sends.and_then(|place| self.sends.take(place)),
            mark: places.mark.and_then(|place| self.marks.take(place)),
            user: places.user.and_then(|place| self.users.take(place)),
            event: event.flatten().flatten(),
            edits: edits.flatten().flatten(),
            damaged,
        };
        Ok((places, rows))
    }

    fn places(&mut self, keys: &Keys<'_>, view: &View, damaged: &mut bool) -> Result<Places, ReadError> {
        let id = keys.conversation;
        let sends = keys.actor.zip(keys.device).map(|(user, device)| {
            let read = |(id, device, user): &(_, _, UserId)| view.sends(*id, user, *device);
            self.sends.place((id, device, user.clone()), read)
        });
        let sends = sends.transpose()?;
        let mut member = |user: Option<&UserId>| {
            let read = |(id, user): &(_, UserId)| view.member(*id, user);
            user.map(|user| sound(self.members.place((id, user.clone()), read), damaged)).transpose()
        };
        let (actor, target) = (member(keys.actor)?.flatten(), member(keys.target)?.flatten());
        let mark = keys.actor.filter(|_| keys.mark).map(|user| {
            let read = |(user, id): &(UserId, _)| view.mark(user, *id);
            sound(self.marks.place((user.clone(), id), read), damaged)
        });
        let mark = mark.transpose()?.flatten();
        let user = keys.user.map(|user| sound(self.users.place(user.clone(), |user| view.user(user)), damaged));
        let user = user.transpose()?.flatten();
        let conversation = match keys.user {
            Some(_) => None,
            None => sound(self.conversations.place(id, |id| view.conversation(*id)), damaged)?,
        };
        Ok(Places { conversation, actor, target, sends, mark, user, edits: keys.edits })
    }

    fn event(&self, id: ConversationId, seq: u64, view: &View) -> Result<Option<EventRow>, ReadError> {
        self.events.get(&(id, seq)).map_or_else(|| view.event(id, seq), |row| Ok(Some(row.clone())))
    }

    fn edits(&self, id: ConversationId, message: u64, view: &View) -> Result<Option<EditsRow>, ReadError> {
        self.edits.get(&(id, message)).map_or_else(|| view.edits(id, message), |row| Ok(row.clone()))
    }

    pub(super) fn put_back(&mut self, id: ConversationId, places: Places, rows: Rows, changed: Changed) {
        if let Some(place) = places.conversation {
            self.conversations.put(place, rows.conversation, changed.conversation);
        }
        if let Some(place) = places.actor {
            self.members.put(place, rows.actor, changed.actor);
        }
        if let Some(place) = places.target {
            self.members.put(place, rows.target, changed.target);
        }
        if let Some(place) = places.sends {
            self.sends.put(place, rows.sends, changed.sends);
        }
        if let Some(place) = places.mark {
            self.marks.put(place, rows.mark, changed.mark);
        }
        if let Some(place) = places.user {
            self.users.put(place, rows.user, changed.user);
        }
        if let Some(message) = places.edits.filter(|_| changed.edits) {
            self.edits.insert((id, message), rows.edits);
        }
    }

    /// A new event, or what takes the place of one.
    pub(super) fn put_event(&mut self, id: ConversationId, seq: u64, row: &EventRow) {
        self.events.insert((id, seq), row.clone());
    }

    /// Deletes an event: whatever this batch would have written of it, and what is stored.
    pub(super) fn delete(&mut self, id: ConversationId, seq: u64, batch: &mut Batch, spaces: &Spaces) {
        self.events.remove(&(id, seq));
        batch.remove(&spaces.events.handle, &keys::event::encode(id, seq)[..]);
        self.edits.remove(&(id, seq));
        batch.remove(&spaces.edits.handle, &keys::edits::encode(id, seq)[..]);
    }

    /// Writes every change, each key once.
    pub(super) fn write(&mut self, batch: &mut Batch, spaces: &Spaces) {
        for ((id, seq), row) in self.events.drain() {
            put(batch, &spaces.events, &keys::event::encode(id, seq), Some(row.encode()));
        }
        for ((id, message), row) in self.edits.drain() {
            put(batch, &spaces.edits, &keys::edits::encode(id, message), row.map(|row| row.encode()));
        }
        self.conversations.finish(|id, row, _| {
            put(batch, &spaces.conversations, &keys::conversation::encode(*id), row.map(ConversationRow::encode));
        });
        self.members.finish(|(id, user), row, _| {
            put(batch, &spaces.members, &keys::member::encode(*id, user), row.map(MemberRow::encode));
            let present = row.filter(|row| row.state == MemberState::Member);
            let value = present.map(|row| keys::membership::value(row.role));
            put(batch, &spaces.members_by_user, &keys::membership::encode(user, *id), value);
        });
        // Each change is one number more, so only the parts of the latest ones are written.
        self.sends.finish(|(id, device, user), row, changes| {
            for (place, part) in row.iter().flat_map(|row| row.parts(row.last.saturating_sub(changes))) {
                put(batch, &spaces.sends, &keys::sends::encode(*id, *device, user, place), Some(part.encode()));
            }
        });
        self.marks.finish(|(user, id), row, _| {
            put(batch, &spaces.marks, &keys::mark::encode(user, *id), row.map(MarkRow::encode));
        });
        self.users.finish(|user, row, _| {
            put(batch, &spaces.users, &keys::user::encode(user), row.map(UserRow::encode));
        });
    }
}

/// What was read, unless it is damaged, which the operator is told.
fn sound<T>(read: Result<T, ReadError>, damaged: &mut bool) -> Result<Option<T>, ReadError> {
    match read {
        Err(error @ ReadError::Damaged { .. }) => {
            tracing::error!(%error, "a command is refused");
            *damaged = true;
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn put(batch: &mut Batch, space: &Space, key: &[u8], value: Option<impl AsRef<[u8]>>) {
    match value {
        Some(value) => batch.insert(&space.handle, key, value.as_ref()),
        None => batch.remove(&space.handle, key),
    }
}
