//! Anything may happen in any order: nothing is written to after its end, and nothing is left behind.

use quip_core::Effect;
use quip_protocol::{
    conversation::{Leave, Mark},
    request::{List, Members as AskMembers},
    session::{Refresh, Signal},
};
use quip_store::Members;

use super::*;
use crate::hub::{DisconnectReason, links::Role, reads::encode_end};

/// A small generator of random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.roll(from.len())])
    }
}

/// What was opened so far, over or not.
#[derive(Default)]
struct Seen {
    clients: Vec<Client>,
    /// Each with its connection and QUIC's number for it.
    streams: Vec<(Client, StreamKey, u64)>,
    /// Of each group.
    heads: [u64; 3],
}

impl Seen {
    /// The newest event of a conversation.
    fn head(&self, id: ConversationId) -> u64 {
        groups().iter().position(|group| *group == id).map_or(3, |place| self.heads[place])
    }

    /// A group has another event.
    fn next(&mut self, id: ConversationId) -> u64 {
        let place = groups().iter().position(|group| *group == id).unwrap();
        self.heads[place] += 1;
        self.heads[place]
    }
}

fn groups() -> [ConversationId; 3] {
    [7, 8, 9].map(|number| ConversationId::group([number; 15]))
}

const NAMES: [&str; 3] = ["ann", "bob", "eve"];

fn step(relay: &mut Relay, seen: &mut Seen, dice: &mut Dice) {
    match dice.roll(16) {
        0 => {
            let client = relay.connect();
            let rooms = dice.pick(&[&["*"][..], &["lobby:*"], &[]]).unwrap();
            let token = relay.token(dice.pick(&NAMES).unwrap(), rooms);
            relay.hello(client, &token, dice.roll(20) as u8, dice.roll(2) as u8);
            seen.clients.push(client);
        }
        1 => {
            let Some(client) = dice.pick(&seen.clients) else { return };
            let id = 1 + seen.streams.len() as u64;
            let stream = relay.stream(client.at, id);
            seen.streams.push((client, stream, id));
        }
        2..=4 => say_something(relay, seen, dice),
        5..=8 => answer_a_read(relay, seen, dice),
        9 | 10 => commit_something(relay, seen, dice),
        11 => {
            let Some((client, stream, id)) = dice.pick(&seen.streams) else { return };
            let world = relay.world();
            match dice.roll(8) {
                0 => world.streams[stream].room = dice.roll(200),
                1 => world.streams[client.session].room = dice.roll(200),
                2 if dice.roll(4) == 0 => world.streams[stream].gone = true,
                _ => world.connections[client.at].frames += id,
            }
        }
        12 => {
            let Some((client, stream, _)) = dice.pick(&seen.streams) else { return };
            for stream in [stream, client.session] {
                if !relay.world().streams[stream].forgotten {
                    relay.world().streams[stream].room = usize::MAX;
                    relay.hub.writable(stream);
                }
            }
        }
        13 => {
            let Some((client, stream, _)) = dice.pick(&seen.streams) else { return };
            match dice.roll(40) {
                0 => relay.hub.disconnected(client.at, DisconnectReason::Broken),
                1 => relay.hub.finished(client.session),
                2 => relay.hub.given_up(stream),
                3 => relay.hub.stopped(stream),
                4..=6 => relay.hub.finished(stream),
                _ => {}
            }
        }
        14 => {
            let world = relay.world();
            world.busy = dice.roll(10) == 0;
            world.refusal = (dice.roll(10) == 0).then_some(quip_order::SubmitError::Full { retry_after_ms: 9 });
        }
        _ => {
            relay.wait(TICK * dice.roll(20) as u32);
            for client in seen.clients.iter().filter(|_| dice.roll(4) > 0) {
                relay.world().connections[client.at].frames += 1;
            }
        }
    }
}

fn say_something(relay: &mut Relay, seen: &Seen, dice: &mut Dice) {
    let Some((client, stream, id)) = dice.pick(&seen.streams) else { return };
    let n = 1 + dice.roll(20) as u64;
    let group = dice.pick(&groups()).unwrap();
    let target = [
        Target::Id(group),
        Target::Id(group),
        Target::Id(group),
        Target::Direct(user(dice.pick(&NAMES).unwrap())),
        Target::Room(quip_protocol::RoomName::parse("lobby:main").unwrap()),
        Target::NewGroup(group),
    ]
    .into_iter()
    .nth(dice.roll(6))
    .unwrap();
    let seq = seen.head(group).saturating_sub(dice.roll(40) as u64) + 1;
    let start = dice.pick(&[Start::Now, Start::Last(9), Start::After { generation: GENERATION, seq }]).unwrap();
    let join = dice.pick(&[0, 0, 0, n]).unwrap();
    // Mostly what belongs there.
    let kind = match relay.hub.links.role(stream) {
        _ if dice.roll(100) == 0 => dice.roll(9),
        Some(Role::Fresh) => dice.pick(&[0, 0, 0, 0, 7, 8]).unwrap(),
        _ => dice.pick(&[3, 3, 3, 3, 5, 6]).unwrap(),
    };
    let bytes = match kind {
        0..=2 => {
            let mut open = Open::new(&target, join, start);
            open.channel = id;
            frame::to_bytes(&open)
        }
        3 | 4 => frame::to_bytes(&post(n)),
        5 => frame::to_bytes(&Mark { seq: n, number: n }),
        6 => frame::to_bytes(&Leave { n }),
        7 => frame::to_bytes(&List { after: ConversationId([0; 16]), limit: n }),
        _ => frame::to_bytes(&AskMembers { conversation: group, after: "", limit: n }),
    };
    if dice.roll(40) == 0 && relay.hub.takes_input(client.session) {
        let name = relay.hub.links.session(client.at).unwrap().rights.user().to_string();
        let token = relay.token(&name, dice.pick(&[&["*"][..], &["staff:*"]]).unwrap());
        relay.hub.received(client.session, &frame::to_bytes(&Refresh { token: &token }));
    }
    if dice.roll(10) == 0 {
        let signal = Signal { channel: id, user: "", kind: 1, body: Blob(b"") };
        relay.hub.datagram(client.at, &frame::to_datagram(&signal));
    }
    // Sometimes in two pieces.
    let cut = bytes.len() - dice.roll(bytes.len());
    for piece in [bytes.slice(..cut), bytes.slice(cut..)] {
        if relay.hub.takes_input(stream) {
            relay.hub.received(stream, &piece);
        }
    }
}

fn answer_a_read(relay: &mut Relay, seen: &Seen, dice: &mut Dice) {
    if let Some(own) = relay.world().own_reads.pop_front() {
        let got = match own {
            Wanted::Expired(_) => Got::Expired(Ok(quip_store::Expired::default())),
            Wanted::LastSeen(commands) => Got::LastSeen(commands),
            Wanted::GroupMembers { places, .. } => {
                let members = NAMES.map(|name| (user(name), present())).to_vec();
                let members = Members { members, next: None };
                let page = |_: &_| Ok(GroupPage { title: String::new(), members: members.clone() });
                Got::GroupMembers(places.iter().map(page).collect())
            }
            Wanted::ForStream { .. } => unreachable!("not a read of the relay's own"),
        };
        return relay.hub.mail(Mail::Read(ReadDone(got)));
    }
    let reads = &mut relay.world().reads;
    let pages: Vec<_> = reads.iter().filter(|(.., query)| matches!(query, Query::Page(_))).collect();
    assert!(
        pages.iter().all(|(_, stream, _)| pages.iter().filter(|(_, other, _)| other == stream).count() == 1),
        "two pages for one stream"
    );
    let place = dice.roll(reads.len().max(1));
    let Some((by, stream, query)) = reads.remove(place) else { return };
    let found = match query {
        Query::Rows { id, .. } => {
            let (head, naming) = match id.kind() {
                Some(quip_protocol::Kind::Room) => (3, Naming::Room("lobby:main".to_owned(), String::new())),
                Some(quip_protocol::Kind::Direct) => (3, Naming::Direct(user("ann"), user("bob"))),
                _ => (seen.head(id), Naming::Group(String::new())),
            };
            let companions = NAMES.iter().map(|name| (user(name), 0)).take(dice.roll(4)).collect();
            let member = (dice.roll(8) > 0).then(present);
            let rows = OpenRows { companions: Some(companions), ..rows(row(head, naming), member) };
            Found::Rows(Ok((dice.roll(8) > 0).then(|| Box::new(rows))))
        }
        Query::Page(of) => {
            let PageOf { first, last, .. } = of;
            let to = last.min(first + dice.roll(5) as u64);
            let frames: Vec<u8> = (first..=to).flat_map(event_frame).collect();
            Found::Page(of, Ok(EventPage { first, last: to, count: (to - first + 1) as usize, frames: frames.into() }))
        }
        Query::Warm(command) => Found::Warm { command, creates: dice.roll(4) == 0 },
        Query::Present { .. } => Found::Present(Ok((vec![(user("ann"), 0)], false))),
        Query::History { .. } | Query::List { .. } | Query::Members { .. } => {
            let mut end = Vec::new();
            encode_end(Code::DONE, 0, &mut end);
            Found::Frames(end)
        }
    };
    relay.found(by, stream, found);
}

fn commit_something(relay: &mut Relay, seen: &mut Seen, dice: &mut Dice) {
    let mut changes = Vec::new();
    let submitted = std::mem::take(&mut relay.world().submitted);
    for command in submitted {
        let By::Device { n, .. } = command.by else { continue };
        let code = dice.pick(&[Code::DONE, Code::DONE, Code::FORBIDDEN]).unwrap();
        let becomes_event = code == Code::DONE && groups().contains(&command.conversation) && n > 0;
        let seq = if becomes_event { seen.next(command.conversation) } else { 0 };
        let outcome = (n > 0).then_some(Outcome {
            n,
            code,
            seq,
            number: seq,
            at: TIME,
            check: quip_core::check(&command.action),
        });
        let event = event_in(command.conversation, seq).event.filter(|_| becomes_event);
        changes.push(Change { conversation: command.conversation, by: command.by, outcome, event, effects: vec![] });
    }
    for _ in 0..dice.roll(30) {
        let group = dice.pick(&groups()).unwrap();
        let seq = seen.next(group);
        let name = dice.pick(&NAMES).unwrap();
        let to = dice.pick(&[u64::MAX, u64::MAX, seq]).unwrap();
        let mut change = event_in(group, seq);
        match dice.roll(40) {
            0 => change.effects.push(Effect::Visible { user: user(name), from: 1, to, role: 1, name: String::new() }),
            1 => {
                let seq = 1 + dice.roll(seq as usize) as u64;
                let record = change.event.clone().unwrap().record;
                change.effects.push(Effect::Rewritten {
                    seq,
                    record: quip_core::EventRecord { frame: event_frame(seq), ..record },
                });
            }
            2 => change.event.as_mut().unwrap().record.frame = Bytes::new(),
            _ => {}
        }
        changes.push(change);
    }
    relay.commit(changes);
}

/// Every event that a stream was given follows the one before. Gives how many there were.
fn assert_in_order(said: &[ToSee]) -> usize {
    let (mut before, mut events) = (None, 0);
    for said in said {
        match *said {
            ToSee::Opened(start) => before = Some(start - 1),
            ToSee::Event(seq) | ToSee::Accepted(seq) => {
                assert_eq!(before.replace(seq), Some(seq - 1), "a hole");
                events += 1;
            }
            ToSee::Skip(to) => before = Some(to),
            _ => {}
        }
    }
    events
}

#[test]
fn anything_may_happen_and_in_the_end_nothing_is_left() {
    let (mut events, mut opened, mut accepted, mut refused) = (0, 0, 0, 0);
    for seed in 1..=150_u64 {
        let mut relay = Relay::with(|config| {
            config.limits.ring_bytes_per_conversation = 700;
            config.limits.ring_bytes = 1500;
            config.limits.unanswered_per_stream = 12;
            config.limits.reads_per_user = 2;
            config.limits.connections_per_user = 12;
            (config.limits.messages_per_second, config.limits.messages_burst) = (200, 40);
            (config.limits.created_per_hour, config.limits.added_per_hour) = (30, 3);
        });
        println!("seed {seed}");
        let (mut seen, mut dice) = (Seen::default(), Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed)));
        for _ in 0..400 {
            step(&mut relay, &mut seen, &mut dice);
            relay.hub.assert_counted();
        }
        for (_, stream, _) in &seen.streams {
            let said = relay.said_so_far(*stream);
            events += assert_in_order(&said);
            for said in said {
                match said {
                    ToSee::Opened(_) => opened += 1,
                    ToSee::Accepted(_) | ToSee::Ack(_) => accepted += 1,
                    ToSee::Rejected(..) | ToSee::End(_) => refused += 1,
                    _ => {}
                }
            }
        }
        for client in &seen.clients {
            if relay.closed(*client).is_none() {
                relay.hub.disconnected(client.at, DisconnectReason::Broken);
            }
            assert!(relay.world().connections[client.at].forgotten);
        }
        assert!(seen.streams.iter().all(|(_, stream, _)| relay.world().streams[*stream].forgotten));
        relay.hub.assert_nothing_left();
        (relay.world().busy, relay.world().refusal) = (false, None);
        while !(relay.world().reads.is_empty() && relay.world().own_reads.is_empty()) {
            answer_a_read(&mut relay, &seen, &mut dice);
        }
        relay.now += Duration::from_secs(3600);
        relay.wait(TICK * 2);
        relay.hub.assert_nobody_known();
    }
    let happened = [events, opened, accepted, refused];
    assert!(happened.iter().all(|count| *count > 300), "too little happened: {happened:?}");
    println!("{happened:?}");
}
