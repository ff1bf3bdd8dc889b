//! The smallest sequencer: rows in maps, as the bytes they are stored as.

use std::collections::BTreeMap;

use bytes::Bytes;
use quip_core::{
    Action, Authority, By, Command, ConversationRow, EditsRow, Effect, EventRow, Folded, JoinAs, MarkRow, MemberRow,
    Policy, Rows, SendsRow, UserRow, command, fold, keys,
};
use quip_protocol::{
    Code, ConversationId, DeviceId, Event, RoomName, UserId, conversation::Outcome, event, frame, limit,
};

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

pub(crate) fn group() -> ConversationId {
    ConversationId::group([7; 15])
}

pub(crate) fn room() -> ConversationId {
    ConversationId::room(&RoomName::parse(ROOM).unwrap())
}

pub(crate) const ROOM: &str = "lobby:main";

/// Everything but moderating; rooms that it creates show who comes and goes.
pub(crate) const GRANTED: Authority = Authority {
    join: true,
    post: true,
    create: true,
    moderate: false,
    policy: Policy { history_open: false, joins_shown: true },
    group_members: 100,
};

pub(crate) fn text(body: &str) -> Action {
    Action::Post { kind: quip_protocol::event::kind::TEXT, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// An event, decoded and owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) user: UserId,
    pub(crate) kind: u64,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (frame, used) = frame::split(bytes, limit::FRAME).unwrap().unwrap();
        assert_eq!(used, bytes.len(), "one frame and nothing else");
        let event: Event<'_> = frame::decode(frame.body).unwrap();
        let Event { seq, number, at, kind, .. } = event;
        Self { seq, number, at, user: user(event.user), kind, body: event.body.0.to_vec() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Conversation(ConversationId),
    Member(ConversationId, String),
    Sends(ConversationId, String, DeviceId, u8),
    Event(ConversationId, u64),
    Edits(ConversationId, u64),
    Mark(ConversationId, String),
    User(String),
}

/// Rows as bytes, and the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) rows: BTreeMap<Key, Vec<u8>>,
    pub(crate) now: u64,
}

impl World {
    /// Folds one command and writes what it changed, checking what must hold for any command.
    pub(crate) fn apply(&mut self, command: &Command, at: u64) -> Folded {
        let before = self.load(command);
        let folded = fold(command, at, before.clone());
        check(command, &before, &folded);
        self.write(command, &folded);
        folded
    }

    /// A command of device 1 of `name` with its next number; its outcome.
    pub(crate) fn act(&mut self, id: ConversationId, name: &str, authority: Authority, action: Action) -> Outcome {
        self.act_with(id, name, 1, authority, action)
    }

    /// As [`Self::act`], with another device.
    pub(crate) fn act_with(
        &mut self,
        id: ConversationId,
        name: &str,
        of: u8,
        authority: Authority,
        action: Action,
    ) -> Outcome {
        let n = self.sends(id, name, of).map_or(0, |row| row.last) + 1;
        let by = By::Device { user: user(name), device: device(of), n };
        self.now += 1;
        let now = self.now;
        self.apply(&Command { conversation: id, by, authority, action }, now).outcome.expect("devices get an outcome")
    }

    /// As [`Self::act`], and it must be accepted.
    pub(crate) fn ok(&mut self, id: ConversationId, name: &str, action: Action) -> Outcome {
        let outcome = self.act(id, name, GRANTED, action.clone());
        assert_eq!(outcome.code, Code::DONE, "{name} {action:?}");
        outcome
    }

    /// As [`Self::act`], and it must be refused.
    pub(crate) fn refused(&mut self, id: ConversationId, name: &str, action: Action) -> Code {
        let outcome = self.act(id, name, GRANTED, action.clone());
        assert_ne!(outcome.code, Code::DONE, "{name} {action:?}");
        outcome.code
    }

    /// A relay's command.
    pub(crate) fn relay(&mut self, id: ConversationId, action: Action) -> Folded {
        self.apply(&Command { conversation: id, by: By::Relay, authority: Authority::default(), action }, 0)
    }

    /// A read mark.
    pub(crate) fn mark(&mut self, id: ConversationId, name: &str, seq: u64, number: u64) -> Folded {
        let by = By::Device { user: user(name), device: device(1), n: 0 };
        let action = Action::Mark { seq, number };
        self.apply(&Command { conversation: id, by, authority: Authority::default(), action }, 0)
    }

    pub(crate) fn group_of(&mut self, owner: &str, others: &[&str]) -> ConversationId {
        self.ok(group(), owner, Action::Join(JoinAs::NewGroup));
        for other in others {
            self.ok(group(), owner, Action::Add { user: user(other) });
        }
        group()
    }

    pub(crate) fn room_of(&mut self, users: &[&str]) -> ConversationId {
        for user in users {
            self.ok(room(), user, Action::Join(JoinAs::Room(ROOM.into())));
        }
        room()
    }

    pub(crate) fn direct_of(&mut self, a: &str, b: &str) -> ConversationId {
        let id = ConversationId::direct(&user(a), &user(b));
        self.ok(id, a, Action::Join(JoinAs::Direct(user(b))));
        id
    }

    pub(crate) fn conversation(&self, id: ConversationId) -> Option<ConversationRow> {
        self.rows.get(&Key::Conversation(id)).map(|bytes| ConversationRow::decode(bytes).unwrap())
    }

    pub(crate) fn member(&self, id: ConversationId, name: &str) -> Option<MemberRow> {
        self.rows.get(&Key::Member(id, name.into())).map(|bytes| MemberRow::decode(bytes).unwrap())
    }

    pub(crate) fn sends(&self, id: ConversationId, name: &str, number: u8) -> Option<SendsRow> {
        let key = |place| Key::Sends(id, name.into(), device(number), place);
        let parts: Vec<_> =
            self.rows.range(key(0)..=key(u8::MAX)).map(|(_, bytes)| SendsRow::decode(bytes).unwrap()).collect();
        (!parts.is_empty()).then(|| SendsRow::from_parts(parts).expect("the parts fit together"))
    }

    pub(crate) fn read_mark(&self, id: ConversationId, name: &str) -> Option<MarkRow> {
        self.rows.get(&Key::Mark(id, name.into())).map(|bytes| MarkRow::decode(bytes).unwrap())
    }

    pub(crate) fn user_row(&self, name: &str) -> Option<UserRow> {
        self.rows.get(&Key::User(name.into())).map(|bytes| UserRow::decode(bytes).unwrap())
    }

    pub(crate) fn event_row(&self, id: ConversationId, seq: u64) -> Option<EventRow> {
        self.rows.get(&Key::Event(id, seq)).map(|bytes| EventRow::decode(bytes).unwrap())
    }

    pub(crate) fn event(&self, id: ConversationId, seq: u64) -> Option<Seen> {
        self.event_row(id, seq).map(|row| Seen::read(&row.frame))
    }

    pub(crate) fn edits(&self, id: ConversationId, message: u64) -> Option<EditsRow> {
        self.rows.get(&Key::Edits(id, message)).map(|bytes| EditsRow::decode(bytes).unwrap())
    }

    fn load(&self, command: &Command) -> Rows {
        let (keys, id) = (keys(command), command.conversation);
        assert_eq!(keys.conversation, id);
        assert!(keys.target.is_none() || keys.target != keys.actor, "no row is loaded twice");
        let actor = keys.actor.map(UserId::as_str);
        Rows {
            conversation: self.conversation(id),
            actor: actor.and_then(|actor| self.member(id, actor)),
            target: keys.target.and_then(|target| self.member(id, target.as_str())),
            sends: keys.device.and_then(|device| self.sends(id, actor.expect("a device has a user"), device.0[0])),
            event: keys.event.and_then(|seq| self.event_row(id, seq)),
            edits: keys.edits.and_then(|message| self.edits(id, message)),
            user: keys.user.and_then(|user| self.user_row(user.as_str())),
            mark: if keys.mark { actor.and_then(|actor| self.read_mark(id, actor)) } else { None },
            damaged: false,
        }
    }

    fn write(&mut self, command: &Command, folded: &Folded) {
        let (mut written, mut count) = (0, 0);
        for (key, row) in writes(command, folded) {
            // The longest key, and what stands before an item in a journal.
            written += 128 + row.as_ref().map_or(0, Vec::len);
            count += 1;
            if matches!(key, Key::Member(..)) {
                // The row by user.
                written += 128;
                count += 1;
            }
            match row {
                Some(row) => {
                    let before = self.rows.insert(key.clone(), row);
                    let new =
                        folded.event.as_ref().is_some_and(|event| key == Key::Event(command.conversation, event.seq));
                    assert!(!new || before.is_none(), "an event is written once");
                    let replaced = matches!(key, Key::Event(..)) && !new;
                    assert!(!replaced || before.is_some(), "what was never there is not replaced");
                }
                None => assert!(self.rows.remove(&key).is_some()),
            }
        }
        assert!(count <= 256, "{count} rows");
        let weight = command.weight();
        assert!(written <= weight * command::WRITTEN, "{written} bytes for a weight of {weight}");
    }
}

/// The rows that a command writes; `None` for one that it removes.
fn writes(command: &Command, folded: &Folded) -> Vec<(Key, Option<Vec<u8>>)> {
    let (keys, id, changed, rows) = (keys(command), command.conversation, folded.changed, &folded.rows);
    let actor = || keys.actor.expect("changed rows have a key").as_str().to_owned();
    let mut writes = Vec::new();
    if changed.conversation {
        writes.push((Key::Conversation(id), Some(rows.conversation.as_ref().unwrap().encode())));
    }
    if changed.actor {
        writes.push((Key::Member(id, actor()), Some(rows.actor.unwrap().encode())));
    }
    if changed.target {
        let target = keys.target.expect("changed rows have a key").as_str().to_owned();
        writes.push((Key::Member(id, target), Some(rows.target.unwrap().encode())));
    }
    if changed.sends {
        let device = keys.device.expect("changed rows have a key");
        let sends = rows.sends.as_ref().unwrap();
        for (place, part) in sends.parts(sends.last - 1) {
            writes.push((Key::Sends(id, actor(), device, place), Some(part.encode())));
        }
    }
    if changed.edits {
        let message = keys.edits.expect("changed rows have a key");
        writes.push((Key::Edits(id, message), rows.edits.as_ref().map(EditsRow::encode)));
    }
    for effect in &folded.effects {
        if let Effect::Rewritten { seq, row } = effect {
            writes.push((Key::Event(id, *seq), Some(row.encode())));
        }
    }
    if changed.mark {
        writes.push((Key::Mark(id, actor()), Some(rows.mark.unwrap().encode())));
    }
    if changed.user {
        let user = keys.user.expect("changed rows have a key").as_str().to_owned();
        writes.push((Key::User(user), Some(rows.user.unwrap().encode())));
    }
    if let Some(event) = &folded.event {
        writes.push((Key::Event(id, event.seq), Some(event.row.encode())));
    }
    writes
}

/// What holds for any command.
fn check(command: &Command, before: &Rows, folded: &Folded) {
    let (after, changed) = (&folded.rows, folded.changed);
    // Unchanged rows come back as they were, so that a cache can take them.
    assert!(changed.conversation || after.conversation == before.conversation);
    assert!(changed.actor || after.actor == before.actor);
    assert!(changed.target || after.target == before.target);
    assert!(changed.sends || after.sends == before.sends);
    assert_eq!(after.event, before.event, "events are rewritten by effects");
    assert!(changed.edits || after.edits == before.edits);
    assert!(changed.mark || after.mark == before.mark);
    assert!(changed.user || after.user == before.user);
    assert_eq!(matches!(command.by, By::Device { n: 1.., .. }), folded.outcome.is_some());

    let head = before.conversation.as_ref().map_or(0, |row| row.head);
    let last_at = before.conversation.as_ref().map_or(0, |row| row.last_at);
    if let Some(row) = &after.conversation {
        assert_eq!(row.head, head + u64::from(folded.event.is_some()), "dense");
        assert!(row.last_at >= last_at, "time goes forward");
        assert!(row.first_kept >= 1 && row.first_kept <= row.head + 1);
        assert!(row.owners <= row.members && row.number <= row.head);
    }
    if let Some(event) = &folded.event {
        let seen = Seen::read(&event.row.frame);
        assert_eq!(
            (seen.seq, seen.number, seen.at, seen.kind),
            (event.seq, event.number, event.at, event.kind),
            "the frame says what the event is"
        );
        assert_eq!(event.seq, head + 1);
        let outcome = folded.outcome.expect("an event has a submitter");
        assert_eq!((outcome.seq, outcome.number, outcome.at), (event.seq, event.number, event.at));
        let By::Device { user, device, n } = &command.by else { panic!("relays write no events") };
        assert_eq!((&event.row.user, event.row.device, event.row.n), (user, *device, *n));
        assert_eq!(seen.user, *user);
    }
    for effect in &folded.effects {
        if let Effect::Rewritten { seq, row } = effect {
            let seen = Seen::read(&row.frame);
            assert_eq!((seen.seq, &seen.user, seen.kind), (*seq, &row.user, event::kind::TOMBSTONE));
            assert!(*seq >= after.conversation.as_ref().unwrap().first_kept, "what was trimmed does not come back");
        }
    }
    if folded.outcome.is_some_and(|outcome| outcome.code != Code::DONE) {
        assert!(folded.event.is_none() && folded.effects.is_empty(), "a refusal does nothing");
        assert_eq!(quip_core::Changed { sends: false, ..changed }, quip_core::Changed::default());
    }
}
