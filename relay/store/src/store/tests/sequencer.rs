//! What a sequencer does on a store that is damaged.

use std::{sync::mpsc, thread};

use quip_core::{Action, Authority, By, Command, JoinAs};
use quip_order::{Limits, Submit, embedded};
use quip_protocol::Code;

use super::*;
use crate::{Change, Committed, Sequencer, SequencerConfig, SequencerError, Sink};

/// Must not be told of anything.
struct Deaf(mpsc::Sender<()>);

impl Sink for Deaf {
    fn committed(&self, batch: &Arc<Committed>) {
        if !batch.changes.is_empty() {
            _ = self.0.send(());
        }
    }
}

fn join() -> Command {
    Command {
        conversation: id(),
        by: By::Device { user: ann(), device: DeviceId([1; 16]), n: 1 },
        authority: Authority { join: true, create: true, ..Authority::default() },
        action: Action::Join(JoinAs::Room("test:room".to_owned())),
    }
}

/// Passes on what was told.
struct Ears(mpsc::Sender<Vec<(ConversationId, Code)>>);

impl Sink for Ears {
    fn committed(&self, batch: &Arc<Committed>) {
        let code = |change: &Change| change.outcome.map(|outcome| (change.conversation, outcome.code));
        _ = self.0.send(batch.changes.iter().filter_map(code).collect());
    }
}

#[test]
fn a_damaged_row_refuses_the_commands_that_need_it_and_no_others() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let key = keys::conversation::encode(id());
    store.inner.spaces.conversations.handle.insert(key, b"\x01 no row").unwrap();
    store.inner.publish();
    let (submit, order) = embedded(Limits::default());
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::new(store, order, vec![Box::new(Ears(tell))], SequencerConfig::default());
    let other = ConversationId::room(&RoomName::parse("test:other").unwrap());
    let action = Action::Join(JoinAs::Room("test:other".to_owned()));
    submit.submit(join()).unwrap();
    submit.submit(Command { conversation: other, action, ..join() }).unwrap();
    submit.close();
    sequencer.run().unwrap();
    let told: Vec<_> = told.iter().flatten().collect();
    assert_eq!(told, [(id(), Code::STORED_DAMAGED), (other, Code::DONE)]);
}

/// The codes of commands of one device, numbered from 1, on a store in which `damage` was done before the last two.
fn after_damage(commands: Vec<Action>, damage: impl FnOnce(&Spaces)) -> Vec<Code> {
    let folder = folder();
    let (mut codes, mut n) = (Vec::new(), 0);
    let mut run = |actions: &[Action]| {
        let (submit, order) = embedded(Limits::default());
        let (tell, told) = mpsc::channel();
        let store = open(&folder).unwrap();
        let inner = store.inner.clone();
        let sequencer = Sequencer::new(store, order, vec![Box::new(Ears(tell))], SequencerConfig::default());
        for action in actions {
            n += 1;
            let by = By::Device { user: ann(), device: DeviceId([1; 16]), n };
            let authority = Authority { post: true, ..join().authority };
            submit.submit(Command { by, authority, action: action.clone(), ..join() }).unwrap();
        }
        submit.close();
        sequencer.run().unwrap();
        codes.extend(told.iter().flatten().map(|(_, code)| code));
        inner
    };
    let (before, after) = commands.split_at(commands.len() - 2);
    damage(&run(before).spaces);
    run(after);
    codes
}

#[test]
fn a_refusal_for_damage_uses_its_number_up_like_any_other() {
    let post = || Action::Post { kind: 1, body: "x".into() };
    let ben = || UserId::parse("ben").unwrap();
    type Case = (Action, fn(&Spaces));
    let cases: [Case; 5] = [
        (Action::Remove { user: ben(), ban: true }, |spaces| {
            let key = keys::member::encode(id(), &UserId::parse("ben").unwrap());
            spaces.members.handle.insert(key, b"no row").unwrap();
        }),
        (Action::Delete { target: 1 }, |spaces| {
            spaces.events.handle.insert(keys::event::encode(id(), 1), b"no row").unwrap();
        }),
        (Action::Edit { target: 1, body: "y".into() }, |spaces| {
            spaces.events.handle.remove(keys::event::encode(id(), 1)).unwrap();
        }),
        (Action::Edit { target: 1, body: "y".into() }, |spaces| {
            spaces.edits.handle.insert(keys::edits::encode(id(), 1), b"no row").unwrap();
        }),
        (Action::Delete { target: 1 }, |spaces| {
            spaces.edits.handle.insert(keys::edits::encode(id(), 1), b"no row").unwrap();
        }),
    ];
    let codes = after_damage(vec![join().action, post(), post(), post()], |spaces| {
        let key = keys::sends::encode(id(), DeviceId([1; 16]), &ann(), 0);
        spaces.sends.handle.insert(key, b"no row").unwrap();
    });
    let damaged = Code::STORED_DAMAGED;
    assert_eq!(codes, [Code::DONE, Code::DONE, damaged, damaged], "without the numbers nothing is recorded");
    for (action, damage) in cases {
        let codes = after_damage(vec![join().action, post(), action.clone(), post()], damage);
        assert_eq!(codes, [Code::DONE, Code::DONE, Code::STORED_DAMAGED, Code::DONE], "{action:?}");
    }
}

/// A damaged table makes a compaction fail, after which the engine takes no more commits.
#[test]
fn a_failed_commit_stops_the_sequencer() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let (inner, view) = (store.inner.clone(), store.view());
    let (submit, order) = embedded(Limits::default());
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::new(store, order, vec![Box::new(Deaf(tell))], SequencerConfig::default());
    let (events, key) = (&inner.spaces.events, keys::event::encode(id(), 1));
    for round in 0..8 {
        // Once the engine has noticed, it refuses these too.
        if events.handle.insert(key, format!("{round}")).is_ok() {
            flush(events);
        }
        if round == 0 {
            tables(events).iter().for_each(|table| flip(table, 40));
        }
    }
    while inner.database.persist(PersistMode::Buffer).is_ok() {
        thread::yield_now();
    }
    submit.submit(join()).unwrap();
    let error = sequencer.run().unwrap_err();
    assert!(matches!(&error, SequencerError::Commit(fjall::Error::Poisoned)), "{error}");
    assert!(told.recv().is_err() && view.conversation(id()).unwrap().is_none(), "nobody was told anything");
}

/// Commits a join and some messages and closes everything.
fn filled() -> TempDir {
    let folder = folder();
    let (submit, order) = embedded(Limits::default());
    let authority = Authority { post: true, ..join().authority };
    submit.submit(join()).unwrap();
    for n in 2..8 {
        let by = By::Device { user: ann(), device: DeviceId([1; 16]), n };
        let action = Action::Post { kind: 1, body: format!("message {n}").into() };
        submit.submit(Command { by, authority, action, ..join() }).unwrap();
    }
    submit.close();
    // One commit for each.
    let batch = quip_order::BatchLimit { commands: 1, ..Default::default() };
    let config = SequencerConfig { batch, ..SequencerConfig::default() };
    Sequencer::new(open(&folder).unwrap(), order, Vec::new(), config).run().unwrap();
    folder
}

/// Flips a bit of a message in the newest journal.
fn damage(folder: &TempDir) {
    let journal = folder.path().join("db/0.jnl");
    let bytes = fs::read(&journal).unwrap();
    flip(&journal, bytes.windows(9).position(|part| part == b"message 4").unwrap());
}

#[test]
fn a_table_that_has_what_the_journal_lost_is_refused() {
    let folder = filled();
    damage(&folder);
    assert_eq!(open(&folder).unwrap().lost.len(), 4, "the log has it");
    let folder = filled();
    flush(&open(&folder).unwrap().inner.spaces.sends);
    damage(&folder);
    let error = failure(&folder);
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains("a table of sends")), "{error}");
}

#[test]
fn what_may_be_flushed_before_it_is_synced_is_known() {
    let folder = folder();
    let config = StoreConfig { memtable_bytes: 2 << 20, log_bytes: 8 << 20, ..StoreConfig::default() };
    let store = Store::open(folder.path(), config).unwrap();
    let spaces = &store.inner.spaces;
    assert!(!spaces.may_flush(1 << 20) && spaces.may_flush(2 << 20));
    spaces.marks.handle.insert(b"key", vec![0; 1 << 20]).unwrap();
    assert!(!spaces.may_flush(1 << 19) && spaces.may_flush(1 << 20));
    drop(store);
    // The engine keeps the size that a store was made with.
    let store = Store::open(folder.path(), StoreConfig { memtable_bytes: 64 << 20, ..config }).unwrap();
    assert!(store.inner.spaces.may_flush(1 << 20));
}
