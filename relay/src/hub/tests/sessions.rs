//! Connections, sessions and what a client may send.

use super::*;

#[test]
fn a_client_is_welcomed_and_may_open_streams_then() {
    let mut relay = Relay::new();
    let client = relay.connect();
    let early = relay.ask(client, 1, &Target::Id(group()), 0, Start::Now);
    assert!(!relay.hub.takes_input(early), "not before the relay knows who it is");
    assert!(relay.world().reads.is_empty());
    let token = relay.token("ann", &[]);
    relay.world().read_again.clear();
    relay.hello(client, &token, 1, 1);
    assert_eq!(relay.said(client.session), [ToSee::Welcome("ann".to_owned())]);
    assert!(relay.world().read_again.contains(&early));
    assert_eq!(relay.world().reads.len(), 1, "what came early is looked at now");
    assert!(relay.world().connections[client.at].streams > 8 + 1);
    let second = relay.stream(client.at, 2);
    relay.hello(Client { session: second, ..client }, &token, 1, 1);
    assert_eq!(relay.closed(client), Some(Code::UNEXPECTED), "one Hello is enough");
    assert!(relay.world().connections[client.at].forgotten && relay.world().streams[early].forgotten);
}

#[test]
fn a_close_says_where_the_protocol_was_broken() {
    let mut relay = Relay::new();
    let reason = |relay: &mut Relay, client: Client| relay.world().connections[client.at].reason.clone();
    let first = relay.connect();
    relay.hub.received(first.session, &Bytes::from_static(b"\0"));
    assert_eq!(reason(&mut relay, first), "stream 0, offset 0: malformed frame or body");

    let second = relay.client("ann");
    let (target, id) = (Target::Id(group()), 1);
    let mut open = Open::new(&target, 0, Start::Now);
    open.channel = id;
    let before = frame::to_bytes(&open).len();
    let stream = relay.open(second, 3, Start::Now);
    // A frame that is skipped, in two pieces, and behind it a `Leave` with n = 0.
    relay.hub.received(stream, &Bytes::from_static(b"\x02"));
    relay.hub.received(stream, &Bytes::from_static(b"\x03\xff\x02\x2a\0"));
    let text = format!("stream {id}, type 0x2a, offset {}: malformed frame or body", before + 3);
    assert_eq!(reason(&mut relay, second), text);

    let third = relay.client("bob");
    let cut = relay.stream(third.at, 8);
    relay.hub.received(cut, &Bytes::from_static(b"\x05\x20"));
    relay.hub.finished(cut);
    assert_eq!(reason(&mut relay, third), "stream 8, offset 0: stream finished inside a frame");
}

#[test]
fn only_commands_are_refused_for_an_extension() {
    // `Leave` with n = 1, `Mark` and `List`, each with extension 2.
    let list = [&[0x14, 0x42][..], &[0; 16], &[1, 2, 0]].concat();
    for (bytes, code) in [
        (vec![4, 0x2a, 1, 2, 0], None),
        (vec![5, 0x34, 1, 1, 2, 0], Some(Code::UNKNOWN_EXTENSION)),
        (list, Some(Code::UNKNOWN_EXTENSION)),
    ] {
        let mut relay = Relay::new();
        let client = relay.client("ann");
        let stream = relay.open(client, 3, Start::Now);
        relay.hub.received(stream, &bytes.into());
        assert_eq!(relay.closed(client), code);
    }
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let mut relay = Relay::new();
    let client = relay.connect();
    relay.wait(Duration::from_secs(4));
    assert_eq!(relay.closed(client), None);
    relay.wait(Duration::from_secs(6));
    assert_eq!(relay.closed(client), Some(Code::NO_HELLO));
}

#[test]
fn a_newer_process_replaces_an_older_one_and_the_same_one_overlaps() {
    let mut relay = Relay::new();
    let token = relay.token("ann", &[]);
    let [first, second, third] = [(); 3].map(|()| relay.connect());
    relay.hello(first, &token, 1, 1);
    relay.hello(second, &token, 1, 2);
    assert_eq!((relay.closed(first), relay.closed(second)), (Some(Code::REPLACED), None));
    relay.hello(third, &token, 1, 2);
    assert_eq!(relay.closed(second), None, "the same process moves between networks");
    for _ in 0..40 {
        relay.wait(Duration::from_secs(1));
        relay.world().connections[second.at].frames += 1;
        relay.world().connections[third.at].frames += 1;
    }
    assert_eq!((relay.closed(second), relay.closed(third)), (Some(Code::BYE), None));
}

#[test]
fn frames_may_come_in_pieces_and_half_ones_are_bounded() {
    let mut relay = Relay::with(|config| config.limits.unanswered_bytes_per_connection = 100);
    let client = relay.client("ann");
    let target = Target::Id(group());
    let open = frame::to_bytes(&Open::new(&target, 0, Start::Now));
    let stream = relay.stream(client.at, 1);
    for byte in open.chunks(1) {
        assert!(relay.world().reads.is_empty());
        relay.hub.received(stream, &Bytes::copy_from_slice(byte));
    }
    assert_eq!(relay.world().reads.len(), 1);
    let hostile = [2, 3].map(|id| relay.stream(client.at, id));
    let large = frame::to_bytes(&Post { n: 1, kind: 1, body: Blob(&[0; 40_000]) });
    relay.hub.received(hostile[0], &large.slice(..39_000));
    relay.hub.received(hostile[1], &large.slice(..(64 << 10) + 100 - 39_000));
    assert_eq!(relay.closed(client), None);
    relay.hub.received(hostile[1], &Bytes::from_static(b"x"));
    assert_eq!(relay.closed(client), Some(Code::BUFFERED));
}

#[test]
fn a_client_that_does_not_read_its_session_stream_is_closed_and_its_watchers_learn_of_it() {
    let mut relay = Relay::new();
    let ann = relay.client("ann");
    relay.world().streams[ann.session].room = 0;
    let marked = |seq| Change {
        by: By::Relay,
        event: None,
        effects: vec![quip_core::Effect::Marked { user: user("ann"), seq, number: seq }],
        ..event(1)
    };
    let changes = (0..60_000).map(marked).collect();
    relay.commit(changes);
    assert_eq!(relay.closed(ann), Some(Code::OVERLOADED));
    assert!(relay.world().connections[ann.at].forgotten);
}

#[test]
fn the_end_of_the_session_stream_is_a_goodbye() {
    let mut relay = Relay::new();
    let (ann, bob) = (relay.client("ann"), relay.client("bob"));
    relay.hub.finished(ann.session);
    assert_eq!(relay.closed(ann), Some(Code::BYE));
    relay.hub.given_up(bob.session);
    assert_eq!(relay.closed(bob), Some(Code::BYE));
    assert!(relay.world().connections[bob.at].forgotten);
    let eve = relay.client("eve");
    assert!(relay.world().streams[eve.session].watched);
    relay.hub.stopped(eve.session);
    assert_eq!(relay.closed(eve), Some(Code::BYE));
}

#[test]
fn the_session_stream_is_the_one_that_begins_with_hello() {
    let mut relay = Relay::new();
    let client = relay.connect();
    let other = Client { session: relay.stream(client.at, 4), ..client };
    let token = relay.token("ann", &[]);
    relay.hello(other, &token, 1, 1);
    assert_eq!(relay.said(other.session), [ToSee::Welcome("ann".to_owned())]);
    relay.hub.given_up(client.session);
    assert_eq!(relay.closed(client), None, "the first stream is like any other");
    relay.hub.finished(other.session);
    assert_eq!(relay.closed(client), Some(Code::BYE));
}

#[test]
fn while_going_away_those_who_are_here_are_served_and_nobody_else_is_let_in() {
    let mut relay = Relay::new();
    let (client, silent) = (relay.client("ann"), relay.connect());
    let stream = relay.open(client, 5, Start::Now);
    relay.hub.enter(Phase::GoingAway);
    assert_eq!(relay.said(client.session), [ToSee::GoAway]);
    relay.send(stream, &post(1));
    relay.warmed();
    assert_eq!(relay.world().submitted.len(), 1);
    relay.commit(vec![own_event(6, "ann", 1)]);
    assert_eq!(relay.said(stream), [ToSee::Accepted(6)]);
    let late = relay.world().connect();
    relay.hub.connected(late);
    for (who, at) in [("no hello yet", silent.at), ("too late", late)] {
        let connection = &relay.world().connections[at];
        assert_eq!((connection.closed, connection.forgotten), (Some(Code::SHUTDOWN), true), "{who}");
    }
    assert_eq!(relay.closed(client), None);
    assert!(!relay.everyone_left());
    relay.hub.finished(client.session);
    assert!(relay.everyone_left());
}

#[test]
fn while_draining_nothing_is_taken_and_everyone_is_told_to_go_elsewhere() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    relay.hub.enter(Phase::Draining);
    assert_eq!(relay.said(client.session), [ToSee::GoAway], "also when there was no time to go away");
    assert!(!relay.hub.takes_input(client.session));
    relay.hub.tick();
    assert_eq!(relay.world().submitted.len(), 1, "when ann was last seen");
}

#[test]
fn a_request_that_is_reset_gets_no_answer() {
    use quip_protocol::request::List;
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.stream(client.at, 1);
    relay.send(stream, &List { after: ConversationId([0; 16]), limit: 10 });
    relay.hub.given_up(stream);
    assert!(relay.world().streams[stream].forgotten);
    let (by, asked, _) = relay.world().reads.pop_front().unwrap();
    relay.found(by, asked, Found::Frames(b"an answer".to_vec()));
    assert_eq!(relay.said(stream), []);
}

#[test]
fn requests_of_a_connection_are_bounded_and_each_is_answered() {
    use quip_protocol::request::List;
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let list = List { after: ConversationId([0; 16]), limit: 10 };
    let streams: Vec<_> = (1..=9).map(|id| relay.stream(client.at, id)).collect();
    streams.iter().for_each(|stream| relay.send(*stream, &list));
    assert_eq!(relay.ended(streams[8]), Some(Code::BUSY));
    assert_eq!(relay.world().reads.len(), 4, "a few at a time are with the readers");
    let mut end = Vec::new();
    super::super::reads::encode_end(Code::DONE, 0, &mut end);
    for stream in &streams[..8] {
        let (by, asked, query) = relay.world().reads.pop_front().unwrap();
        assert!(asked == *stream && matches!(query, Query::List { limit: 10, .. }));
        relay.found(by, asked, Found::Frames(end.clone()));
        assert_eq!(relay.ended(*stream), Some(Code::DONE));
    }
    let again = relay.stream(client.at, 10);
    relay.send(again, &list);
    assert_eq!(relay.world().reads.len(), 1);
}
