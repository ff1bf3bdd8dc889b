//! What a sequencer does on a store that is damaged.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use quip_core::{
    Action, Authority, By, Command, ConversationRecord, JoinAs,
    record::{ConversationKey, EditsKey, ReactionsKey, SendsKey},
};
use quip_order::{BatchLimit, Faults, faulty};
use quip_protocol::Code;

use super::*;
use crate::{Change, Committed, ReadError, Sequencer, SequencerConfig, SequencerError, Sink, Step, engine::NEW_TABLES};

/// Counts batches with something in them.
struct Counter(mpsc::Sender<()>);

impl Sink for Counter {
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
fn a_damaged_record_refuses_the_commands_that_need_it_and_no_others() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let key = ConversationRecord::key(&ConversationKey(id()));
    write(&store, [(key, Some(b"\x01 no record".to_vec()))]);
    let (submit, order) = order(&MemoryLog::new(GENERATION));
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::start(store, order, vec![Box::new(Ears(tell))], SequencerConfig::default()).unwrap();
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
fn after_damage(commands: Vec<Action>, damage: (Key, Option<&[u8]>)) -> Vec<Code> {
    let folder = folder();
    let log = MemoryLog::new(GENERATION);
    let (mut codes, mut n) = (Vec::new(), 0);
    let mut run = |actions: &[Action]| {
        let (submit, order) = order(&log);
        let (tell, told) = mpsc::channel();
        let store = open(&folder).unwrap();
        let inner = store.inner.clone();
        let config = SequencerConfig::default();
        let sequencer = Sequencer::start(store, order, vec![Box::new(Ears(tell))], config).unwrap();
        for action in actions {
            n += 1;
            let by = By::Device { user: ann(), device: DeviceId([1; 16]), n };
            let authority = Authority { post: true, ..join().authority };
            submit.submit(Command { by, authority, action: action.clone(), ..join() }).unwrap();
        }
        submit.close();
        sequencer.run().unwrap();
        codes.extend(told.iter().flatten().map(|(_, code)| code));
        Store { inner }
    };
    let (before, after) = commands.split_at(commands.len() - 2);
    let store = run(before);
    let (key, value) = (damage.0.encode(), damage.1.map(<[u8]>::to_vec));
    // A part of it.
    let key = if damage.0.is_in_parts() { [&key[..], &[0]].concat() } else { key };
    write(&store, [(key, value)]);
    store.inner.engine.checkpoint().unwrap();
    drop(store);
    run(after);
    codes
}

#[test]
fn a_refusal_for_damage_uses_its_number_up_like_any_other() {
    let post = || Action::Post { kind: 1, body: "x".into() };
    let ben = || UserId::parse("ben").unwrap();
    let no_record = Some(&b"no record"[..]);
    let react = Action::React { target: 1, add: true, reaction: "+1".to_owned() };
    let cases = [
        (Action::Remove { user: ben(), ban: true }, MemberKey(id(), ben()).into(), no_record),
        (Action::Delete { target: 1 }, EventKey(id(), 1).into(), no_record),
        (Action::Edit { target: 1, body: "y".into() }, EventKey(id(), 1).into(), None),
        (Action::Edit { target: 1, body: "y".into() }, EditsKey(id(), 1).into(), no_record),
        (Action::Delete { target: 1 }, EditsKey(id(), 1).into(), no_record),
        (Action::Delete { target: 1 }, ReactionsKey(id(), 1).into(), no_record),
        (react, ReactionsKey(id(), 1).into(), no_record),
    ];
    let sends = SendsKey(id(), DeviceId([1; 16]), ann()).into();
    let codes = after_damage(vec![join().action, post(), post(), post()], (sends, no_record));
    let damaged = Code::STORED_DAMAGED;
    assert_eq!(codes, [Code::DONE, Code::DONE, damaged, damaged], "without the numbers nothing is recorded");
    for (action, key, value) in cases {
        let codes = after_damage(vec![join().action, post(), action.clone(), post()], (key, value));
        assert_eq!(codes, [Code::DONE, Code::DONE, Code::STORED_DAMAGED, Code::DONE], "{action:?}");
    }
}

/// A damaged table makes a compaction fail, after which the engine takes no more commits.
#[test]
fn a_failed_commit_stops_the_sequencer() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let (inner, view) = (store.inner.clone(), store.view());
    let (submit, order) = order(&MemoryLog::new(GENERATION));
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::start(store, order, vec![Box::new(Counter(tell))], SequencerConfig::default()).unwrap();
    let store = Store { inner };
    for round in 0..2 * NEW_TABLES {
        // Once the engine has noticed, it refuses these too.
        let mut batch = Batch::default();
        batch.insert(&event_key(1), format!("{round}").as_bytes());
        if store.inner.engine.commit(batch).is_ok() {
            store.inner.engine.checkpoint().unwrap();
        }
        if round == 0 {
            tables(&folder).iter().for_each(|table| flip(table, 40));
        }
    }
    let refuses = || {
        let mut batch = Batch::default();
        batch.insert(b"\0nothing", b"");
        store.inner.engine.commit(batch).is_err()
    };
    let start = Instant::now();
    while !refuses() {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing was merged");
        thread::yield_now();
    }
    submit.submit(join()).unwrap();
    let error = sequencer.run().unwrap_err();
    assert!(matches!(&error, SequencerError::Commit(_)) && error.to_string().contains("check the disk"), "{error}");
    assert_eq!(told.iter().count(), 1, "the log has the command, and nothing comes after it");
    assert!(matches!(view.conversation(id()), Err(ReadError::Stopped)), "a read would see too little");
}

#[test]
fn a_gap_in_the_log_stops_the_sequencer_and_what_comes_again_is_dropped() {
    for (faults, is_gap) in
        [(Faults { gaps: 100, ..NO_FAULTS }, true), (Faults { redelivered: 100, ..NO_FAULTS }, false)]
    {
        let (submit, order) = faulty(order(&MemoryLog::new(GENERATION)), 1, faults);
        let (tell, told) = mpsc::channel();
        let store = Store::open_in_memory(&MemoryDisk::default(), order.generation()).unwrap();
        let batch = BatchLimit { commands: 4, ..BatchLimit::default() };
        let config = SequencerConfig { batch, ..SequencerConfig::default() };
        let mut sequencer = Sequencer::start(store, order, vec![Box::new(Ears(tell))], config).unwrap();
        let commands = (1..40).map(|n| {
            let action = if n == 1 { join().action } else { Action::Post { kind: 1, body: "x".into() } };
            let by = By::Device { user: ann(), device: DeviceId([1; 16]), n };
            Command { by, authority: Authority { post: true, ..join().authority }, action, ..join() }
        });
        commands.for_each(|command| submit.submit(command).unwrap());
        submit.close();
        let ended = loop {
            match sequencer.step() {
                Ok(Step::Ended) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        drop(sequencer);
        let codes: Vec<_> = told.iter().flatten().map(|(_, code)| code).collect();
        if is_gap {
            assert!(matches!(ended, Err(SequencerError::Gap { partition: 0, expected, found }) if found > expected));
        } else {
            ended.unwrap();
            assert_eq!(codes, vec![Code::DONE; 39], "each is decided once");
        }
    }
}

const NO_FAULTS: Faults =
    Faults { refused: 0, dropped: 0, duplicated: 0, delayed: 0, delay: 0, reorder: 0, redelivered: 0, gaps: 0 };
