//! One room on one relay, with the rules of send numbers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use quip_protocol::{
    Blob, Code, DeviceId, Event, Items, ToRelay,
    conversation::{Accepted, Ack, End, Opened, Outcome, Post, Rejected, Start},
    event::kind,
    frame::{self, to_bytes},
};

/// What travels to a client.
#[derive(Debug, Clone)]
pub(super) enum Down {
    Frame(Bytes),
    Fin,
}

/// What travels to the relay.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Frame(Bytes),
    Fin,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) user: String,
    pub(super) kind: u64,
    pub(super) body: Vec<u8>,
}

#[derive(Clone, Default)]
struct Log {
    events: Vec<Stored>,
    sends: HashMap<DeviceId, Sends>,
}

#[derive(Clone, Default)]
struct Sends {
    last: u64,
    outcomes: VecDeque<(Outcome, Bytes)>,
    member: bool,
}

struct Stream {
    user: String,
    device: DeviceId,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    /// The last event that was put on the stream.
    at: u64,
    /// Commands from this `n` on are refused until it comes again.
    blocked: Option<u64>,
    /// Commands that wait for being committed, and are answered on this stream.
    unanswered: Vec<u64>,
    start: Option<(Start, u64)>,
    open: bool,
}

struct Queued {
    client: usize,
    serial: u64,
    user: String,
    device: DeviceId,
    n: u64,
    frame: Bytes,
}

#[derive(Default)]
pub(super) struct Relay {
    generation: u64,
    log: Log,
    backup: Log,
    queue: VecDeque<Queued>,
    streams: BTreeMap<usize, (u64, Stream)>,
    serial: u64,
}

impl Relay {
    pub(super) fn generation(&self) -> u64 {
        self.generation + 1
    }

    pub(super) fn head(&self) -> u64 {
        self.log.events.len() as u64
    }

    pub(super) fn event(&self, seq: u64) -> &Stored {
        &self.log.events[seq as usize - 1]
    }

    pub(super) fn times(&self, body: &[u8]) -> usize {
        self.log.events.iter().filter(|event| event.body == body).count()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.streams.values().all(|(_, stream)| stream.up.is_empty() && stream.down.is_empty())
    }

    pub(super) fn connect(&mut self, client: usize, user: &str, device: DeviceId) {
        self.serial += 1;
        let stream = Stream {
            user: user.to_owned(),
            device,
            up: VecDeque::new(),
            down: VecDeque::new(),
            at: 0,
            blocked: None,
            unanswered: Vec::new(),
            start: None,
            open: false,
        };
        assert!(self.streams.insert(client, (self.serial, stream)).is_none(), "one stream for each client");
    }

    pub(super) fn cut(&mut self, client: usize) {
        self.streams.remove(&client);
    }

    pub(super) fn die(&mut self) {
        self.queue.clear();
        self.streams.clear();
    }

    /// Every second time the backup is made, the other times it is put in the place of the log.
    pub(super) fn restore(&mut self, make: bool) {
        if make {
            self.backup = self.log.clone();
        } else {
            self.die();
            self.log = self.backup.clone();
            self.generation += 1;
        }
    }

    pub(super) fn send(&mut self, client: usize, up: Up) {
        if let Some((_, stream)) = self.streams.get_mut(&client) {
            stream.up.push_back(up);
        }
    }

    pub(super) fn take(&mut self, client: usize) -> Option<Down> {
        self.streams.get_mut(&client)?.1.down.pop_front()
    }

    /// Reads one frame of a client; `refuse`: before ordering.
    pub(super) fn read(&mut self, client: usize, refuse: bool) {
        let generation = self.generation();
        let Some((serial, stream)) = self.streams.get_mut(&client) else { return };
        let bytes = match stream.up.pop_front() {
            Some(Up::Frame(bytes)) => bytes,
            Some(Up::Fin) => {
                stream.open = false;
                return stream.down.push_back(Down::Fin);
            }
            None => return,
        };
        let (frame, _) = frame::split(&bytes, 65_536).expect("a frame").expect("a whole frame");
        let n = match ToRelay::decode(frame).expect("decodes").expect("known") {
            ToRelay::Open(open) => {
                let start = open.start().expect("a start");
                stream.start = Some((start, open.join));
                if open.join == 0 {
                    return Self::opened(&self.log, generation, stream);
                }
                open.join
            }
            ToRelay::Post(post) => post.n,
            other => panic!("unexpected {other:?}"),
        };
        if stream.open && stream.refuse(n, refuse) {
            return;
        }
        stream.unanswered.push(n);
        assert!(stream.unanswered.len() <= 64, "too many unanswered commands");
        let (user, device) = (stream.user.clone(), stream.device);
        self.queue.push_back(Queued { client, serial: *serial, user, device, n, frame: bytes });
    }

    /// Commits one command; with `repeat` it stays queued as well.
    pub(super) fn commit(&mut self, repeat: bool) {
        let Some(command) = self.queue.pop_front() else { return };
        let outcome = self.log.fold(&command);
        let (client, serial, n) = (command.client, command.serial, command.n);
        if repeat {
            self.queue.push_back(command);
        }
        let generation = self.generation();
        let Some((present, stream)) = self.streams.get_mut(&client) else { return };
        if *present != serial {
            return;
        }
        let Some(at) = stream.unanswered.iter().position(|waiting| *waiting == n) else { return };
        stream.unanswered.remove(at);
        match stream.start {
            Some((_, join)) if join == n && !stream.open => match outcome.code {
                Code::DONE => Self::opened(&self.log, generation, stream),
                code => {
                    let info = if code == Code::MISSING { outcome.seq } else { 0 };
                    stream.put(&End { code, retry_after: 0, info, text: "" });
                    stream.down.push_back(Down::Fin);
                }
            },
            _ => stream.answer(&outcome),
        }
    }

    /// Puts the next event on a stream.
    pub(super) fn deliver(&mut self, client: usize) {
        let Some((_, stream)) = self.streams.get_mut(&client) else { return };
        let Some(stored) = self.log.events.get(stream.at as usize).filter(|_| stream.open) else { return };
        stream.at += 1;
        let seq = stream.at;
        stream.put(&Event {
            seq,
            number: seq,
            at: seq,
            user: &stored.user,
            kind: stored.kind,
            body: Blob(&stored.body),
        });
    }

    fn opened(log: &Log, generation: u64, stream: &mut Stream) {
        let head = log.events.len() as u64;
        let (start, _) = stream.start.expect("opened before");
        if let Start::After { generation: of, seq } = start
            && of == generation
            && seq > head
        {
            stream.put(&End { code: Code::BEHIND, retry_after: 0, info: head, text: "" });
            return stream.down.push_back(Down::Fin);
        }
        let sends = log.sends.get(&stream.device).cloned().unwrap_or_default();
        if !sends.member {
            stream.put(&End { code: Code::NOT_FOUND, retry_after: 0, info: 0, text: "" });
            return stream.down.push_back(Down::Fin);
        }
        let start = match start {
            Start::Now => head + 1,
            Start::After { generation: of, seq } if of == generation => seq + 1,
            Start::After { .. } => 1,
            Start::Last(count) => (head + 1).saturating_sub(count).max(1),
        };
        stream.at = start - 1;
        stream.open = true;
        let opened = Opened {
            conversation: super::client::target().conversation(&super::client::user(&stream.user)),
            generation,
            first_kept: 1,
            head,
            number: head,
            start,
            role: 1,
            last_n: sends.last,
            outcomes: Items::encode(sends.outcomes.iter().map(|(outcome, _)| *outcome)),
            read: 0,
            read_number: 0,
            name: "room",
            members: 1,
            present: 1,
        };
        stream.put(&opened);
    }
}

impl Stream {
    fn put<M: frame::Message>(&mut self, message: &M) {
        self.down.push_back(Down::Frame(to_bytes(message)));
    }

    fn refuse(&mut self, n: u64, refuse: bool) -> bool {
        match self.blocked {
            Some(blocked) if n > blocked => {
                self.put(&Rejected { n, code: Code::BLOCKED, retry_after: 0, info: 0 });
                return true;
            }
            _ => self.blocked = None,
        }
        if refuse {
            self.blocked = Some(n);
            self.put(&Rejected { n, code: Code::RATE, retry_after: 20, info: 0 });
        }
        refuse
    }

    fn answer(&mut self, outcome: &Outcome) {
        let Outcome { n, code, seq, number, at } = *outcome;
        match code {
            Code::DONE if self.at + 1 == seq => {
                self.at = seq;
                self.put(&Accepted { n, seq, number, at });
            }
            Code::DONE => self.put(&Ack { n, seq, number, at }),
            Code::MISSING => self.put(&Rejected { n, code, retry_after: 0, info: seq }),
            code => self.put(&Rejected { n, code, retry_after: 0, info: 0 }),
        }
    }
}

impl Log {
    /// The outcome; of MISSING, `seq` is the last `n` that was decided.
    fn fold(&mut self, command: &Queued) -> Outcome {
        let Queued { user, device, n, frame, .. } = command;
        let sends = self.sends.entry(*device).or_default();
        let outcome = |code, seq| Outcome { n: *n, code, seq, number: seq, at: seq };
        if *n > sends.last + 1 {
            return outcome(Code::MISSING, sends.last);
        }
        if *n <= sends.last {
            return match sends.outcomes.iter().find(|(outcome, _)| outcome.n == *n) {
                None => outcome(Code::KNOWN, 0),
                Some((_, of)) if of != &content(frame) => outcome(Code::REUSED, 0),
                Some((outcome, _)) => *outcome,
            };
        }
        sends.last = *n;
        let (split, _) = frame::split(frame, 65_536).expect("a frame").expect("a whole frame");
        let decided = match ToRelay::decode(split) {
            Ok(Some(ToRelay::Post(post))) if post.body.0.starts_with(b"bad") => outcome(Code::FORBIDDEN, 0),
            Ok(Some(ToRelay::Post(post))) => {
                self.events.push(Stored { user: user.clone(), kind: post.kind, body: post.body.0.to_vec() });
                outcome(Code::DONE, self.events.len() as u64)
            }
            _ if std::mem::replace(&mut sends.member, true) => outcome(Code::DONE, 0),
            _ => {
                self.events.push(Stored { user: user.clone(), kind: kind::JOINED, body: Vec::new() });
                outcome(Code::DONE, self.events.len() as u64)
            }
        };
        sends.outcomes.push_back((decided, content(frame)));
        if sends.outcomes.len() > 64 {
            sends.outcomes.pop_front();
        }
        decided
    }
}

/// A command without where it happens to start; joins are all alike.
fn content(bytes: &Bytes) -> Bytes {
    let (split, _) = frame::split(bytes, 65_536).expect("a frame").expect("a whole frame");
    match ToRelay::decode(split) {
        Ok(Some(ToRelay::Post(post))) => to_bytes(&Post { n: 0, ..post }),
        _ => Bytes::new(),
    }
}
