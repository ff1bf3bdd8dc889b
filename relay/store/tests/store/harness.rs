//! A relay without a network: an order, a sequencer, a view, and a sink that keeps what it is told.

use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quip_core::{Action, Authority, By, Command, JoinAs, MarkRecord};
use quip_order::{BatchLimit, EmbeddedConfig, LOG_BYTES_MIN, Order, Submit, embedded};
use quip_protocol::{Code, ConversationId, DeviceId, Event, RoomName, UserId, frame, limit};
use quip_store::{
    Change, Committed, Direction, EventPage, OpenError, PageLimit, Sequencer, SequencerConfig, SequencerError, Sink,
    Store, StoreConfig, View,
};

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Running {
    pub(crate) view: View,
    pub(crate) told: mpsc::Receiver<Arc<Committed>>,
    thread: JoinHandle<Result<(), SequencerError>>,
}

struct Told(mpsc::Sender<Arc<Committed>>);

impl Sink for Told {
    fn committed(&self, batch: &Arc<Committed>) {
        // A test may have stopped listening.
        _ = self.0.send(batch.clone());
    }
}

/// The two ends of an order.
pub(crate) type Ends = (Arc<dyn Submit>, Box<dyn Order>);

/// An order on the log in the folder.
pub(crate) fn on_disk(path: &Path) -> Ends {
    fs::create_dir_all(path).unwrap();
    let config = EmbeddedConfig { log_bytes: LOG_BYTES_MIN, ..EmbeddedConfig::default() };
    let (submit, order) = embedded(&path.join("log"), config).unwrap();
    (submit, order)
}

/// The store in the folder.
pub(crate) fn open(path: &Path, generation: u64) -> Result<Store, OpenError> {
    let config = StoreConfig { cache_bytes: 4 << 20, ..StoreConfig::default() };
    Store::open(&path.join("store"), config, generation)
}

/// Opens the store in the folder and runs a sequencer on an order.
pub(crate) fn run(path: &Path, order: Box<dyn Order>, batch: BatchLimit) -> Running {
    let store = open(path, order.generation()).unwrap();
    let view = store.view();
    let (tell, told) = mpsc::channel();
    // A tiny cache, so that records go and come back.
    let config = SequencerConfig { batch, cached_records: 4, ..SequencerConfig::default() };
    let mut sequencer = Sequencer::start(store, order, vec![Box::new(Told(tell))], config).unwrap();
    sequencer.catch_up().unwrap();
    Running { view, told, thread: thread::spawn(|| sequencer.run()) }
}

impl Running {
    /// Waits for the end, after the order was closed.
    pub(crate) fn end(self) -> Result<(), SequencerError> {
        drop(self.view);
        self.thread.join().unwrap()
    }
}

/// The same on an embedded order, one command after the other.
pub(crate) struct Relay {
    pub(crate) submit: Arc<dyn Submit>,
    pub(crate) running: Running,
}

impl Relay {
    pub(crate) fn open(path: &Path) -> Self {
        let (submit, order) = on_disk(path);
        Self { submit, running: run(path, order, BatchLimit::default()) }
    }

    /// Submits a command and waits until it is committed.
    pub(crate) fn send(&self, command: Command) -> Change {
        self.submit.submit(command).unwrap();
        let batch = self.running.told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(batch.changes.len(), 1);
        assert!(batch.bytes > batch.changes[0].event.as_ref().map_or(0, |event| event.record.frame.len()));
        batch.changes[0].clone()
    }

    /// As [`Self::send`], and the command must be accepted.
    pub(crate) fn accepted(&self, command: Command) -> Change {
        let change = self.send(command);
        assert_eq!(change.outcome.unwrap().code, Code::DONE);
        change
    }

    /// Submits a command without waiting for its outcome, as soon as there is room.
    pub(crate) fn submit(&self, command: Command) {
        let start = Instant::now();
        while let Err(refused) = self.submit.submit(command.clone()) {
            assert!(start.elapsed() < PATIENCE, "{refused}");
            thread::yield_now();
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.running.view
    }

    pub(crate) fn close(self) {
        self.submit.close();
        self.running.end().unwrap();
    }
}

/// A user's device in one conversation, and its count of commands.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) n: u64,
}

impl Device {
    pub(crate) fn new(user: &str, conversation: ConversationId) -> Self {
        Self { user: self::user(user), device: DeviceId([7; 16]), conversation, n: 0 }
    }

    /// The next command.
    pub(crate) fn next(&mut self, action: Action) -> Command {
        self.n += 1;
        self.numbered(self.n, action)
    }

    pub(crate) fn numbered(&self, n: u64, action: Action) -> Command {
        let by = By::Device { user: self.user.clone(), device: self.device, n };
        Command { conversation: self.conversation, by, authority: EVERYTHING, action }
    }

    pub(crate) fn mark(&self, seq: u64, number: u64) -> Command {
        self.numbered(0, Action::Mark { seq, number })
    }
}

const EVERYTHING: Authority = Authority {
    add: true,
    join: true,
    post: true,
    create: true,
    moderate: false,
    policy: quip_core::Policy { history_open: true, joins_shown: false },
    group_members: 100,
};

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn room(name: &str) -> ConversationId {
    ConversationId::room(&RoomName::parse(name).unwrap())
}

pub(crate) fn join(name: &str) -> Action {
    Action::Join(JoinAs::Room(name.to_owned()))
}

pub(crate) fn post(body: impl Into<Vec<u8>>) -> Action {
    Action::Post { kind: quip_protocol::event::kind::TEXT, body: Bytes::from(body.into()) }
}

pub(crate) fn by_relay(conversation: ConversationId, action: Action) -> Command {
    Command { conversation, by: By::Relay, authority: Authority::default(), action }
}

pub(crate) fn marked(seq: u64, number: u64) -> MarkRecord {
    MarkRecord { seq, number, own: Vec::new() }
}

/// The events of a page; its own fields must agree with them.
pub(crate) fn events(page: &EventPage) -> Vec<(u64, Vec<u8>)> {
    let (mut rest, mut events) = (&page.frames[..], Vec::new());
    while let Some((frame, used)) = frame::split(rest, limit::FRAME).unwrap() {
        let event: Event<'_> = frame::decode(frame.body).unwrap();
        events.push((event.seq, event.body.0.to_vec()));
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    let seqs: Vec<_> = events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(page.count, events.len());
    if page.count > 0 {
        assert!(seqs.into_iter().eq(page.first..=page.last));
    } else {
        assert_eq!((page.first, page.last), (0, 0));
    }
    events
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Whether the content of any event has these bytes in it.
pub(crate) fn holds(view: &View, id: ConversationId, content: &[u8]) -> bool {
    all_events(view, id).iter().any(|(_, body)| body.windows(content.len()).any(|part| part == content))
}

/// Every event of a conversation, page by page.
pub(crate) fn all_events(view: &View, id: ConversationId) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut next) = (Vec::new(), 1);
    loop {
        let page = view.page(id, next..=u64::MAX, Direction::Forward, PageLimit { bytes: 4096, events: 100 }).unwrap();
        if page.count == 0 {
            return all;
        }
        all.extend(events(&page));
        next = page.last + 1;
    }
}
