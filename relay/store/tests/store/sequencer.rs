//! What the sequencer promises besides exactly once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use quip_core::{Action, Effect, JoinAs};
use quip_order::BatchLimit;
use quip_protocol::{Code, ConversationId};
use quip_store::{Committed, Sequencer, SequencerConfig, Sink};

use crate::harness::*;

#[test]
fn commands_of_one_batch_see_each_other_and_each_row_is_right_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let id = room("test:batch");
    let mut ann = Device::new("ann", id);
    let mut ben = Device::new("ben", id);
    let (submit, order) = on_disk(folder.path());
    // Everything waits before the sequencer begins, so it is one batch.
    let commands = [
        ann.next(join("test:batch")),
        ben.next(join("test:batch")),
        ann.next(post("one")),
        ben.next(post("two")),
        ann.next(Action::Edit { target: 1, body: "three".into() }),
        ben.next(Action::Delete { target: 2 }),
        ann.next(Action::Delete { target: 1 }),
        ben.next(Action::Leave),
        ann.numbered(2, post("one")),
        ann.numbered(2, post("not one")),
        ann.mark(4, 2),
    ];
    for command in commands {
        submit.submit(command).unwrap();
    }
    let running = run(folder.path(), order, BatchLimit::default());
    let batch = running.told.recv_timeout(PATIENCE).unwrap();
    let codes: Vec<_> = batch.changes.iter().filter_map(|change| change.outcome).map(|outcome| outcome.code).collect();
    let [done, reused] = [Code::DONE, Code::REUSED];
    assert_eq!(codes, [done, done, done, done, done, done, done, done, done, reused]);
    let rewritten = batch.changes.iter().flat_map(|change| &change.effects).filter_map(|effect| match effect {
        Effect::Rewritten { seq, .. } => Some(*seq),
        _ => None,
    });
    assert!(rewritten.eq([2, 1, 3]), "the edit goes with its message");

    let view = &running.view;
    let stored = all_events(view, id);
    assert_eq!(stored.len() as u64, view.conversation(id).unwrap().unwrap().head);
    assert!(["one", "two", "three"].iter().all(|content| !holds(view, id, content.as_bytes())), "only tombstones");
    assert_eq!(view.edits(id, 1).unwrap(), None, "noted and forgotten in one batch");
    assert_eq!(view.mark(&ann.user, id).unwrap(), Some(marked(4, 2)));
    assert_eq!(view.list(&ann.user, None, 10).unwrap().entries.len(), 1);
    assert_eq!(view.list(&ben.user, None, 10).unwrap().entries.len(), 0, "joined and left in one batch");
    submit.close();
    running.end().unwrap();
}

#[test]
fn a_deletion_finds_edits_that_an_earlier_run_committed() {
    let folder = tempfile::tempdir().unwrap();
    let id = room("test:edits");
    let mut ann = Device::new("ann", id);
    let mut relay = Relay::open(folder.path());
    relay.accepted(ann.next(join("test:edits")));
    relay.accepted(ann.next(post("secret")));
    relay.accepted(ann.next(post("another")));
    relay.accepted(ann.next(Action::Edit { target: 2, body: "another, edited".into() }));
    for i in 0..3 {
        relay.accepted(ann.next(Action::Edit { target: 1, body: format!("secret {i}").into() }));
        relay.accepted(ann.next(Action::React { target: 1, add: i != 1, reaction: "+1".to_owned() }));
        relay.close();
        relay = Relay::open(folder.path());
    }
    assert!(holds(relay.view(), id, b"secret") && relay.view().reactions(id, 1).unwrap().is_some());
    relay.accepted(ann.next(Action::Delete { target: 1 }));
    relay.close();
    let relay = Relay::open(folder.path());
    assert!(!holds(relay.view(), id, b"secret") && holds(relay.view(), id, b"another, edited"));
    assert_eq!((relay.view().edits(id, 1).unwrap(), relay.view().reactions(id, 1).unwrap()), (None, None));
    assert_eq!(relay.view().edits(id, 2).unwrap().unwrap().edits.len(), 1);
    relay.close();
}

#[test]
fn commands_that_change_nothing_are_announced_too() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let stranger = Device::new("eve", room("test:closed"));
    let missing = relay.send(stranger.numbered(5, post("x"))).outcome.unwrap();
    assert_eq!((missing.n, missing.code, missing.seq), (5, Code::MISSING, 0));
    assert_eq!(relay.view().sends(stranger.conversation, &stranger.user, stranger.device).unwrap(), None);
    relay.close();
}

#[test]
fn a_direct_conversation_makes_two_members() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    for (one, other) in [("ann", "ben"), ("ann", "ann")] {
        let id = ConversationId::direct(&user(one), &user(other));
        let mut device = Device::new(one, id);
        relay.accepted(device.next(Action::Join(JoinAs::Direct(user(other)))));
        relay.accepted(device.next(post("hello")));
        for name in [one, other] {
            let list = relay.view().list(&user(name), None, 10).unwrap();
            assert!(list.entries.iter().any(|entry| entry.id == id && entry.conversation.head == 1), "{name}");
        }
    }
    relay.close();
}

#[test]
fn closing_commits_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let id = room("test:closing");
    let mut ann = Device::new("ann", id);
    let (submit, order) = on_disk(folder.path());
    let running = run(folder.path(), order, BatchLimit { commands: 7, bytes: 1 << 20 });
    submit.submit(ann.next(join("test:closing"))).unwrap();
    (0..50).for_each(|i| submit.submit(ann.next(post(i.to_string()))).unwrap());
    submit.close();
    running.end().unwrap();
    let relay = Relay::open(folder.path());
    assert_eq!(all_events(relay.view(), id).len(), 50);
    relay.close();
}

#[test]
fn readers_see_only_whole_commits() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let id = room("test:whole");
    let mut ann = Device::new("ann", id);
    relay.accepted(ann.next(join("test:whole")));
    let view = relay.view().clone();
    let reader = thread::spawn(move || {
        loop {
            let list = view.list(&user("ann"), None, 1).unwrap();
            let head = list.entries[0].conversation.head;
            // The list is of one moment, and that head's event is there.
            assert_eq!(view.event(id, head).unwrap().is_some(), head > 0);
            if head == 300 {
                return;
            }
        }
    });
    (0..300).for_each(|i| _ = relay.accepted(ann.next(post(i.to_string()))));
    reader.join().unwrap();
    relay.close();
}

/// Tells a reader of each batch, and lets it read before the commit.
struct Early(mpsc::Sender<()>);

impl Sink for Early {
    fn committed(&self, _: &Arc<Committed>) {
        self.0.send(()).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_read_sees_everything_that_sinks_were_told_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (submit, order) = on_disk(folder.path());
    let store = open(folder.path(), order.generation()).unwrap();
    let view = store.view();
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::start(store, order, vec![Box::new(Early(tell))], SequencerConfig::default()).unwrap();
    let thread = thread::spawn(|| sequencer.run());
    let id = room("test:early");
    let mut ann = Device::new("ann", id);
    submit.submit(ann.next(join("test:early"))).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    for seq in 1..=20 {
        submit.submit(ann.next(post(seq.to_string()))).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        assert!(view.event(id, seq).unwrap().is_some(), "event {seq}");
    }
    submit.close();
    drop(view);
    thread.join().unwrap().unwrap();
}

/// Takes its time to learn of each batch: it counts as told when the call returns.
struct Slow(Arc<AtomicU64>);

impl Sink for Slow {
    fn committed(&self, batch: &Arc<Committed>) {
        thread::sleep(Duration::from_millis(1));
        let newest = batch.changes.iter().filter_map(|change| change.event.as_ref()).map(|event| event.seq).max();
        self.0.fetch_max(newest.unwrap_or_default(), Ordering::SeqCst);
    }
}

#[test]
fn no_read_shows_what_sinks_were_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let (submit, order) = on_disk(folder.path());
    let store = open(folder.path(), order.generation()).unwrap();
    let (view, told) = (store.view(), Arc::new(AtomicU64::new(0)));
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Slow(Arc::clone(&told)))];
    let sequencer = Sequencer::start(store, order, sinks, SequencerConfig::default()).unwrap();
    let thread = thread::spawn(|| sequencer.run());
    let id = room("test:late");
    let mut ann = Device::new("ann", id);
    submit.submit(ann.next(join("test:late"))).unwrap();
    (1..=60).for_each(|n| submit.submit(ann.next(post(n.to_string()))).unwrap());
    let mut head = 0;
    while head < 60 {
        head = view.conversation(id).unwrap().map_or(0, |row| row.head);
        let known = told.load(Ordering::SeqCst);
        assert!(head <= known, "a read showed event {head} when sinks knew of {known}");
    }
    submit.close();
    drop(view);
    thread.join().unwrap().unwrap();
}
