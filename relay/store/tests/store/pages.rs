//! Reading: single rows, pages, members, lists, and all of it again after a restart.

use quip_core::{Action, JoinAs, MemberState};
use quip_protocol::{ConversationId, event::role};
use quip_store::{Direction, PageLimit, View};

use crate::harness::*;

const ALL: PageLimit = PageLimit { bytes: usize::MAX, events: usize::MAX };

/// A room with `count` events, whose bodies are their seqs.
fn filled(relay: &Relay, name: &str, count: u64) -> ConversationId {
    let mut ann = Device::new("ann", room(name));
    relay.accepted(ann.next(join(name)));
    for seq in 1..=count {
        assert_eq!(relay.accepted(ann.next(post(seq.to_string()))).event.unwrap().seq, seq);
    }
    room(name)
}

fn seqs(view: &View, id: ConversationId, first: u64, last: u64, direction: Direction, limit: PageLimit) -> Vec<u64> {
    let page = view.page(id, first..=last, direction, limit).unwrap();
    events(&page).into_iter().map(|(seq, body)| (body == seq.to_string().as_bytes()).then_some(seq).unwrap()).collect()
}

#[test]
fn pages_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let id = filled(&relay, "test:pages", 30);
    filled(&relay, "test:beside", 3);
    let (view, few) = (relay.view(), PageLimit { events: 10, ..ALL });
    use Direction::{Backward, Forward};

    assert!(seqs(view, id, 1, 30, Forward, ALL).into_iter().eq(1..=30));
    assert!(seqs(view, id, 1, 30, Backward, ALL).into_iter().eq(1..=30));
    assert!(seqs(view, id, 0, u64::MAX, Forward, ALL).into_iter().eq(1..=30), "nothing of other conversations");
    assert!(seqs(view, id, 5, 30, Forward, few).into_iter().eq(5..=14));
    assert!(seqs(view, id, 5, 28, Backward, few).into_iter().eq(19..=28));
    assert!(seqs(view, id, 5, 5, Backward, few).into_iter().eq([5]));
    assert!(seqs(view, id, 31, u64::MAX, Forward, ALL).is_empty());
    assert!(seqs(view, id, 31, u64::MAX, Backward, ALL).is_empty());
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may compute it")]
    let empty = view.page(id, 7..=6, Forward, ALL).unwrap();
    assert_eq!(empty, quip_store::EventPage::default());
    assert!(seqs(view, id, 1, 30, Forward, PageLimit { events: 0, ..ALL }).is_empty());
    assert!(seqs(view, room("test:none"), 0, u64::MAX, Forward, ALL).is_empty());
    relay.close();
}

#[test]
fn pages_keep_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let id = filled(&relay, "test:bytes", 9);
    let view = relay.view();
    let one = view.event(id, 1).unwrap().unwrap().frame.len();
    for direction in [Direction::Forward, Direction::Backward] {
        let count = |bytes| seqs(view, id, 1, 9, direction, PageLimit { bytes, ..ALL }).len();
        assert_eq!([count(0), count(one), count(2 * one - 1), count(2 * one), count(9 * one)], [1, 1, 1, 2, 9]);
    }
    relay.close();
}

#[test]
fn rows_are_read_as_they_were_written_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let id = filled(&relay, "test:rows", 3);
    let (ann, ben) = (Device::new("ann", id), Device::new("ben", id));
    let generation = relay.view().generation();
    let look = |view: &View| {
        assert_eq!(view.generation(), generation);
        assert_eq!(view.conversation(id).unwrap().unwrap().head, 3);
        assert_eq!(view.member(id, &ann.user).unwrap().unwrap().role, role::OWNER);
        assert_eq!(view.sends(id, &ann.user, ann.device).unwrap().unwrap().last, 4);
        assert_eq!(view.event(id, 3).unwrap().unwrap().n, 4);
        assert_eq!(view.mark(&ann.user, id).unwrap(), Some(marked(3, 3)));
        assert_eq!(all_events(view, id).len(), 3);
        assert_eq!(view.conversation(room("test:none")).unwrap(), None);
        assert_eq!(view.member(id, &ben.user).unwrap(), None);
        assert_eq!(view.sends(id, &ben.user, ben.device).unwrap(), None);
        assert_eq!(view.event(id, 4).unwrap(), None);
        assert_eq!(view.mark(&ben.user, id).unwrap(), None);
    };
    assert_ne!(generation, 0);
    look(relay.view());
    relay.close();
    let relay = Relay::open(folder.path());
    look(relay.view());
    relay.close();
}

#[test]
fn members_of_a_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let id = room("test:members");
    for i in 0..40 {
        let mut device = Device::new(&format!("user-{i:02}"), id);
        relay.accepted(device.next(join("test:members")));
        // The owner stays; of the others only every fifth.
        if i % 5 != 0 {
            relay.accepted(device.next(Action::Leave));
        }
    }
    let (view, mut found, mut after) = (relay.view(), Vec::new(), None);
    loop {
        let page = view.members(id, after.as_ref(), 2).unwrap();
        assert!(page.members.len() <= 2);
        assert!(page.members.iter().all(|(_, row)| row.state == MemberState::Member));
        found.extend(page.members.into_iter().map(|(user, _)| user.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["user-00", "user-05", "user-10", "user-15", "user-20", "user-25", "user-30", "user-35"]);
    assert_eq!(view.members(room("test:none"), None, 10).unwrap(), quip_store::Members::default());
    assert_eq!(view.members(id, None, 100).unwrap().members.len(), 8, "at once");
    relay.close();
}

#[test]
fn a_users_list_joins_conversation_membership_and_mark() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    // A user whose id begins like another's.
    relay.accepted(Device::new("annie", room("test:other")).next(join("test:other")));
    let names: Vec<_> = (0..7).map(|i| format!("test:{i}")).collect();
    let mut ids: Vec<_> = names.iter().map(|name| filled(&relay, name, 2)).collect();
    let left = ids.pop().unwrap();
    ids.sort();
    let mut ann = Device { n: 3, ..Device::new("ann", left) };
    relay.accepted(ann.next(Action::Leave));
    // Somebody else's does not count.
    let mut ben = Device::new("ben", ids[1]);
    relay.accepted(ben.next(Action::Join(JoinAs::Existing)));
    relay.send(ben.mark(1, 1));

    let (view, mut found, mut after) = (relay.view(), Vec::new(), None);
    loop {
        let page = view.list(&user("ann"), after, 4).unwrap();
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(found.iter().map(|entry| entry.id).eq(ids.iter().copied()), "in order, without the one that was left");
    assert!(found.iter().all(|entry| entry.conversation.head == 2 && entry.member.role == role::OWNER));
    assert!(found.iter().all(|entry| entry.mark == marked(2, 2)), "what one says has been read");
    let theirs = view.list(&ben.user, None, 4).unwrap().entries;
    assert_eq!((theirs.len(), &theirs[0].mark), (1, &marked(1, 1)));
    assert_eq!(view.list(&user("nobody"), None, 4).unwrap(), quip_store::List::default());

    // Coming back puts it into the list again.
    let ann = &mut Device { conversation: left, ..ann };
    relay.accepted(ann.next(Action::Join(JoinAs::Room("test:6".to_owned()))));
    assert_eq!(view.list(&user("ann"), None, 100).unwrap().entries.len(), 7);
    relay.close();
}
