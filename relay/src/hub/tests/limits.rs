//! What one user may do, over all connections.

use quip_core::Effect;
use quip_protocol::{
    conversation::{Add, Mark},
    request::List,
};

use super::*;

/// A client of ann's on a device of its own.
fn device(relay: &mut Relay, device: u8) -> Client {
    let client = relay.connect();
    let token = relay.token("ann", &["*"]);
    relay.hello(client, &token, device, 1);
    client
}

/// Opens a stream and asks for the first page of the list on it.
fn list(relay: &mut Relay, client: Client) -> StreamKey {
    let stream = relay.stream(client.at, 9);
    relay.send(stream, &List { after: ConversationId([0; 16]), limit: 1 });
    stream
}

fn slow(config: &mut Config) {
    (config.limits.messages_per_second, config.limits.messages_burst) = (10, 2);
}

#[test]
fn the_connections_of_a_user_are_bounded_and_a_newer_one_of_a_device_takes_the_place_of_the_older() {
    let mut relay = Relay::with(|config| config.limits.connections_per_user = 2);
    let (one, two, three) = (device(&mut relay, 1), device(&mut relay, 2), device(&mut relay, 3));
    assert_eq!([one, two, three].map(|client| relay.closed(client)), [None, None, Some(Code::TOO_MANY_CONNECTIONS)]);
    assert!(relay.world().connections[three.at].forgotten && relay.said(three.session).is_empty());
    let again = device(&mut relay, 2);
    let closed = [one, two, again].map(|client| relay.closed(client));
    assert_eq!(closed, [None, Some(Code::BYE), None], "at once: there is no room for both");
    let other = relay.connect();
    let token = relay.token("ann", &[]);
    relay.hello(other, &token, 1, 7);
    let closed = [one, again, other].map(|client| relay.closed(client));
    assert_eq!(closed, [Some(Code::REPLACED), None, None], "another process");
    relay.hub.finished(other.session);
    let three = device(&mut relay, 3);
    assert_eq!(relay.closed(three), None, "there is room again");
    let bob = relay.client("bob");
    assert_eq!(relay.closed(bob), None);
}

#[test]
fn opening_costs_a_tenth_of_a_command_and_a_join_one_more() {
    let mut relay = Relay::with(slow);
    let client = relay.client("ann");
    let refused = |relay: &mut Relay, join| {
        let stream = relay.ask(client, 1, &Target::Id(group()), join, Start::Now);
        let refused = relay.ended(stream) == Some(Code::RATE);
        relay.hub.given_up(stream);
        refused
    };
    assert_eq!((0..30).filter(|_| !refused(&mut relay, 0)).count(), 20);
    relay.wait(Duration::from_millis(100));
    assert_eq!((0..30).filter(|_| !refused(&mut relay, 0)).count(), 10);
    relay.wait(Duration::from_millis(200));
    assert_eq!([1, 0, 1].map(|join| refused(&mut relay, join)), [false, false, true]);
}

#[test]
fn a_request_and_a_command_cost_the_same() {
    let mut relay = Relay::with(slow);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let first = list(&mut relay, client);
    let second = list(&mut relay, client);
    assert_eq!((relay.said(first), relay.said(second)), (vec![], vec![ToSee::End(Code::RATE)]));
    relay.send(stream, &post(1));
    assert_eq!(relay.said(stream), [ToSee::Rejected(1, Code::RATE)]);
    relay.wait(Duration::from_millis(100));
    relay.send(stream, &post(1));
    assert!(relay.world().reads.iter().any(|(.., query)| matches!(query, Query::Warm(_))));
}

#[test]
fn marks_wait_for_room_in_the_rate_and_those_of_a_closing_stream_are_owed() {
    let mut relay = Relay::with(|config| {
        slow(config);
        config.limits.reads_per_user = 64;
    });
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let marks = |relay: &mut Relay| {
        while !relay.world().reads.is_empty() {
            relay.warmed();
        }
        std::mem::take(&mut relay.world().submitted).len()
    };
    let mut submitted = 0;
    for seq in 1..=20 {
        relay.send(stream, &Mark { seq, number: seq });
        relay.wait(TICK);
        submitted += marks(&mut relay);
    }
    assert_eq!(submitted, 20, "one in each tick is ten a second");
    let more: Vec<_> =
        (1..=4).map(|number| relay.open_one(client, ConversationId::group([number; 15]), 5, Start::Now)).collect();
    more.iter().for_each(|stream| relay.send(*stream, &Mark { seq: 1, number: 1 }));
    relay.wait(TICK);
    assert_eq!(marks(&mut relay), 1);
    more.iter().for_each(|stream| relay.hub.finished(*stream));
    assert_eq!(marks(&mut relay), 3, "what was read stays read");
    let refused = list(&mut relay, client);
    assert_eq!(relay.ended(refused), Some(Code::RATE));
    relay.wait(TICK * 2);
    let refused = list(&mut relay, client);
    assert_eq!(relay.ended(refused), Some(Code::RATE), "it is still owed");
    relay.wait(TICK * 4);
    let answered = list(&mut relay, client);
    assert_eq!(relay.ended(answered), None);
}

#[test]
fn marks_that_the_order_does_not_take_wait_for_the_next_tick_and_cost_nothing() {
    let mut relay = Relay::with(slow);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &Mark { seq: 1, number: 1 });
    relay.wait(TICK);
    relay.warmed();
    relay.world().submitted.clear();
    relay.world().refusal = Some(quip_order::SubmitError::Full { retry_after_ms: 50 });
    relay.send(stream, &Mark { seq: 2, number: 2 });
    relay.wait(TICK);
    for _ in 0..20 {
        relay.wait(TICK);
    }
    assert!(relay.world().submitted.is_empty());
    relay.world().refusal = None;
    let answered = list(&mut relay, client);
    assert_eq!(relay.ended(answered), None);
    relay.wait(TICK);
    assert_eq!(relay.world().submitted.len(), 1);
}

#[test]
fn a_users_connections_take_turns_to_read() {
    let mut relay = Relay::new();
    let (one, two) = (device(&mut relay, 1), device(&mut relay, 2));
    let bob = relay.client("bob");
    let asked: Vec<_> = [one, one, one, one, one, one, two].map(|client| list(&mut relay, client)).to_vec();
    let at_bob = list(&mut relay, bob);
    let reading = |relay: &mut Relay| relay.world().reads.iter().map(|(_, stream, _)| *stream).collect::<Vec<_>>();
    assert_eq!(reading(&mut relay), [&asked[..4], &[at_bob]].concat());
    // The connection goes, and its user gains nothing by that.
    relay.hub.disconnected(one.at, crate::hub::DisconnectReason::Broken);
    let three = device(&mut relay, 3);
    let late = list(&mut relay, three);
    assert_eq!(reading(&mut relay).len(), 5);
    for _ in 0..2 {
        let (by, stream, _) = relay.world().reads.pop_front().unwrap();
        relay.found(by, stream, Found::Frames(Vec::new()));
    }
    assert_eq!(reading(&mut relay), [asked[2], asked[3], at_bob, asked[6], late]);
}

#[test]
fn a_refusal_costs_as_much_as_what_is_taken() {
    let mut relay = Relay::with(slow);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    for _ in 0..1000 {
        relay.send(stream, &Post { n: 1, kind: kind::TEXT, body: Blob(b"") });
    }
    let said = relay.said(stream);
    let count = |code| said.iter().filter(|said| **said == ToSee::Rejected(1, code)).count();
    assert!(count(Code::MESSAGE_EMPTY) < 10 && count(Code::RATE) > 900, "{said:?}");
}

#[test]
fn all_connections_of_a_user_have_one_rate_of_signals() {
    use quip_protocol::session::Signal;
    let mut relay = Relay::new();
    // Each has a listener of its own, since what one connection is sent is bounded too.
    let mut listeners = Vec::new();
    for number in 1..=5 {
        let id = ConversationId::group([number; 15]);
        let (sender, listener) = (device(&mut relay, number), relay.client(&format!("listener-{number}")));
        relay.open_one(sender, id, 5, Start::Now);
        relay.open_one(listener, id, 5, Start::Now);
        for _ in 0..20 {
            let signal = Signal { channel: 1, user: "", kind: 1, body: Blob(b"") };
            relay.hub.datagram(sender.at, &frame::to_datagram(&signal));
        }
        listeners.push(listener.at);
    }
    let heard = listeners.iter().map(|at| relay.world().connections[*at].datagrams.len());
    assert_eq!(heard.collect::<Vec<_>>(), [20, 0, 0, 0, 0]);
}

#[test]
fn a_command_whose_turn_comes_while_the_readers_are_busy_is_refused_alone() {
    let mut relay = Relay::with(|config| config.limits.reads_per_user = 1);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let asked = list(&mut relay, client);
    relay.send(stream, &post(1));
    let (by, reading, _) = relay.world().reads.pop_front().unwrap();
    assert_eq!((reading, relay.world().reads.len()), (asked, 0), "the command waits for its turn");
    relay.world().busy = true;
    relay.found(by, reading, Found::Frames(Vec::new()));
    assert_eq!(relay.said(stream), [ToSee::Rejected(1, Code::BUSY)]);
    relay.world().busy = false;
    relay.send(stream, &post(1));
    relay.warmed();
    assert_eq!(relay.world().submitted.len(), 1);
}

#[test]
fn what_comes_behind_the_end_of_a_stream_is_discarded() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.world().streams[stream].room = 0;
    relay.ask(client, 2, &Target::Id(group()), 0, Start::Now);
    assert_eq!(relay.hub.links.role(stream), Some(crate::hub::links::Role::Ending));
    for bytes in [&b"\x80\x80\x80\x80\x80"[..], b"\x40half a frame", &[0; 100]] {
        relay.hub.received(stream, &Bytes::from_static(bytes));
    }
    relay.hub.finished(stream);
    assert_eq!(relay.closed(client), None);
}

#[test]
fn conversations_that_a_user_creates_are_bounded() {
    let mut relay = Relay::with(|config| config.limits.created_per_hour = 2);
    let client = relay.client("ann");
    let join = |relay: &mut Relay, number: u8, creates| {
        let id = ConversationId::group([number; 15]);
        let stream = relay.ask(client, 1, &Target::NewGroup(id), 1, Start::Now);
        let (by, asked, query) = relay.world().reads.pop_back().unwrap();
        let Query::Warm(command) = query else { panic!("{query:?}") };
        relay.found(by, asked, Found::Warm { command, creates });
        let submitted = relay.world().submitted.pop().is_some();
        assert_eq!(relay.ended(stream), (!submitted).then_some(Code::TOO_MANY_CREATED));
        submitted
    };
    assert_eq!([true, true, true].map(|creates| join(&mut relay, 1, creates)), [true, true, false]);
    assert!(join(&mut relay, 2, false), "it is there already");
    // Connecting again does not help.
    relay.hub.finished(client.session);
    relay.wait(Duration::from_secs(10));
    let client = relay.client("ann");
    let stream = relay.ask(client, 1, &Target::NewGroup(group()), 1, Start::Now);
    let (by, asked, query) = relay.world().reads.pop_back().unwrap();
    let Query::Warm(command) = query else { panic!("{query:?}") };
    relay.found(by, asked, Found::Warm { command, creates: true });
    assert_eq!(relay.ended(stream), Some(Code::TOO_MANY_CREATED));
}

#[test]
fn one_who_was_added_to_many_groups_may_not_be_added_to_more() {
    let mut relay = Relay::with(|config| config.limits.added_by_one_per_hour = 1);
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    let may_add = |relay: &mut Relay, n| {
        relay.send(stream, &Add { n, user: "bob" });
        while !relay.world().reads.is_empty() {
            relay.warmed();
        }
        relay.world().submitted.pop().map(|command| command.authority.add)
    };
    let may = [may_add(&mut relay, 1), may_add(&mut relay, 2)];
    assert_eq!(may, [Some(true), Some(false)], "one that is being decided counts");
    relay.commit(vec![Change { event: None, ..own_event(0, "ann", 1) }]);
    assert_eq!(may_add(&mut relay, 3), Some(true), "it had no effect");
    let mut added = own_event(6, "ann", 3);
    added.event.as_mut().unwrap().kind = kind::ADDED;
    added.effects.push(Effect::Visible { user: user("bob"), from: 6, to: u64::MAX, role: 1, name: String::new() });
    relay.commit(vec![added]);
    assert_eq!(may_add(&mut relay, 4), Some(false));
}

#[test]
fn users_who_are_gone_and_owe_nothing_are_forgotten() {
    let mut relay = Relay::with(|config| {
        slow(config);
        config.presence.sweep = Duration::from_secs(1);
    });
    let client = relay.client("ann");
    let stream = relay.open(client, 5, Start::Now);
    relay.send(stream, &Mark { seq: 1, number: 1 });
    relay.hub.disconnected(client.at, crate::hub::DisconnectReason::Broken);
    relay.warmed();
    relay.wait(Duration::from_secs(3));
    relay.hub.assert_nobody_known();
}
