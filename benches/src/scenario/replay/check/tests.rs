//! The checker finds planted faults.

#![allow(clippy::unwrap_used)]

use quip_client::UserId;

use super::*;

/// A room as the store has it, and a run in it. Users are letters; a text is "sender number".
struct Room {
    ledger: Ledger,
    log: Vec<OwnedEvent>,
}

/// Where the run begins in the room.
const FIRST: u64 = 11;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

impl Room {
    fn new() -> Self {
        Self { ledger: Ledger::new(FIRST), log: Vec::new() }
    }

    fn store_event(&mut self, name: &str, kind: u64, text: &str) -> u64 {
        let seq = FIRST + self.log.len() as u64;
        let body = text.as_bytes().to_vec().into();
        self.log.push(OwnedEvent { seq, number: seq, at: 1_000 + seq, user: user(name), kind, body, own: None });
        seq
    }

    fn join(&mut self, name: &str) -> usize {
        let after = FIRST - 1 + self.log.len() as u64;
        self.store_event(name, kind::JOINED, "");
        self.ledger.follow(Follower::new(user(name), after, 0))
    }

    fn leave(&mut self, name: &str, follower: usize) {
        let seq = self.store_event(name, kind::LEFT, "");
        self.ledger.followers[follower].left = Some(seq);
    }

    fn say(&mut self, name: &str, text: &str) -> u64 {
        let seq = self.store_event(name, kind::TEXT, text);
        let number = self.ledger.enroll(&user(name));
        let line = self.ledger.send(number, text, 0, 0);
        self.ledger.accept(line, seq);
        seq
    }

    /// What a member receives when nothing goes wrong.
    fn due(&self, follower: usize) -> Vec<OwnedEvent> {
        let follower = &self.ledger.followers[follower];
        let last = follower.left.unwrap_or(u64::MAX);
        self.log.iter().filter(|event| (follower.after + 1..=last).contains(&event.seq)).cloned().collect()
    }

    fn deliver(&mut self, follower: usize, events: &[OwnedEvent]) {
        events.iter().for_each(|event| self.ledger.receive(follower, event, 5));
    }

    fn verdict(&self) -> Verdict {
        let mut store = Store::from(FIRST);
        self.log.iter().for_each(|event| store.add(event, &self.ledger));
        check(&self.ledger, &store)
    }
}

/// An observer o, and a, who comes later, speaks and leaves before b's last words.
fn room() -> (Room, [usize; 3]) {
    let mut room = Room::new();
    let o = room.join("o");
    let b = room.join("b");
    room.say("b", "b 1");
    let a = room.join("a");
    for number in 1..=3 {
        room.say("a", &format!("a {number}"));
        room.say("b", &format!("b {}", number + 1));
    }
    room.leave("a", a);
    room.say("b", "b 5");
    (room, [o, b, a])
}

/// The room with everything delivered, except that what one member receives is changed.
fn with(change: impl FnOnce(&mut Vec<OwnedEvent>), victim: usize) -> Verdict {
    let (mut room, members) = room();
    let mut change = Some(change);
    for member in members {
        let mut events = room.due(member);
        if member == members[victim] {
            change.take().unwrap()(&mut events);
        }
        room.deliver(member, &events);
    }
    room.verdict()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let verdict = with(|_| {}, 0);
    assert!(verdict.is_good(), "{verdict:?}");
    // o has all 12 events, b all but o's join, a those from its join (event 4) to its leave (event 11).
    assert_eq!((verdict.expected, verdict.delivered), (12 + 11 + 8, 12 + 11 + 8));
}

#[test]
fn a_lost_delivery_is_found_wherever_it_is() {
    for victim in 0..3 {
        for place in [0, 3, 7] {
            let verdict = with(|events| drop(events.remove(place)), victim);
            assert!(verdict.lost == 1 && !verdict.is_good(), "member {victim}, event {place}: {verdict:?}");
        }
        let verdict = with(|events| drop(events.pop()), victim);
        assert_eq!(verdict.lost, 1, "the last one of member {victim}");
        assert_eq!(verdict.expected - verdict.delivered, 1);
    }
}

#[test]
fn a_duplicated_delivery_is_found() {
    for (from, to) in [(2, 3), (2, 7), (7, 8)] {
        let verdict = with(|events| events.insert(to, events[from].clone()), 2);
        assert_eq!((verdict.duplicated, verdict.lost, verdict.reordered, verdict.is_good()), (1, 0, 0, false));
    }
}

#[test]
fn swapped_deliveries_are_found() {
    let verdict = with(|events| events.swap(3, 4), 1);
    assert_eq!((verdict.reordered, verdict.lost, verdict.duplicated, verdict.is_good()), (1, 0, 0, false));
    let verdict = with(|events| events.swap(2, 6), 1);
    assert_eq!(
        (verdict.reordered, verdict.lost, verdict.duplicated),
        (4, 0, 0),
        "four come after the one that came early"
    );
}

#[test]
fn wrong_bytes_are_found_even_when_they_come_first() {
    for victim in 0..3 {
        let verdict = with(|events| events[4].body = b"a 9".to_vec().into(), victim);
        assert!(verdict.altered > 0 && !verdict.is_good(), "member {victim}");
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (0, 0, 0));
    }
    let others: [fn(&mut OwnedEvent); 4] = [
        |event| event.user = user("c"),
        |event| event.at += 1,
        |event| event.number += 1,
        |event| event.kind = kind::DATA,
    ];
    for change in others {
        assert!(with(|events| change(&mut events[4]), 1).altered > 0);
    }
}

#[test]
fn wrong_bytes_that_all_receive_are_found_in_the_store() {
    let (mut room, members) = room();
    for member in members {
        room.deliver(member, &room.due(member));
    }
    room.log[4].body = b"a 9".to_vec().into();
    let verdict = room.verdict();
    assert!(verdict.altered >= 2 && !verdict.is_good(), "delivered otherwise, and not what was sent: {verdict:?}");
}

/// Changes what happens before anyone receives it, so that all members and the store agree.
fn stored(change: impl FnOnce(&mut Room)) -> Verdict {
    let (mut room, members) = room();
    change(&mut room);
    for member in members {
        room.deliver(member, &room.due(member));
    }
    room.verdict()
}

#[test]
fn a_line_that_is_stored_twice_is_found() {
    let verdict = stored(|room| _ = room.store_event("b", kind::TEXT, "b 5"));
    assert_eq!((verdict.duplicated, verdict.lost, verdict.is_good()), (1, 0, false));
}

#[test]
fn a_line_that_was_accepted_and_is_not_stored_is_found() {
    let verdict = stored(|room| drop(room.log.pop()));
    assert_eq!((verdict.lost, verdict.is_good()), (1, false));
    let verdict = stored(|room| {
        let seq = room.say("b", "b 5");
        room.ledger.lines.last_mut().unwrap().seq = seq - 1;
    });
    assert_eq!((verdict.lost, verdict.altered), (1, 0), "two lines as one event: {verdict:?}");
}

#[test]
fn lines_of_a_sender_that_are_stored_out_of_order_are_found() {
    let verdict = stored(|room| {
        let (first, second) = (room.ledger.lines[0], room.ledger.lines[2]);
        assert_eq!(first.user, second.user);
        (room.log[2].body, room.log[5].body) = (room.log[5].body.clone(), room.log[2].body.clone());
        (room.ledger.lines[0].seq, room.ledger.lines[2].seq) = (second.seq, first.seq);
    });
    assert_eq!((verdict.reordered, verdict.altered, verdict.lost, verdict.is_good()), (1, 0, 0, false));
}

#[test]
fn a_line_without_a_receipt_is_not_accepted_and_not_extra() {
    let verdict = stored(|room| room.ledger.lines[1].seq = 0);
    assert_eq!((verdict.unaccepted, verdict.duplicated, verdict.is_good()), (1, 0, false));
    let verdict = stored(|room| {
        room.store_event("b", kind::TEXT, "b 5");
        room.ledger.lines.last_mut().unwrap().seq = 0;
    });
    assert_eq!((verdict.unaccepted, verdict.duplicated), (1, 1), "one of the two is extra");
}

#[test]
fn what_others_say_in_the_room_is_theirs() {
    let verdict = stored(|room| _ = room.store_event("stranger", kind::TEXT, "hello"));
    assert!(verdict.is_good(), "{verdict:?}");
}

#[test]
fn a_hole_in_the_store_is_found() {
    let (mut room, members) = room();
    for member in members {
        room.deliver(member, &room.due(member));
    }
    room.log.remove(5);
    let verdict = room.verdict();
    assert!(verdict.lost >= 2, "the event, and the line that it was: {verdict:?}");
    room.log.swap(5, 6);
    assert!(!room.verdict().is_good());
}

#[test]
fn history_from_before_a_join_does_not_count() {
    let (mut room, members) = room();
    let a = members[2];
    room.ledger.followers[a] = Follower::new(user("a"), FIRST - 1, 0);
    room.ledger.followers[a].left = Some(FIRST + 10);
    for member in members {
        room.deliver(member, &room.due(member));
    }
    let verdict = room.verdict();
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!(verdict.expected, 12 + 11 + 8);
}

#[test]
fn a_skip_may_hide_what_is_before_the_join_only() {
    for (to, hidden) in [(FIRST + 2, 0), (FIRST + 4, 2)] {
        let (mut room, members) = room();
        let a = members[2];
        room.ledger.followers[a] = Follower::new(user("a"), FIRST - 1, 0);
        room.ledger.followers[a].left = Some(FIRST + 10);
        room.ledger.followers[a].skip(to);
        for member in members {
            let events: Vec<_> = room.due(member).into_iter().filter(|event| member != a || event.seq > to).collect();
            room.deliver(member, &events);
        }
        let verdict = room.verdict();
        assert_eq!((verdict.lost, verdict.expected - verdict.delivered), (hidden, hidden), "{verdict:?}");
    }
}

#[test]
fn a_skip_in_the_middle_and_events_after_the_leave_are_problems() {
    let (mut room, members) = room();
    room.deliver(members[2], &room.log.clone()[3..]);
    room.deliver(members[0], &room.due(members[0]));
    room.deliver(members[1], &room.due(members[1]));
    assert!(!room.verdict().is_good(), "a received what came after its leave");
    assert_eq!(room.verdict().lost, 0);

    let (mut room, members) = self::room();
    for member in members {
        room.deliver(member, &room.due(member));
    }
    room.ledger.followers[members[0]].skip(FIRST + 20);
    assert!(!room.verdict().is_good());
}

#[test]
fn a_random_fault_is_always_found() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    for _ in 0..500 {
        let victim = rand::Rng::random_range(&mut random, 0..3);
        let kind = rand::Rng::random_range(&mut random, 0..4);
        let verdict = with(
            |events| {
                let place = rand::Rng::random_range(&mut random, 0..events.len() - 1);
                let other = rand::Rng::random_range(&mut random, place + 1..events.len());
                match kind {
                    0 => drop(events.remove(place)),
                    1 => events.insert(other, events[place].clone()),
                    2 => events.swap(place, other),
                    _ => events[place].body = b"other".to_vec().into(),
                }
            },
            victim,
        );
        assert!(!verdict.is_good(), "kind {kind}, member {victim}: {verdict:?}");
        let found = [verdict.lost, verdict.duplicated, verdict.reordered, verdict.altered][kind];
        assert!(found > 0, "kind {kind}, member {victim}: {verdict:?}");
    }
}

#[test]
fn latency_is_from_when_a_line_was_due() {
    let mut room = Room::new();
    let o = room.join("o");
    let number = room.ledger.enroll(&user("a"));
    for (text, due) in [("x", 100), ("y", 200), ("x", 300)] {
        room.ledger.send(number, text, due, due);
        room.store_event("a", kind::TEXT, text);
    }
    let late = room.ledger.follow(Follower::new(user("l"), FIRST, 250));
    let events = room.due(o);
    let took: Vec<_> = events
        .iter()
        .map(|event| {
            room.ledger.receive(o, event, 1_000);
            room.ledger.latency.max_micros().round()
        })
        .collect();
    assert_eq!(took, [0.0, 900.0, 900.0, 900.0]);
    assert_eq!((room.ledger.latency.count(), room.ledger.latency.micros(0.0).round()), (3, 700.0));
    room.deliver(late, &events[1..]);
    assert_eq!(room.ledger.latency.count(), 4, "only what was due after it had the room open");
}

#[test]
fn latency_is_of_the_right_line_whoever_receives_it_first() {
    let mut room = Room::new();
    let o = room.join("o");
    let number = room.ledger.enroll(&user("a"));
    for (text, due) in [("x", 100), ("y", 900)] {
        room.ledger.send(number, text, due, due);
        room.store_event("a", kind::TEXT, text);
    }
    let late = room.ledger.follow(Follower::new(user("l"), FIRST + 1, 0));
    let events = room.due(o);
    room.ledger.receive(late, &events[2], 1_000);
    assert_eq!(room.ledger.latency.max_micros().round(), 100.0);
    room.ledger.receive(o, &events[1], 1_000);
    assert_eq!(room.ledger.latency.max_micros().round(), 900.0);
}
