//! The hub as a whole, between clients that send frames and a world of lists.

mod anything;
mod delivery;
mod forgetting;
mod limits;
pub(super) mod lists;
mod opening;
mod people;
mod sessions;
mod sharing;

use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use quip_core::{
    By, ConversationRecord, EventRecord, Interval, MemberRecord, MemberState, Naming, NewEvent, Parting, Policy,
};
use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, Event, InstanceId, Items, Message, ToClient, UserId,
    conversation::{JOIN_CHECK, Open, Outcome, Post, Start, Target},
    event::{kind, role},
    frame,
    session::Hello,
};
use quip_store::{Change, Committed, EventPage};
use tokio::{sync::Notify, time::Instant};

use super::{
    Clock, Hub, Mail, Phase, ReadDone, Setup,
    deadlines::TICK,
    keys::{ConnectionKey, StreamKey},
    links::UserKey,
    reads::{Found, Got, GroupPage, OpenRows, PageOf, Query, Wanted},
};
use crate::{
    auth::{Authenticator, MintKey, TokenRequest, mint},
    config::{AuthConfig, Config, KeyConfig, KeyMaterial, KeySource, Secret, TokenConfig},
};
use lists::Lists;

const GENERATION: u64 = 7;
/// The wall clock at the beginning, in milliseconds.
const TIME: u64 = 1_800_000_000_000;

/// A hub in a world of lists.
struct Relay {
    hub: Hub<Lists>,
    now: Instant,
    mint: MintKey,
}

/// A client that was welcomed.
#[derive(Clone, Copy)]
struct Client {
    at: ConnectionKey,
    session: StreamKey,
}

impl Hub<Lists> {
    /// Nothing is kept for connections that are gone.
    fn assert_nothing_left(&self) {
        assert_eq!(self.links.connections().count(), 0);
        self.rooms.assert_empty();
        self.people.assert_nobody_watches();
    }

    /// No user is kept, and nothing is being read.
    fn assert_nobody_known(&self) {
        self.links.assert_nobody_known();
        self.rooms.assert_no_reads();
    }

    /// What is counted is what is there.
    fn assert_counted(&self) {
        self.rooms.assert_counted();
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn group() -> ConversationId {
    ConversationId::group([7; 15])
}

fn hub(config: Config, clock: Clock, start: Instant) -> Hub<Lists> {
    let authenticator = Authenticator::open(&config.auth, Path::new("/nonexistent")).unwrap();
    let setup = Setup {
        config: Arc::new(config),
        authenticator,
        generation: GENERATION,
        clock,
        everyone_left: Notify::new(),
        last_seen_submitted: Notify::new(),
    };
    Hub::new(Arc::new(setup), Lists::default(), start)
}

impl Relay {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let secret = Secret::new("a secret of more than thirty-two bytes").unwrap();
        let keys = KeySource::Listed(vec![KeyConfig { kid: None, material: KeyMaterial::Hs256(secret) }]);
        let mut config = Config::development(None, None);
        config.auth = AuthConfig::Token(TokenConfig { keys: keys.clone(), ..TokenConfig::default() });
        change(&mut config);
        let start = Instant::now();
        let hub = hub(config, Arc::new(|| TIME), start);
        Self { hub, now: start, mint: MintKey::accepted_by(&keys, Path::new("/nonexistent")).unwrap() }
    }

    /// The world.
    fn world(&mut self) -> &mut Lists {
        self.hub.port()
    }

    fn token(&self, user: &str, rooms: &[&str]) -> String {
        let rooms: Vec<_> = rooms.iter().map(|&room| room.to_owned()).collect();
        let request = TokenRequest {
            join: &rooms,
            post: &rooms,
            create: &rooms,
            ..TokenRequest::new(user, Duration::from_secs(3600))
        };
        mint(&self.mint, &request, UNIX_EPOCH + Duration::from_millis(TIME)).unwrap()
    }

    /// Time passes, tick by tick.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK.min(end - self.now);
            self.hub.begin_turn(self.now);
            self.hub.tick();
        }
    }

    fn connect(&mut self) -> Client {
        let at = self.world().connect();
        self.hub.connected(at);
        let session = self.stream(at, 0);
        Client { at, session }
    }

    fn stream(&mut self, at: ConnectionKey, id: u64) -> StreamKey {
        let stream = self.world().open();
        self.hub.stream_opened(at, stream, id);
        stream
    }

    fn send<M: Message>(&mut self, stream: StreamKey, message: &M) {
        assert!(self.hub.takes_input(stream), "input is not taken");
        self.hub.received(stream, &frame::to_bytes(message));
    }

    fn hello(&mut self, client: Client, token: &str, device: u8, instance: u8) {
        let hello = Hello {
            token,
            device: DeviceId([device; 16]),
            instance: InstanceId([instance; 16]),
            client: "test",
            streams: 8,
            features: Items::default(),
        };
        self.send(client.session, &hello);
    }

    /// A user who may do everything, on device 1.
    fn client(&mut self, user: &str) -> Client {
        let client = self.connect();
        let token = self.token(user, &["*"]);
        self.hello(client, &token, 1, 1);
        assert_eq!(self.said(client.session).len(), 1, "Welcome");
        client
    }

    /// Asks to open a conversation on a new stream.
    fn ask(&mut self, client: Client, id: u64, target: &Target<'_>, join: u64, start: Start) -> StreamKey {
        let stream = self.stream(client.at, id);
        let mut open = Open::new(target, join, start);
        open.channel = id;
        self.send(stream, &open);
        stream
    }

    /// Opens the group, of which the user is a member, with `head` events.
    fn open(&mut self, client: Client, head: u64, start: Start) -> StreamKey {
        self.open_one(client, group(), head, start)
    }

    /// Opens a group, of which the user is a member, with `head` events.
    fn open_one(&mut self, client: Client, id: ConversationId, head: u64, start: Start) -> StreamKey {
        let stream = self.ask(client, 1, &Target::Id(id), 0, start);
        self.found_rows(rows(group_row(head), Some(present())));
        assert!(matches!(&self.said(stream)[..], [ToSee::Opened(_), ..]));
        stream
    }

    /// Answers the oldest read, which is for the rows of an opening.
    fn found_rows(&mut self, rows: OpenRows) {
        let (by, stream, query) = self.world().reads.pop_front().expect("a read");
        assert!(matches!(query, Query::Rows { .. }), "{query:?}");
        self.found(by, stream, Found::Rows(Ok(Some(Box::new(rows)))));
    }

    /// Answers the oldest read, which is for a page, with `count` events. Gives the first and last that were asked for.
    fn found_page(&mut self, count: u64) -> (u64, u64) {
        let (by, stream, query) = self.world().reads.pop_front().expect("a read");
        let Query::Page(of) = query else { panic!("{query:?}") };
        let PageOf { first, last, .. } = of;
        let to = last.min(first + count - 1);
        let frames: Vec<u8> = (first..=to).flat_map(event_frame).collect();
        let page = EventPage { first, last: to, count: (to - first + 1) as usize, frames: frames.into() };
        self.found(by, stream, Found::Page(of, Ok(page)));
        self.turns();
        (first, last)
    }

    /// Answers the oldest read, which is for a command's rows in memory.
    fn warmed(&mut self) {
        let (by, stream, query) = self.world().reads.pop_front().expect("a read");
        let Query::Warm(command) = query else { panic!("{query:?}") };
        self.found(by, stream, Found::Warm { command, creates: false });
    }

    fn found(&mut self, user: UserKey, stream: StreamKey, found: Found) {
        self.hub.mail(Mail::Read(ReadDone(Got::ForStream { user, stream, found })));
    }

    /// A batch is committed, and the followers have their turns.
    fn commit(&mut self, changes: Vec<Change>) {
        self.hub.mail(Mail::Committed(Arc::new(Committed { changes, ..Committed::default() })));
        self.turns();
    }

    fn turns(&mut self) {
        while self.hub.advance() {}
    }

    /// What was written to a stream since the last look.
    fn said(&mut self, stream: StreamKey) -> Vec<ToSee> {
        let written = std::mem::take(&mut self.world().streams[stream].written);
        let (seen, rest) = frames(&written);
        assert_eq!(rest, 0, "half a frame");
        seen
    }

    /// The whole frames that were written to a stream since the last look.
    fn said_so_far(&mut self, stream: StreamKey) -> Vec<ToSee> {
        frames(&self.world().streams[stream].written).0
    }

    /// Whether the hub has said that nobody is connected any more.
    fn everyone_left(&mut self) -> bool {
        self.hub.tick();
        let said = pin!(self.hub.setup.everyone_left.notified());
        said.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// The code that a connection was closed with.
    fn closed(&mut self, client: Client) -> Option<Code> {
        self.world().connections[client.at].closed
    }

    /// The code of the last frame of a stream, which must be finished.
    fn ended(&mut self, stream: StreamKey) -> Option<Code> {
        let finished = self.world().streams[stream].finished;
        match self.said(stream).pop() {
            Some(ToSee::End(code)) if finished => Some(code),
            _ => None,
        }
    }
}

/// The frames in some bytes, and how many bytes are left.
fn frames(bytes: &[u8]) -> (Vec<ToSee>, usize) {
    let mut seen = Vec::new();
    let mut rest = bytes;
    while let Some((frame, length)) = frame::split(rest, 1 << 20).unwrap() {
        rest = &rest[length..];
        seen.extend(ToClient::decode(frame).unwrap().map(to_see));
    }
    (seen, rest.len())
}

/// What tests look at of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ToSee {
    Welcome(String),
    Refreshed,
    GoAway,
    /// With the name and the preview.
    Changed(u64, String, String),
    Marked(u64),
    Presence(String, u8),
    /// With its start.
    Opened(u64),
    Event(u64),
    Accepted(u64),
    Ack(u64),
    Rejected(u64, Code),
    Skip(u64),
    End(Code),
    Other,
}

fn to_see(message: ToClient<'_>) -> ToSee {
    match message {
        ToClient::Welcome(welcome) => ToSee::Welcome(welcome.user.to_owned()),
        ToClient::Refreshed(_) => ToSee::Refreshed,
        ToClient::GoAway(_) => ToSee::GoAway,
        ToClient::Changed(changed) => ToSee::Changed(changed.head, changed.name.to_owned(), changed.preview.to_owned()),
        ToClient::Marked(marked) => ToSee::Marked(marked.seq),
        ToClient::Presence(presence) => ToSee::Presence(presence.user.to_owned(), presence.state),
        ToClient::Opened(opened) => ToSee::Opened(opened.start),
        ToClient::Event(event) => ToSee::Event(event.seq),
        ToClient::Accepted(accepted) => ToSee::Accepted(accepted.seq),
        ToClient::Ack(ack) => ToSee::Ack(ack.seq),
        ToClient::Rejected(rejected) => ToSee::Rejected(rejected.n, rejected.code),
        ToClient::Skip(skip) => ToSee::Skip(skip.to),
        ToClient::End(end) => ToSee::End(end.code),
        _ => ToSee::Other,
    }
}

fn event_frame(seq: u64) -> Bytes {
    frame::to_bytes(&Event { seq, number: seq, at: TIME, user: "bob", kind: kind::TEXT, body: Blob(b"hello") })
}

/// Event `seq` of the group, by bob.
fn event(seq: u64) -> Change {
    event_in(group(), seq)
}

/// Event `seq` of a group, by bob.
fn event_in(conversation: ConversationId, seq: u64) -> Change {
    let row = EventRecord { user: user("bob"), device: DeviceId([9; 16]), n: seq, frame: event_frame(seq) };
    let event = NewEvent { seq, number: seq, at: TIME, kind: kind::TEXT, record: row };
    Change { conversation, by: By::Relay, outcome: None, event: Some(event), effects: Vec::new() }
}

/// Event `seq` of the group, which command `n` of a user's device 1 became.
fn own_event(seq: u64, name: &str, n: u64) -> Change {
    Change {
        by: By::Device { user: user(name), device: DeviceId([1; 16]), n },
        outcome: Some(Outcome { n, code: Code::DONE, seq, number: seq, at: TIME, check: [9; 4] }),
        ..event(seq)
    }
}

fn post(n: u64) -> Post<'static> {
    Post { n, kind: kind::TEXT, body: Blob(b"hello") }
}

fn group_row(head: u64) -> ConversationRecord {
    row(head, Naming::Group(String::new()))
}

fn room_row(name: &str) -> ConversationRecord {
    row(3, Naming::Room(name.to_owned(), String::new()))
}

fn row(head: u64, naming: Naming) -> ConversationRecord {
    ConversationRecord {
        created_at: TIME,
        head,
        number: head,
        first_kept: 1,
        last_at: TIME,
        members: 2,
        owners: 1,
        reverted: 0,
        policy: Policy::default(),
        naming,
        deleted: Vec::new(),
    }
}

/// The row of a present member who sees everything.
fn present() -> MemberRecord {
    MemberRecord {
        state: MemberState::Member,
        role: role::MEMBER,
        from: 1,
        to: u64::MAX,
        number: 0,
        at: TIME,
        parting: Parting::default(),
        earlier: Vec::new(),
    }
}

fn rows(conversation: ConversationRecord, member: Option<MemberRecord>) -> OpenRows {
    OpenRows {
        conversation,
        member,
        sends: Default::default(),
        mark: Default::default(),
        companions: None,
        is_other_log: false,
    }
}
