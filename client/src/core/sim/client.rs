//! An app and its library on one device.

use std::task::Waker;

use bytes::Bytes;
use quip_protocol::{
    Blob, DeviceId, ToClient, UserId,
    conversation::Post,
    event::kind,
    frame::{self, to_bytes},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    super::{Core, Next, Setup},
    relay::{Down, Relay, Up},
};
use crate::{Accepted, ConversationEvent, OpenOptions, OwnedEvent, ReceiptError, Saved, Start, Target};

type Fate = Result<Accepted, ReceiptError>;

pub(super) struct Client {
    at: usize,
    user: &'static str,
    device: DeviceId,
    saved: Saved,
    core: Core,
    connected: bool,
    again: Option<Instant>,
    sent: Vec<Sent>,
    /// What the app has seen: after a crash, as far as the kept cursor says.
    seen: Vec<OwnedEvent>,
    pub(super) composed: u64,
    resets: u64,
    /// Composes nothing more.
    pub(super) done: bool,
}

struct Sent {
    body: Bytes,
    fate: oneshot::Receiver<Fate>,
    /// Once it is known.
    known: Option<Fate>,
    /// In which log.
    generation: u64,
    /// The process that waited for it died.
    lost: bool,
}

pub(super) fn target() -> Target {
    Target::room("test:room").expect("a room")
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a user")
}

impl Client {
    pub(super) fn new(at: usize, user: &'static str) -> Self {
        let saved = Saved::default();
        Self {
            at,
            user,
            device: DeviceId([at as u8; 16]),
            core: core(user, &saved),
            saved,
            connected: false,
            again: None,
            sent: Vec::new(),
            seen: Vec::new(),
            composed: 0,
            resets: 0,
            done: false,
        }
    }

    pub(super) fn compose(&mut self) {
        if self.core.opened().is_none() || self.core.unanswered() >= 64 || self.done {
            return;
        }
        self.composed += 1;
        let word = if self.composed.is_multiple_of(7) { "bad" } else { "good" };
        let body = Bytes::from(format!("{word} {} {}", self.at, self.composed));
        let make = |n| to_bytes(&Post { n, kind: kind::TEXT, body: Blob(&body) });
        let (frame, change) = self.core.prepare(make);
        self.saved.apply(&change);
        let (ticket, fate) = oneshot::channel();
        self.core.send(frame, ticket);
        self.sent.push(Sent { body, fate, known: None, generation: 0, lost: false });
    }

    pub(super) fn take(&mut self, now: Instant) {
        for _ in 0..20 {
            if !self.take_one(now) {
                return;
            }
        }
    }

    fn take_all(&mut self, now: Instant) {
        while self.take_one(now) {}
    }

    fn take_one(&mut self, now: Instant) -> bool {
        match self.core.pop(now, Waker::noop()).0 {
            Some(Some(ConversationEvent::Event(event))) => {
                let expected = self.seen.last().map_or(1, |last| last.seq + 1);
                assert_eq!(event.seq, expected, "exactly once and in order");
                self.seen.push(event);
            }
            Some(Some(ConversationEvent::Reset { first, .. })) => {
                self.seen.retain(|event| event.seq < first);
                self.resets += 1;
            }
            Some(Some(ConversationEvent::Skipped { .. })) => panic!("nothing is trimmed here"),
            Some(Some(_)) => {}
            Some(None) | None => return false,
        }
        true
    }

    fn keep(&mut self) {
        let (changes, _) = self.core.take_effects();
        changes.iter().for_each(|change| self.saved.apply(change));
    }

    pub(super) fn connect(&mut self, relay: &mut Relay) {
        if !self.connected && self.again.is_none() {
            self.connected = true;
            relay.connect(self.at, self.user, self.device);
            self.core.connected(relay.generation());
        }
    }

    /// Does what the core says.
    pub(super) fn turn(&mut self, relay: &mut Relay, now: Instant) {
        self.again = self.again.filter(|again| *again > now);
        let next = self.core.poll(now, true);
        self.keep();
        let out = Bytes::from(self.core.take_out());
        let mut rest = out.clone();
        while let Some((_, used)) = frame::split(&rest, 65_536).expect("frames") {
            relay.send(self.at, Up::Frame(rest.split_to(used)));
        }
        match next {
            Next::Go => {}
            Next::Finish => relay.send(self.at, Up::Fin),
            Next::Again(pause) => {
                self.cut(relay);
                self.again = Some(now + pause);
            }
            Next::Elsewhere => self.cut(relay),
            Next::Over => self.reopen(relay, now),
        }
        for sent in self.sent.iter_mut().filter(|sent| sent.known.is_none() && !sent.lost) {
            sent.known = sent.fate.try_recv().ok();
            sent.generation = relay.generation();
        }
    }

    pub(super) fn read(&mut self, relay: &mut Relay, now: Instant) {
        if !self.core.wants_read() {
            return;
        }
        match relay.take(self.at) {
            Some(Down::Frame(bytes)) => {
                let (split, _) = frame::split(&bytes, 65_536).expect("a frame").expect("a whole frame");
                let message = ToClient::decode(split).expect("decodes").expect("known");
                self.core.frame(&message, now).expect("the relay is a good one");
            }
            Some(Down::Fin) => self.core.finished().expect("expected"),
            None => {}
        }
    }

    pub(super) fn cut(&mut self, relay: &mut Relay) {
        if std::mem::take(&mut self.connected) {
            relay.cut(self.at);
            self.core.disconnected();
        }
    }

    /// A restored log may know nothing of this member: the app opens again.
    fn reopen(&mut self, relay: &mut Relay, now: Instant) {
        assert!(relay.generation() > 1, "over: {}", self.status());
        self.take_all(now);
        self.cut(relay);
        self.core.reader_gone();
        self.keep();
        self.core = core(self.user, &self.saved);
    }

    /// Starts again from what was kept.
    pub(super) fn crash(&mut self, relay: &mut Relay) {
        self.cut(relay);
        self.again = None;
        self.core = core(self.user, &self.saved);
        let kept = self.saved.conversations.get(&self.core.id()).and_then(|kept| kept.cursor);
        self.seen.retain(|event| kept.is_some_and(|kept| event.seq <= kept.seq));
        self.sent.iter_mut().filter(|sent| sent.known.is_none()).for_each(|sent| sent.lost = true);
    }

    pub(super) fn is_settled(&self, relay: &Relay) -> bool {
        self.core.unanswered() == 0
            && self.core.opened().is_some_and(|opened| opened.generation == relay.generation())
            && self.seen.last().map_or(0, |event| event.seq) == relay.head()
    }

    /// Everything that was promised.
    pub(super) fn check(&mut self, relay: &Relay) {
        assert_eq!(self.seen.len() as u64, relay.head());
        for event in &self.seen {
            let stored = relay.event(event.seq);
            assert_eq!((event.user.as_str(), event.kind), (stored.user.as_str(), stored.kind));
            assert_eq!(event.body, stored.body, "event {}", event.seq);
        }
        for sent in &self.sent {
            let times = relay.times(&sent.body);
            assert!(times <= 1, "{:?} is there {times} times", sent.body);
            // A backup takes back what was accepted before it.
            if sent.generation == relay.generation() {
                self.check_fate(sent, times, relay);
            }
        }
    }

    fn check_fate(&self, sent: &Sent, times: usize, relay: &Relay) {
        let bad = sent.body.starts_with(b"bad");
        match sent.known {
            Some(Ok(accepted)) => {
                assert_eq!(relay.event(accepted.seq).body, sent.body);
                assert!(!bad);
            }
            Some(Err(ReceiptError::Refused(_))) => assert!(bad && times == 0),
            // The log was restored to before this member joined.
            Some(Err(ReceiptError::Unknown)) if relay.generation() > 1 => {}
            // Sent again by the next process, and nobody is told.
            None if sent.lost && relay.generation() > 1 => {}
            None if sent.lost => assert_eq!(times, usize::from(!bad)),
            fate => panic!("{:?} has the fate {fate:?}", sent.body),
        }
    }

    pub(super) fn status(&self) -> String {
        format!(
            "client {} connected {} unanswered {} seen {:?} opened {:?}",
            self.at,
            self.connected,
            self.core.unanswered(),
            self.seen.last().map(|event| event.seq),
            self.core.opened(),
        )
    }
}

fn core(name: &str, saved: &Saved) -> Core {
    let me = user(name);
    let id = target().conversation(&me);
    let saved = saved.conversations.get(&id).cloned().unwrap_or_default();
    // The first time from the beginning, later from the cursor: so everyone sees all.
    let start = if saved.cursor.is_some() { Start::Cursor } else { Start::Beginning };
    let options = OpenOptions { join: true, start };
    let (opening, _) = oneshot::channel();
    Core::new(Setup { me, target: target(), options, saved, opening })
}
