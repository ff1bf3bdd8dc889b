//! Memory for recent events and reads of the store are shared: nobody takes them from others.

use quip_core::Effect;

use super::*;

fn other_group(number: u8) -> ConversationId {
    ConversationId::group([number; 15])
}

/// An event whose frame is not in memory, as under load.
fn bare(seq: u64) -> Change {
    let mut change = event(seq);
    change.event.as_mut().unwrap().record.frame = Bytes::new();
    change
}

/// Opens a group from its first event while other reads are under way; its row is the one of the user.
fn open_beside(relay: &mut Relay, client: Client, id: ConversationId, row: MemberRecord) -> StreamKey {
    let stream = relay.ask(client, 1, &Target::Id(id), 0, FROM_THE_START);
    let (by, asked, query) = relay.world().reads.pop_back().unwrap();
    assert!(asked == stream && matches!(query, Query::Rows { .. }));
    relay.found(by, stream, Found::Rows(Ok(Some(Box::new(rows(group_row(50), Some(row)))))));
    assert_eq!(relay.said(stream), [ToSee::Opened(1)]);
    stream
}

const FROM_THE_START: Start = Start::After { generation: GENERATION, seq: 0 };

fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<ToSee> {
    seqs.map(ToSee::Event).collect()
}

/// The first events that pages are being read from.
fn pages(relay: &mut Relay) -> Vec<u64> {
    let first = |query: &Query| if let Query::Page(page) = query { page.first } else { panic!("{query:?}") };
    relay.world().reads.iter().map(|(.., query)| first(query)).collect()
}

#[test]
fn readers_who_do_not_read_take_no_memory_from_others() {
    let mut relay = Relay::with(|config| config.limits.ring_bytes = 20_000);
    let (deaf, ann) = (relay.client("deaf"), relay.client("ann"));
    let unread: Vec<_> = (100..108).map(|number| relay.open_one(deaf, other_group(number), 0, Start::Now)).collect();
    unread.iter().for_each(|stream| relay.world().streams[*stream].room = 0);
    let fill = |relay: &mut Relay, seq| {
        relay.commit((100..108).map(|number| event_in(other_group(number), seq)).collect());
        relay.hub.assert_counted();
    };
    (1..=100).for_each(|seq| fill(&mut relay, seq));
    let stream = relay.open(ann, 0, Start::Now);
    // While the others are blocked for a moment only, and after that.
    for seq in 1..=40 {
        relay.commit(vec![event(seq)]);
        assert_eq!(relay.said(stream), [ToSee::Event(seq)], "from memory");
        fill(&mut relay, 100 + seq);
        relay.wait(TICK);
    }
    assert!(relay.world().reads.is_empty());
    assert!(unread.iter().all(|stream| relay.said_so_far(*stream).len() < 3));
}

#[test]
fn a_follower_that_is_blocked_for_a_sweep_reads_from_the_store_later() {
    let mut relay = Relay::new();
    let client = relay.client("ann");
    let stream = relay.open(client, 0, Start::Now);
    relay.world().streams[stream].room = 0;
    relay.commit((1..=100).map(event).collect());
    let sweep = Duration::from_secs(2);
    relay.wait(sweep);
    relay.hub.assert_counted();
    relay.wait(sweep);
    relay.commit(vec![event(101)]);
    relay.wait(sweep);
    relay.hub.assert_counted();
    relay.world().streams[stream].room = usize::MAX;
    relay.hub.writable(stream);
    let first = pages(&mut relay)[0];
    assert!(first <= 33, "one write holds 32 events");
    relay.found_page(200);
    assert_eq!(relay.said(stream), events(1..=101));
    relay.commit(vec![event(102)]);
    assert_eq!(relay.said(stream), [ToSee::Event(102)], "it follows from memory again");
}

#[test]
fn followers_at_one_cursor_wait_for_one_read() {
    const FOLLOWERS: usize = 5000;
    let mut relay = Relay::new();
    let clients: Vec<_> = (0..FOLLOWERS).map(|index| relay.client(&format!("user{index}"))).collect();
    let streams: Vec<_> = clients.iter().map(|client| relay.open(*client, 9, Start::Now)).collect();
    relay.commit(vec![bare(10)]);
    assert_eq!(pages(&mut relay), [10]);
    // The one that it is read for is gone before the answer, and another one comes.
    relay.hub.disconnected(clients[0].at, crate::hub::DisconnectReason::Broken);
    let late = relay.client("late");
    let late = relay.ask(late, 1, &Target::Id(group()), 0, Start::Last(1));
    let (by, stream, _) = relay.world().reads.pop_back().unwrap();
    relay.found(by, stream, Found::Rows(Ok(Some(Box::new(rows(group_row(10), Some(present())))))));
    assert_eq!(pages(&mut relay), [10]);
    relay.found_page(1);
    assert!(relay.world().reads.is_empty());
    assert!(streams[1..].iter().all(|stream| relay.said(*stream) == [ToSee::Event(10)]));
    assert_eq!(relay.said(late), [ToSee::Opened(10), ToSee::Event(10)]);
    relay.commit(vec![event(11)]);
    assert!(streams[1..].iter().all(|stream| relay.said(*stream) == [ToSee::Event(11)]));
    relay.hub.assert_counted();
}

#[test]
fn nobody_waits_for_anothers_turn() {
    let mut relay = Relay::new();
    let (greedy, ann) = (relay.client("greedy"), relay.client("ann"));
    let ids: Vec<_> = (100..106).map(other_group).collect();
    let mut streams: Vec<_> = ids.iter().map(|id| relay.open_one(greedy, *id, 9, Start::Now)).collect();
    let at_ann = relay.open_one(ann, ids[5], 9, Start::Now);
    relay.commit(ids.iter().map(|id| Change { conversation: *id, ..bare(10) }).collect());
    let reading: Vec<_> = relay.world().reads.iter().map(|(_, stream, _)| *stream).collect();
    assert_eq!(reading, [&streams[..4], &[at_ann]].concat(), "two wait for their turn, and ann does not");
    while !relay.world().reads.is_empty() {
        relay.found_page(1);
    }
    streams.push(at_ann);
    assert!(streams.iter().all(|stream| relay.said(*stream) == [ToSee::Event(10)]));
}

#[test]
fn nobody_gets_a_page_that_reaches_past_their_membership() {
    let mut relay = Relay::new();
    let [ann, former, leaving] = ["ann", "former", "leaving"].map(|name| relay.client(name));
    let at_ann = open_beside(&mut relay, ann, group(), present());
    let at_former =
        open_beside(&mut relay, former, group(), MemberRecord { state: MemberState::Left, to: 20, ..present() });
    assert_eq!(pages(&mut relay), [1, 1], "a page of their own");
    let at_leaving = open_beside(&mut relay, leaving, group(), present());
    assert_eq!(pages(&mut relay).len(), 2);
    let left = Effect::Visible { user: user("leaving"), from: 1, to: 10, role: 0, name: String::new() };
    relay.commit(vec![Change { effects: vec![left], ..event(51) }]);
    while !relay.world().reads.is_empty() {
        relay.found_page(100);
    }
    let ended = |to| [events(1..=to), vec![ToSee::End(Code::ENDED)]].concat();
    assert_eq!(relay.said(at_ann), events(1..=51));
    assert_eq!(relay.said(at_former), ended(20));
    assert_eq!(relay.said(at_leaving), ended(10));
}

#[test]
fn what_was_deleted_is_not_in_a_page_that_is_asked_for_later() {
    let mut relay = Relay::new();
    let (ann, bob) = (relay.client("ann"), relay.client("bob"));
    open_beside(&mut relay, ann, group(), present());
    let row = event(7).event.unwrap().record;
    let rewritten = Effect::Rewritten { seq: 7, record: row };
    relay.commit(vec![Change { effects: vec![rewritten], ..event(51) }]);
    open_beside(&mut relay, bob, group(), present());
    assert_eq!(pages(&mut relay), [1, 1]);
}
