//! From commits to streams, and from streams to the order.

use quip_core::Effect;
use quip_order::SubmitError;

use super::*;

#[test]
fn events_reach_a_follower_as_they_are_committed() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.commit(vec![event(6), event(7)]);
    assert_eq!(relay.said(stream), [ToSee::Event(6), ToSee::Event(7)]);
    assert_eq!(relay.world().streams[stream].priority, crate::hub::Priority::Live);
}

#[test]
fn a_follower_that_is_behind_reads_one_page_at_a_time() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 50, Start::After { generation: GENERATION, seq: 0 });
    assert_eq!(relay.world().streams[stream].priority, crate::hub::Priority::CatchingUp);
    for first in [1, 21, 41] {
        assert_eq!(relay.world().reads.len(), 1, "one page is under way");
        assert_eq!(relay.found_page(20).0, first);
    }
    assert!(relay.world().reads.is_empty());
    let all: Vec<_> = (1..=50).map(ToSee::Event).collect();
    assert_eq!(relay.said(stream), all);
}

/// A present member who was out twice.
fn twice_out() -> MemberRecord {
    let earlier = vec![Interval { from: 2, to: 4 }, Interval { from: 8, to: 8 }];
    MemberRecord { from: 20, earlier, ..present() }
}

#[test]
fn what_was_between_memberships_is_skipped_and_the_rest_delivered() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &Target::Id(group()), 0, Start::After { generation: GENERATION, seq: 2 });
    relay.found_rows(rows(group_row(21), Some(twice_out())));
    relay.commit(vec![event(22)]);
    for page in [(3, 4), (8, 8), (20, 22)] {
        assert_eq!(relay.found_page(1000), page, "no page reaches into a hole");
    }
    use ToSee::{Event, Skip};
    let said = [Event(3), Event(4), Skip(7), Event(8), Skip(19), Event(20), Event(21), Event(22)];
    assert_eq!(relay.said(stream), [&[ToSee::Opened(3)], &said[..]].concat());
}

#[test]
fn memory_does_not_deliver_what_was_between_memberships() {
    let mut relay = Relay::new();
    let (ann, bob) = (relay.client("ann"), relay.client("bob"));
    relay.open(bob, 0, Start::Now);
    relay.commit((1..=21).map(event).collect());
    let stream = relay.ask(ann, 1, &Target::Id(group()), 0, Start::After { generation: GENERATION, seq: 0 });
    relay.found_rows(rows(group_row(21), Some(twice_out())));
    relay.turns();
    assert!(relay.world().reads.is_empty(), "all of it is in memory");
    use ToSee::{Event, Skip};
    let said = [Skip(1), Event(2), Event(3), Event(4), Skip(7), Event(8), Skip(19), Event(20), Event(21)];
    assert_eq!(relay.said(stream), [&[ToSee::Opened(2)], &said[..]].concat());
}

#[test]
fn the_last_events_are_those_that_are_visible() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    for (id, count, start) in [(1, 2, 20), (2, 3, 8), (3, 5, 3), (4, 99, 2)] {
        let stream = relay.ask(client, id, &Target::Id(group()), 0, Start::Last(count));
        relay.found_rows(rows(group_row(21), Some(twice_out())));
        assert_eq!(relay.said(stream)[0], ToSee::Opened(start), "the last {count}");
        relay.hub.finished(stream);
        relay.world().reads.clear();
    }
}

#[test]
fn a_stream_is_written_to_only_as_far_as_it_takes_it() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 0, Start::Now);
    let frame = event_frame(1).len();
    relay.world().streams[stream].room = 2 * frame;
    relay.commit((1..=100).map(event).collect());
    assert_eq!(relay.said(stream), [ToSee::Event(1), ToSee::Event(2)]);
    relay.commit(vec![event(101)]);
    assert_eq!(relay.said(stream), []);
    relay.world().streams[stream].room = usize::MAX;
    relay.hub.writable(stream);
    relay.turns();
    let rest: Vec<_> = (3..=101).map(ToSee::Event).collect();
    assert_eq!(relay.said(stream), rest);
}

#[test]
fn a_slow_follower_reads_from_the_store_what_the_ring_has_dropped_and_holds_up_nobody() {
    let mut relay = Relay::with(|config| config.limits.ring_bytes_per_conversation = 1000);
    let (ann, bob) = (relay.client("ann"), relay.client("bob"));
    let (slow, quick) = (relay.open(ann, 0, Start::Now), relay.open(bob, 0, Start::Now));
    relay.world().streams[slow].room = 0;
    for seq in 1..=200 {
        relay.commit(vec![event(seq)]);
    }
    let all: Vec<_> = (1..=200).map(ToSee::Event).collect();
    assert_eq!(relay.said(quick), all);
    relay.world().streams[slow].room = usize::MAX;
    relay.hub.writable(slow);
    let (first, last) = relay.found_page(1000);
    assert_eq!(last, 200);
    assert!(first > 1, "what it had been given is not read again");
    assert_eq!(relay.said(slow), all);
}

#[test]
fn an_event_without_its_frame_is_read_from_the_store() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 0, Start::Now);
    let mut bare = event(1);
    bare.event.as_mut().unwrap().record.frame = Bytes::new();
    relay.commit(vec![bare]);
    assert_eq!(relay.said(stream), []);
    relay.found_page(10);
    relay.commit(vec![event(2)]);
    assert_eq!(relay.said(stream), [ToSee::Event(1), ToSee::Event(2)]);
}

#[test]
fn an_own_message_is_answered_in_its_place_at_the_head_and_by_an_ack_elsewhere() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &post(1));
    relay.warmed();
    relay.commit(vec![event(6), own_event(7, "ann", 1)]);
    assert_eq!(relay.said(stream), [ToSee::Event(6), ToSee::Accepted(7)]);
    relay.send(stream, &post(2));
    assert_eq!(relay.world().submitted.len(), 2, "its rows are known to be in memory");
    relay.world().streams[stream].room = 1;
    relay.commit(vec![event(8)]);
    relay.commit(vec![own_event(9, "ann", 2)]);
    relay.world().streams[stream].room = usize::MAX;
    relay.hub.writable(stream);
    relay.turns();
    assert_eq!(relay.said(stream), [ToSee::Event(8), ToSee::Ack(9), ToSee::Event(9)]);
}

#[test]
fn after_a_refusal_later_commands_are_dropped_until_it_comes_again() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &post(1));
    relay.warmed();
    relay.world().refusal = Some(SubmitError::Full { retry_after_ms: 50 });
    relay.send(stream, &post(2));
    relay.world().refusal = None;
    relay.send(stream, &post(3));
    assert_eq!(relay.said(stream), [], "the first one is not answered yet");
    relay.commit(vec![own_event(6, "ann", 1)]);
    assert_eq!(relay.said(stream), [ToSee::Accepted(6), ToSee::Rejected(2, Code::FULL)]);
    relay.send(stream, &post(2));
    relay.send(stream, &post(3));
    assert_eq!(relay.world().submitted.len(), 3);
}

#[test]
fn answers_come_in_order_of_the_numbers() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &post(1));
    relay.warmed();
    relay.send(stream, &post(2));
    relay.send(stream, &Post { n: 3, kind: kind::TEXT, body: Blob(b"") });
    relay.send(stream, &post(4));
    assert_eq!(relay.said(stream), [], "the refusal waits for the answers before it");
    let without_event = Change { event: None, ..own_event(0, "ann", 2) };
    relay.commit(vec![own_event(6, "ann", 1), without_event]);
    let said = [ToSee::Accepted(6), ToSee::Ack(0), ToSee::Rejected(3, Code::MESSAGE_EMPTY)];
    assert_eq!(relay.said(stream), said);
    assert_eq!(relay.world().submitted.len(), 2, "what came behind a refusal was dropped");
}

#[test]
fn a_command_of_a_later_version_is_refused_and_the_stream_goes_on() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let mut bytes = vec![4, 0xe0, 0x07, 1, 9];
    let extension = quip_protocol::Extension { id: 2, content: b"" };
    frame::encode_extended(&post(1), &[extension], &mut bytes);
    relay.hub.received(stream, &bytes.into());
    let unsupported = || ToSee::Rejected(1, Code::UNSUPPORTED);
    assert_eq!(relay.said(stream), [unsupported(), unsupported()]);
    let mut bytes = Vec::new();
    quip_protocol::grease::frame(77, &mut bytes);
    frame::encode_extended(&post(1), &[quip_protocol::Extension { id: 3, content: b"x" }], &mut bytes);
    relay.hub.received(stream, &bytes.into());
    relay.warmed();
    assert_eq!(relay.world().submitted.len(), 1, "what may be skipped is skipped");
    relay.hub.received(stream, &Bytes::from_static(&[4, 0xe0, 0x07, 0, 9]));
    assert_eq!(relay.closed(client), Some(Code::MALFORMED), "n is 0");
}

#[test]
fn a_stream_whose_answers_are_not_read_is_reset_and_the_others_go_on() {
    let mut relay = Relay::with(|config| config.limits.messages_per_second = 0);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.world().streams[stream].room = 0;
    let forbidden = |n| Change {
        event: None,
        outcome: Some(Outcome { n, code: Code::FORBIDDEN, seq: 0, number: 0, at: TIME, check: [9; 4] }),
        ..own_event(0, "ann", n)
    };
    for n in 1..=66 {
        assert_eq!(relay.world().streams[stream].reset, None);
        relay.send(stream, &post(n));
        if n == 1 {
            relay.warmed();
        }
        relay.commit(vec![forbidden(n)]);
    }
    relay.send(stream, &post(67));
    assert_eq!(relay.world().streams[stream].reset, Some(Code::UNANSWERED));
    assert_eq!(relay.closed(client), None);
}

#[test]
fn a_client_that_stops_reading_a_stream_gets_a_reset_at_once() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    assert!(relay.world().streams[stream].watched);
    relay.hub.stopped(stream);
    assert_eq!(relay.world().streams[stream].reset, Some(Code::BYE));
    relay.commit(vec![event(6)]);
    let again = relay.ask(client, 2, &Target::Id(group()), 0, Start::Now);
    relay.found_rows(rows(group_row(6), Some(present())));
    assert_eq!(relay.said(again), [ToSee::Opened(7)]);
}

#[test]
fn a_user_sends_no_faster_than_the_limit_on_all_connections_together() {
    let mut relay = Relay::with(|config| {
        (config.limits.messages_per_second, config.limits.messages_burst) = (10, 2);
    });
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.wait(TICK);
    relay.send(stream, &post(1));
    relay.warmed();
    relay.send(stream, &post(2));
    relay.send(stream, &post(3));
    relay.commit(vec![own_event(6, "ann", 1), own_event(7, "ann", 2)]);
    assert_eq!(relay.said(stream), [ToSee::Accepted(6), ToSee::Accepted(7), ToSee::Rejected(3, Code::RATE)]);
    relay.wait(Duration::from_millis(100));
    relay.send(stream, &post(3));
    assert_eq!(relay.world().submitted.len(), 3);
}

#[test]
fn an_answer_that_does_not_come_ends_the_stream() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &post(1));
    relay.warmed();
    for _ in 0..14 {
        relay.wait(Duration::from_secs(1));
        relay.world().connections[client.at].frames += 1;
    }
    assert_eq!(relay.said(stream), []);
    relay.wait(Duration::from_secs(2));
    assert_eq!(relay.ended(stream), Some(Code::LOST));
}

#[test]
fn the_end_of_a_membership_is_delivered_and_then_the_stream_ends() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let left = Effect::Visible { user: user("ann"), from: 1, to: 6, role: 0, name: String::new() };
    relay.commit(vec![Change { effects: vec![left], ..event(6) }, event(7)]);
    assert_eq!(relay.said(stream), [ToSee::Event(6), ToSee::End(Code::ENDED)]);
}

#[test]
fn a_read_mark_goes_with_the_next_tick_and_is_kept_when_its_connection_is_closed() {
    use quip_protocol::conversation::Mark;
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &Mark { seq: 2, number: 2 });
    relay.send(stream, &Mark { seq: 4, number: 4 });
    relay.send(stream, &Mark { seq: 3, number: 3 });
    relay.hub.disconnected(client.at, crate::hub::DisconnectReason::Broken);
    assert!(relay.world().connections[client.at].forgotten);
    relay.warmed();
    let command = relay.world().submitted.pop().unwrap();
    assert_eq!(command.action, quip_core::Action::Mark { seq: 4, number: 4 });
    assert!(relay.world().reads.is_empty() && relay.world().submitted.is_empty());
}

#[test]
fn signals_reach_the_other_members_and_nobody_else() {
    use quip_protocol::session::Signal;
    let mut relay = Relay::new();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| relay.client(name));
    relay.open(ann, 5, Start::Now);
    relay.open(bob, 5, Start::Now);
    relay.ask(eve, 1, &Target::Id(group()), 0, Start::Now);
    let typing = frame::to_datagram(&Signal { channel: 1, user: "", kind: 1, body: Blob(b"") });
    relay.hub.datagram(ann.at, &typing);
    relay.hub.datagram(eve.at, &typing);
    let received = [ann, bob, eve].map(|client| relay.world().connections[client.at].datagrams.len());
    assert_eq!(received, [0, 1, 0]);
    (0..100).for_each(|_| relay.hub.datagram(ann.at, &typing));
    assert_eq!(relay.world().connections[bob.at].datagrams.len(), 20, "as many as a client may send in a second");
}

#[test]
fn a_stream_that_goes_while_it_is_written_to_takes_nobody_else_with_it() {
    let mut relay = Relay::new();
    let clients: Vec<_> = (0..12).map(|index| relay.client(&format!("user{index}"))).collect();
    let streams: Vec<_> = clients.iter().map(|client| relay.open(*client, 0, Start::Now)).collect();
    for stream in streams.iter().step_by(2) {
        relay.world().streams[*stream].gone = true;
    }
    relay.commit(vec![event(1)]);
    relay.commit(vec![event(2)]);
    for (index, stream) in streams.into_iter().enumerate() {
        let said = relay.said(stream);
        assert_eq!(said.len(), if index % 2 == 0 { 0 } else { 2 });
        assert_eq!(relay.world().streams[stream].forgotten, index % 2 == 0);
    }
}
