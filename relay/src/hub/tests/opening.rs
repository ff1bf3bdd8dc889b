//! Opening conversations, and what tokens allow.

use quip_protocol::{RoomName, session::Refresh};

use super::*;

fn lobby() -> Target<'static> {
    Target::Room(RoomName::parse("lobby:main").unwrap())
}

fn decided(id: ConversationId, n: u64, code: Code, seq: u64) -> Change {
    Change {
        conversation: id,
        by: By::Device { user: user("ann"), device: DeviceId([1; 16]), n },
        outcome: Some(Outcome { n, code, seq, number: seq, at: TIME, check: JOIN_CHECK }),
        event: None,
        effects: Vec::new(),
    }
}

#[test]
fn what_comes_behind_an_open_waits_until_it_is_decided() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.stream(client.at, 1);
    let target = Target::Id(group());
    let mut both = frame::to_bytes(&Open::new(&target, 0, Start::Now)).to_vec();
    both.extend_from_slice(&frame::to_bytes(&post(1)));
    relay.hub.received(stream, &both.into());
    assert!(!relay.hub.takes_input(stream));
    relay.found_rows(rows(group_row(5), Some(present())));
    assert_eq!(relay.said(stream), [ToSee::Opened(6)]);
    assert!(!relay.hub.takes_input(stream), "the first command's rows are read");
    relay.warmed();
    assert_eq!(relay.world().submitted.len(), 1);
    assert!(relay.hub.takes_input(stream));
}

#[test]
fn a_join_is_ordered_and_then_the_rows_are_read() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &lobby(), 4, Start::Now);
    relay.warmed();
    let command = relay.world().submitted.pop().unwrap();
    assert!(command.authority.join && command.authority.create);
    let id = command.conversation;
    relay.commit(vec![decided(id, 4, Code::DONE, 3)]);
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    assert_eq!(relay.said(stream), [ToSee::Opened(3)], "from the join on");
}

#[test]
fn a_join_that_is_decided_twice_is_answered_once() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &lobby(), 4, Start::Now);
    let id = ConversationId::room(&RoomName::parse("lobby:main").unwrap());
    // An earlier stream submitted the join as well, and that one is decided while this one's records are read.
    relay.commit(vec![decided(id, 4, Code::DONE, 3)]);
    relay.warmed();
    relay.commit(vec![decided(id, 4, Code::DONE, 3)]);
    assert_eq!(relay.said(stream), []);
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    assert_eq!(relay.said(stream), [ToSee::Opened(3)]);
}

#[test]
fn a_refused_join_ends_the_stream_with_its_code() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &lobby(), 4, Start::Now);
    relay.warmed();
    let id = relay.world().submitted[0].conversation;
    relay.commit(vec![decided(id, 4, Code::BANNED, 0)]);
    assert_eq!(relay.ended(stream), Some(Code::BANNED));
}

#[test]
fn a_join_that_finds_the_order_full_ends_the_stream_for_now() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    relay.world().refusal = Some(quip_order::SubmitError::Full { retry_after_ms: 50 });
    let stream = relay.ask(client, 1, &lobby(), 1, Start::Now);
    relay.warmed();
    assert_eq!(relay.ended(stream), Some(Code::FULL));
}

#[test]
fn busy_readers_end_an_opening_for_now() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    relay.world().busy = true;
    let stream = relay.ask(client, 1, &Target::Id(group()), 0, Start::Now);
    assert_eq!(relay.ended(stream), Some(Code::BUSY));
}

#[test]
fn a_cursor_ahead_of_the_relay_is_looked_at_again_for_two_seconds() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let start = Start::After { generation: GENERATION, seq: 9 };
    let stream = relay.ask(client, 1, &Target::Id(group()), 0, start);
    let mut looks = 0;
    while !relay.world().reads.is_empty() {
        relay.found_rows(rows(group_row(5), Some(present())));
        relay.wait(TICK);
        looks += 1;
    }
    assert_eq!((relay.ended(stream), looks), (Some(Code::BEHIND), 22));
}

#[test]
fn another_event_at_the_cursor_is_answered_from_the_beginning() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.stream(client.at, 1);
    let target = Target::Id(group());
    let mut open = Open::new(&target, 0, Start::After { generation: GENERATION, seq: 3 });
    open.digest = [1, 2, 3, 4];
    relay.send(stream, &open);
    let (.., query) = &relay.world().reads[0];
    let Query::Rows { at: Some(known), .. } = query else { panic!("{query:?}") };
    assert_eq!((known.seq, known.digest), (3, [1, 2, 3, 4]));
    relay.found_rows(OpenRows { is_other_log: true, ..rows(group_row(5), Some(present())) });
    assert_eq!(relay.said(stream), [ToSee::Opened(1)]);
}

#[test]
fn a_newer_open_replaces_an_older_one_whichever_arrives_first() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let first = relay.open(client, 5, Start::Now);
    relay.send(first, &post(1));
    relay.warmed();
    let second = relay.ask(client, 9, &Target::Id(group()), 0, Start::Now);
    assert_eq!(relay.ended(first), Some(Code::REOPENED));
    relay.found_rows(rows(group_row(5), Some(present())));
    assert_eq!(relay.said(second), [ToSee::Opened(6)]);
    relay.commit(vec![own_event(6, "ann", 1)]);
    assert_eq!(relay.said(second), [ToSee::Event(6)], "the command was not sent on this stream");
    let late = relay.ask(client, 5, &Target::Id(group()), 0, Start::Now);
    assert_eq!(relay.ended(late), Some(Code::REOPENED));
    relay.commit(vec![event(7)]);
    assert_eq!(relay.said(second), [ToSee::Event(7)]);
}

#[test]
fn a_refresh_while_a_rooms_name_is_not_known_decides_nothing() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let id = ConversationId::room(&RoomName::parse("lobby:main").unwrap());
    let stream = relay.ask(client, 1, &Target::Id(id), 0, Start::Now);
    let token = relay.token("ann", &["*"]);
    relay.send(client.session, &Refresh { token: &token });
    assert_eq!(relay.said(client.session), [ToSee::Refreshed]);
    assert_eq!(relay.said(stream), []);
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    assert_eq!(relay.said(stream), [ToSee::Opened(4)]);
}

#[test]
fn a_refresh_between_open_and_its_rows_counts() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &lobby(), 0, Start::Now);
    let token = relay.token("ann", &["staff:*"]);
    relay.send(client.session, &Refresh { token: &token });
    assert_eq!(relay.said(stream), [], "nothing is said of a conversation that may not be there");
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    assert_eq!(relay.ended(stream), Some(Code::FORBIDDEN));
}

#[test]
fn a_token_that_no_longer_grants_a_room_ends_its_stream_and_opening_it_again_does_not_help() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let room = relay.ask(client, 1, &lobby(), 0, Start::Now);
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    let stream = relay.ask(client, 2, &Target::Id(group()), 0, Start::Now);
    relay.found_rows(rows(group_row(5), Some(present())));
    relay.said(room);
    relay.said(stream);
    let token = relay.token("ann", &["staff:*"]);
    relay.send(client.session, &Refresh { token: &token });
    assert_eq!(relay.ended(room), Some(Code::FORBIDDEN));
    assert_eq!(relay.said(stream), [], "a group needs no grant");
    let again = relay.ask(client, 3, &lobby(), 0, Start::Now);
    relay.found_rows(rows(room_row("lobby:main"), Some(present())));
    assert_eq!(relay.ended(again), Some(Code::FORBIDDEN));
    let never = relay.ask(client, 4, &lobby(), 0, Start::Now);
    relay.found_rows(rows(room_row("lobby:main"), None));
    assert_eq!(relay.ended(never), Some(Code::NOT_FOUND), "an id tells nothing to one who was never there");
}

#[test]
fn a_former_member_reads_up_to_the_end_of_the_membership() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &Target::Id(group()), 0, Start::Last(2));
    let former = MemberRecord { state: MemberState::Left, to: 4, ..present() };
    relay.found_rows(rows(group_row(9), Some(former)));
    assert_eq!(relay.found_page(10), (3, 4));
    let said = relay.said(stream);
    assert_eq!(said, [ToSee::Opened(3), ToSee::Event(3), ToSee::Event(4), ToSee::End(Code::ENDED)]);
}

#[test]
fn a_former_member_to_whom_nothing_is_left_reads_nothing() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    for (id, start) in [(1, Start::After { generation: GENERATION, seq: 2 }), (2, Start::Last(9)), (3, Start::Now)] {
        let stream = relay.ask(client, id, &Target::Id(group()), 0, start);
        let trimmed = ConversationRecord { first_kept: 7, ..group_row(9) };
        let former = MemberRecord { state: MemberState::Left, to: 4, ..present() };
        relay.found_rows(rows(trimmed, Some(former)));
        let mut said = relay.said(stream);
        said.retain(|said| *said != ToSee::Skip(4));
        assert_eq!(said, [ToSee::Opened(5), ToSee::End(Code::ENDED)], "{start:?}");
        relay.hub.finished(stream);
    }
}

#[test]
fn a_former_member_is_shown_a_group_as_it_was_then() {
    let mut relay = Relay::new();
    let (ann, bob) = (relay.client("ann"), relay.client("bob"));
    relay.open(bob, 9, Start::Now);
    let naming = Naming::Group("without ann".to_owned());
    let parting = Parting { number: 3, title: "with ann".to_owned() };
    let former = MemberRecord { state: MemberState::Banned, to: 4, parting, ..present() };
    let stream = relay.ask(ann, 1, &Target::Id(group()), 0, Start::Now);
    relay.found_rows(rows(row(9, naming), Some(former)));
    let written = relay.world().streams[stream].written.clone();
    let (frame, _) = frame::split(&written, 1 << 20).unwrap().unwrap();
    let Some(ToClient::Opened(opened)) = ToClient::decode(frame).unwrap() else { panic!("not opened") };
    assert_eq!((opened.name, opened.role, opened.members, opened.present), ("with ann", 0, 0, 0));
    assert_eq!((opened.head, opened.number, opened.start), (4, 3, 5));
    assert_eq!(relay.ended(stream), Some(Code::ENDED));
}

#[test]
fn rows_that_were_read_before_a_membership_ended_are_read_again() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &Target::Id(group()), 0, Start::Now);
    let left = quip_core::Effect::Visible { user: user("ann"), from: 1, to: 5, role: 0, name: String::new() };
    relay.commit(vec![Change { effects: vec![left], ..event(6) }]);
    relay.found_rows(rows(group_row(5), Some(present())));
    assert_eq!(relay.said(stream), []);
    let former = MemberRecord { state: MemberState::Left, to: 5, ..present() };
    relay.found_rows(rows(group_row(6), Some(former)));
    assert_eq!(relay.said(stream), [ToSee::Opened(6), ToSee::End(Code::ENDED)]);
}

#[test]
fn a_late_copy_of_a_join_is_no_answer_to_the_command_that_has_its_number_now() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.said(stream);
    relay.send(stream, &post(3));
    relay.warmed();
    relay.commit(vec![decided(group(), 3, Code::DONE, 0)]);
    assert_eq!(relay.said(stream), []);
    let mut own = decided(group(), 3, Code::REUSED, 0);
    own.outcome.as_mut().unwrap().check = [9; 4];
    relay.commit(vec![own]);
    assert_eq!(relay.said(stream), [ToSee::Rejected(3, Code::REUSED)]);
}
