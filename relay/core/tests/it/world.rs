//! The smallest sequencer: records in a map, as the bytes that they are stored as.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quip_core::{
    Action, Authority, By, Command, ConversationRecord, EditsRecord, Effect, EventRecord, Folded, JoinAs, Key, Kind,
    Loaded, MarkRecord, MemberRecord, Naming, Policy, ReactionsRecord, SendsRecord, UserRecord, fold, keys,
    record::{ConversationKey, EditsKey, EventKey, MarkKey, MemberKey, ReactionsKey, SendsKey, UserKey, behind},
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
    add: true,
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

/// What is stored, and the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) stored: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) now: u64,
}

impl World {
    /// Folds one command and writes what it changed, checking what must hold for any command.
    pub(crate) fn apply(&mut self, command: &Command, at: u64) -> Folded {
        let folded = fold(command, at, self.load(command));
        check(command, self, &folded);
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
        let n = self.sends(id, name, of).map_or(0, |sends| sends.last) + 1;
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

    /// The record under a key.
    pub(crate) fn get<K: Kind>(&self, key: K::Key) -> Option<K> {
        let key = K::key(&key);
        if K::PARTS == 0 {
            return self.stored.get(&key).map(|value| K::decode(value).unwrap());
        }
        let parts = self.stored.range(key.clone()..behind(&key)).map(|(_, value)| K::decode(value).unwrap());
        let parts: Vec<_> = parts.collect();
        (!parts.is_empty()).then(|| K::join(parts).expect("the parts fit together"))
    }

    pub(crate) fn conversation(&self, id: ConversationId) -> Option<ConversationRecord> {
        self.get(ConversationKey(id))
    }

    pub(crate) fn member(&self, id: ConversationId, name: &str) -> Option<MemberRecord> {
        self.get(MemberKey(id, user(name)))
    }

    pub(crate) fn sends(&self, id: ConversationId, name: &str, number: u8) -> Option<SendsRecord> {
        self.get(SendsKey(id, device(number), user(name)))
    }

    pub(crate) fn read_mark(&self, id: ConversationId, name: &str) -> Option<MarkRecord> {
        self.get(MarkKey(user(name), id))
    }

    pub(crate) fn user_record(&self, name: &str) -> Option<UserRecord> {
        self.get(UserKey(user(name)))
    }

    pub(crate) fn event_record(&self, id: ConversationId, seq: u64) -> Option<EventRecord> {
        self.get(EventKey(id, seq))
    }

    pub(crate) fn event(&self, id: ConversationId, seq: u64) -> Option<Seen> {
        self.event_record(id, seq).map(|record| Seen::read(&record.frame))
    }

    pub(crate) fn edits(&self, id: ConversationId, message: u64) -> Option<EditsRecord> {
        self.get(EditsKey(id, message))
    }

    pub(crate) fn reactions(&self, id: ConversationId, message: u64) -> Option<ReactionsRecord> {
        self.get(ReactionsKey(id, message))
    }

    /// Keys of every record of a kind.
    pub(crate) fn keys_of<K: Kind>(&self) -> Vec<K::Key> {
        let stored = self.stored.keys().filter(|key| key[0] == K::NUMBER);
        stored.map(|key| K::read_key(key).expect("a key of its kind")).collect()
    }

    fn load(&self, command: &Command) -> Loaded {
        let keys = keys(command);
        assert!(keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "no record is loaded twice");
        let load = |key: Key| {
            let stored = key.encode();
            let values: Vec<_> = match key.is_in_parts() {
                true => self.stored.range(stored.clone()..behind(&stored)).map(|(_, value)| value).collect(),
                false => self.stored.get(&stored).into_iter().collect(),
            };
            let record = key.decode(&values).unwrap();
            (key, record)
        };
        Loaded::new(keys.into_iter().map(load).collect())
    }

    fn write(&mut self, command: &Command, folded: &Folded) {
        let written: BTreeSet<_> = folded.writes.iter().map(|(key, _)| key).collect();
        assert!(written.len() == folded.writes.len() && written.len() <= 256, "{} writes", folded.writes.len());
        let mut bytes = 0;
        for (key, record) in &folded.writes {
            let Some(record) = record else {
                let removed = key.stored_keys().iter().filter(|stored| self.stored.remove(*stored).is_some()).count();
                assert!(removed > 0 || matches!(key, Key::Membership(_)));
                bytes += 128;
                continue;
            };
            record.encode(key, 1, |stored, value| {
                bytes += stored.len() + value.len();
                let before = self.stored.insert(stored.to_vec(), value.to_vec());
                let Key::Event(EventKey(_, seq)) = key else { return };
                let is_new = folded.event.as_ref().is_some_and(|event| event.seq == *seq);
                assert_eq!(is_new, before.is_none(), "an event is written once, and replaced only by a tombstone");
            });
        }
        let weight = command.weight();
        assert!(bytes <= weight * WRITTEN, "{bytes} bytes for a weight of {weight}");
    }
}

/// Bytes that a command writes at most for each byte of its weight.
const WRITTEN: usize = 16;

/// What holds for any command.
fn check(command: &Command, before: &World, folded: &Folded) {
    for (key, record) in &folded.unchanged {
        let needed = keys(command).contains(key);
        assert!(needed && !folded.writes.iter().any(|(written, _)| written == key), "{key:?}");
        let stored = record.as_ref().map(|record| {
            let mut stored = Vec::new();
            record.encode(key, u64::MAX, |key, value| stored.push((key.to_vec(), value.to_vec())));
            stored
        });
        let is_the_same = stored.iter().flatten().all(|(key, value)| before.stored.get(key) == Some(value));
        assert!(is_the_same, "what was not changed comes back as it was, so that a cache can take it");
    }
    assert_eq!(matches!(command.by, By::Device { n: 1.., .. }), folded.outcome.is_some());
    let old = before.conversation(command.conversation);
    let head = old.as_ref().map_or(0, |old| old.head);
    let last_at = old.as_ref().map_or(0, |old| old.last_at);
    let had_owner = old.as_ref().is_some_and(|old| old.owners > 0);
    let now = written::<ConversationRecord>(folded, ConversationKey(command.conversation)).or(old);
    if let Some(now) = &now {
        let needs_owner = had_owner || matches!(now.naming, Naming::Group(_));
        assert!(!needs_owner || now.members == 0 || now.owners > 0, "an owner goes only if another is there");
        assert_eq!(now.head, head + u64::from(folded.event.is_some()), "dense");
        assert!(now.last_at >= last_at, "time goes forward");
        assert!(now.first_kept >= 1 && now.first_kept <= now.head + 1);
        assert!(now.owners <= now.members && now.number <= now.head);
    }
    if let Some(event) = &folded.event {
        let seen = Seen::read(&event.record.frame);
        let said = (event.seq, event.number, event.at, event.kind);
        assert_eq!((seen.seq, seen.number, seen.at, seen.kind), said, "the frame says what the event is");
        assert_eq!(event.seq, head + 1);
        let outcome = folded.outcome.expect("an event has a submitter");
        assert_eq!((outcome.seq, outcome.number, outcome.at), (event.seq, event.number, event.at));
        let By::Device { user, device, n } = &command.by else { panic!("relays write no events") };
        assert_eq!((&event.record.user, event.record.device, event.record.n), (user, *device, *n));
        assert_eq!(seen.user, *user);
        let key = EventKey(command.conversation, event.seq);
        assert_eq!(written::<EventRecord>(folded, key).as_ref(), Some(&event.record));
    }
    for effect in &folded.effects {
        match effect {
            Effect::Rewritten { seq, record } => {
                let seen = Seen::read(&record.frame);
                assert_eq!((seen.seq, &seen.user, seen.kind), (*seq, &record.user, event::kind::TOMBSTONE));
                assert!(*seq >= now.as_ref().unwrap().first_kept, "what was trimmed does not come back");
                let key = EventKey(command.conversation, *seq);
                assert_eq!(written::<EventRecord>(folded, key).as_ref(), Some(record));
            }
            Effect::Trimmed { from, until } => {
                assert!(from < until && *until == now.as_ref().unwrap().first_kept);
            }
            _ => {}
        }
    }
    if folded.outcome.is_some_and(|outcome| outcome.code != Code::DONE) {
        assert!(folded.event.is_none() && folded.effects.is_empty(), "a refusal does nothing");
        assert!(folded.writes.iter().all(|(key, _)| matches!(key, Key::Sends(_))));
    }
}

/// What a command wrote under a key.
pub(crate) fn written<K: Kind>(folded: &Folded, key: K::Key) -> Option<K> {
    let key = key.into();
    let (_, record) = folded.writes.iter().find(|(written, _)| *written == key)?;
    record.clone().and_then(K::of)
}

/// Whether a command changed a record of this kind.
pub(crate) fn changed<K: Kind>(folded: &Folded) -> bool {
    folded.writes.iter().any(|(key, _)| key.encode()[0] == K::NUMBER)
}
