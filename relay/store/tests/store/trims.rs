//! Giving up old events.

use quip_core::Action;
use quip_order::BatchLimit;
use quip_protocol::ConversationId;

use crate::harness::*;

/// What one commit deletes at most.
const AT_ONCE: u64 = 1024;

fn filled(relay: &Relay, name: &str, count: u64) -> Device {
    let mut ann = Device::new("ann", room(name));
    relay.accepted(ann.next(join(name)));
    for _ in 0..count {
        let command = ann.next(post("x"));
        while relay.submit.submit(command.clone()).is_err() {
            // The order is full: let it be committed.
            relay.running.told.recv_timeout(PATIENCE).unwrap();
        }
    }
    settle(relay, &mut ann);
    ann
}

/// Waits until everything that was submitted is committed, and then some more.
fn settle(relay: &Relay, ann: &mut Device) {
    relay.submit(ann.next(post("settled")));
    loop {
        let batch = relay.running.told.recv_timeout(PATIENCE).unwrap();
        if batch.changes.iter().any(|change| change.outcome.is_some_and(|outcome| outcome.n == ann.n)) {
            return;
        }
    }
}

fn is_stored(relay: &Relay, id: ConversationId, seq: u64) -> bool {
    relay.view().event(id, seq).unwrap().is_some()
}

#[test]
fn first_kept_moves_at_once_and_bytes_follow_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let mut ann = filled(&relay, "test:trim", 3000);
    let id = ann.conversation;
    // The noted trim and the next command may be one commit or two.
    relay.submit(by_relay(id, Action::Trim { first_kept: 2501 }));
    settle(&relay, &mut ann);
    assert_eq!(relay.view().conversation(id).unwrap().unwrap().first_kept, 2501);
    assert!(!is_stored(&relay, id, 1) && !is_stored(&relay, id, AT_ONCE));
    assert!(is_stored(&relay, id, 2 * AT_ONCE + 1), "no commit deletes more than its share");
    relay.close();

    let relay = Relay::open(folder.path());
    (0..3).for_each(|_| settle(&relay, &mut ann));
    let stored = all_events(relay.view(), id);
    assert_eq!(stored.first().map(|(seq, _)| *seq), Some(2501));
    assert_eq!(stored.last().map(|(seq, _)| *seq), relay.view().conversation(id).unwrap().map(|row| row.head));
    relay.close();
}

#[test]
fn trims_add_up_and_never_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let (mut ann, mut beside) = (filled(&relay, "test:trim", 20), filled(&relay, "test:beside", 20));
    for first_kept in [5, 3, 11] {
        relay.submit(by_relay(ann.conversation, Action::Trim { first_kept }));
    }
    relay.submit(by_relay(beside.conversation, Action::Trim { first_kept: u64::MAX }));
    settle(&relay, &mut ann);
    let stored = all_events(relay.view(), ann.conversation);
    assert!(stored.iter().map(|(seq, _)| *seq).eq(11..=22));
    assert_eq!(all_events(relay.view(), beside.conversation), []);
    settle(&relay, &mut beside);
    assert!(all_events(relay.view(), beside.conversation).iter().map(|(seq, _)| *seq).eq([22]), "the count goes on");
    relay.close();
}

#[test]
fn the_records_of_edits_and_reactions_are_removed_with_their_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut ann = Device::new("ann", room("test:edited"));
    let id = ann.conversation;
    let (submit, order) = on_disk(folder.path());
    // Everything waits before the sequencer begins, so it is one batch.
    submit.submit(ann.next(join("test:edited"))).unwrap();
    for _ in 0..4 {
        submit.submit(ann.next(post("posted"))).unwrap();
    }
    for target in [1, 2, 3] {
        submit.submit(ann.next(Action::Edit { target, body: "edited".into() })).unwrap();
        submit.submit(ann.next(Action::React { target, add: true, reaction: "+1".to_owned() })).unwrap();
    }
    submit.submit(by_relay(id, Action::Trim { first_kept: 2 })).unwrap();
    submit.close();
    run(folder.path(), order, BatchLimit::default()).end().unwrap();

    let relay = Relay::open(folder.path());
    let noted = || {
        [1, 2, 3].map(|message| {
            let edits = relay.view().edits(id, message).unwrap();
            assert_eq!(relay.view().reactions(id, message).unwrap().is_some(), edits.is_some());
            edits.is_some()
        })
    };
    assert_eq!(noted(), [false, true, true]);
    relay.submit(by_relay(id, Action::Trim { first_kept: 3 }));
    settle(&relay, &mut ann);
    assert_eq!(noted(), [false, false, true]);
    relay.close();
}
