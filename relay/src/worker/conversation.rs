//! A conversation that somebody has open here, and the commands of its streams.

use std::time::Duration;

use quip_core::{Action, By, Command, Effect, Naming};
use quip_order::SubmitError;
use quip_protocol::{
    Code, ConversationId, DeviceId, Kind, ToRelay, UserId,
    conversation::{Mark, Outcome, Rejected},
    session::{Changed, Marked},
};
use quip_store::{Busy, Change};

use super::{
    StreamKey, Worker, commands,
    follower::{Answer, Phase},
    intake::Next,
    reads::{RETRY_AFTER_MS, Read},
    ring::Ring,
    session::presence,
    stream::Stream,
    turns::Wanted,
};

/// A conversation that somebody has open here.
#[derive(Default)]
pub(super) struct Conversation {
    /// The newest event that is known here.
    pub(super) head: u64,
    /// Its latest events.
    pub(super) ring: Ring,
    /// Streams that have it open.
    pub(super) followers: Vec<StreamKey>,
    /// What it is called, once somebody read it.
    pub(super) naming: Option<Naming>,
    /// In [`Worker::behind`].
    pub(super) queued: bool,
    /// The follower to look at next.
    pub(super) next: usize,
    /// How many are to be looked at until everyone had a turn.
    pub(super) left: usize,
}

impl Worker {
    /// A numbered command arrived.
    pub(super) fn command(&mut self, key: StreamKey, message: &ToRelay<'_>) -> Next {
        let at = self.streams[key].connection;
        let limits = &self.shared.config.limits;
        let Some(numbered) = commands::numbered(message, limits.message_bytes) else {
            return self.violation(at, Code::UNEXPECTED);
        };
        let (n, most) = (numbered.n, limits.unanswered_per_stream as u64);
        if n == 0 {
            return self.violation(at, Code::MALFORMED);
        }
        let Some(follower) = self.streams[key].follower() else { return Next::Frame };
        let admitted = follower.sends.admit(n, most);
        match admitted.and(numbered.action) {
            Err(code) => {
                let wait = (code == Code::UNANSWERED).then_some(Duration::from_millis(RETRY_AFTER_MS));
                self.refuse(key, n, code, wait);
            }
            Ok(action) => return self.submit(key, n, action),
        }
        Next::Frame
    }

    /// Gives a numbered command of a stream to the order, by way of a reader if its rows may not be in memory. What comes
    /// behind it on the stream waits then, so that the order of `n` is kept.
    pub(super) fn submit(&mut self, key: StreamKey, n: u64, action: Action) -> Next {
        let stream = &mut self.streams[key];
        let Some(session) = &self.connections[stream.connection].session else { return Next::Frame };
        if let Err(wait) = self.rates.take(&session.identity.user, self.now) {
            self.refuse(key, n, Code::RATE, Some(wait));
            return Next::Frame;
        }
        let Some(follower) = stream.follower() else { return Next::Frame };
        let by = By::Device { user: session.identity.user.clone(), device: session.device, n };
        let command = Command { conversation: follower.id, by, authority: follower.authority, action };
        if !follower.warmth.is_cold(&quip_core::keys(&command), self.turnovers) {
            self.order(key, n, command);
            return Next::Frame;
        }
        match self.warm(Wanted::By(key), command) {
            Ok(()) => Next::Hold,
            Err(Busy) => {
                self.refuse(key, n, Code::BUSY, Some(Duration::from_millis(RETRY_AFTER_MS)));
                Next::Frame
            }
        }
    }

    /// Has a reader bring what a command needs into memory.
    fn warm(&mut self, wanted: Wanted, command: Command) -> Result<(), Busy> {
        self.try_ask(wanted, move |view| {
            view.warm(&quip_core::keys(&command));
            Read::Warm(Box::new(command))
        })
    }

    /// What a command needs is in memory.
    pub(super) fn warmed(&mut self, key: StreamKey, command: Command) {
        let By::Device { n, .. } = command.by else { return };
        if n == 0 {
            return self.order_mark(key, command);
        }
        // Of a stream that is gone nothing is known; the client sends again what it wants decided.
        let Some(follower) = self.streams.get_mut(key).and_then(Stream::follower) else { return };
        let joining = follower.phase == Phase::Joining { n };
        self.order(key, n, command);
        if !joining {
            self.release(key);
        }
    }

    fn order(&mut self, key: StreamKey, n: u64, command: Command) {
        match self.shared.submit.submit(command) {
            Ok(()) => {
                let Some(follower) = self.streams[key].follower() else { return };
                if follower.sends.submitted(n, self.now) {
                    self.unanswered.push_back((self.now, key));
                }
                follower.warmth.used(false, self.turnovers);
            }
            Err(SubmitError::Full { retry_after_ms }) => {
                self.refuse(key, n, Code::FULL, Some(Duration::from_millis(retry_after_ms)));
            }
            Err(SubmitError::Closed) => self.refuse(key, n, Code::SHUTDOWN, None),
        }
    }

    /// Refuses a command before it is ordered, and with it every later one until it comes again.
    fn refuse(&mut self, key: StreamKey, n: u64, code: Code, wait: Option<Duration>) {
        let stream = &mut self.streams[key];
        let Some(follower) = stream.follower() else { return };
        if code != Code::BLOCKED {
            follower.sends.refuse(n);
        }
        let joining = follower.phase == Phase::Joining { n };
        // Rounded up: who comes back a moment too early would be refused again.
        let retry_after = wait.map_or(0, |wait| wait.as_micros().div_ceil(1000) as u64);
        if joining {
            return self.end_after(key, code, retry_after);
        }
        stream.out.control(&Rejected { n, code, retry_after, info: 0 });
    }

    /// A read mark arrived: the highest one counts, and goes on its way with the next tick.
    pub(super) fn mark(&mut self, key: StreamKey, mark: Mark) -> Next {
        let Some(follower) = self.streams[key].follower() else { return Next::Frame };
        if follower.mark.is_none() {
            self.marked.push(key);
        }
        if follower.mark.is_none_or(|waiting| waiting.seq < mark.seq) {
            follower.mark = Some(mark);
        }
        Next::Frame
    }

    /// Submits the read mark of a stream, by way of a reader if its rows may not be in memory.
    pub(super) fn submit_mark(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let at = stream.connection;
        let Some(follower) = stream.follower().filter(|follower| !follower.marking) else { return };
        let (id, authority, Some(mark)) = (follower.id, follower.authority, follower.mark) else { return };
        let Some(session) = &self.connections[at].session else { return };
        let by = By::Device { user: session.identity.user.clone(), device: session.device, n: 0 };
        let action = Action::Mark { seq: mark.seq, number: mark.number };
        let command = Command { conversation: id, by, authority, action };
        if !follower.warmth.is_cold(&quip_core::keys(&command), self.turnovers) {
            return self.order_mark(key, command);
        }
        follower.marking = true;
        if self.warm(Wanted::ForMark(key), command).is_err() {
            self.mark_again(key);
        }
    }

    /// The stream may be gone by now: what its user has read stays read.
    fn order_mark(&mut self, key: StreamKey, command: Command) {
        let Action::Mark { seq, .. } = command.action else { return };
        let submitted = self.shared.submit.submit(command).is_ok();
        let Some(follower) = self.streams.get_mut(key).and_then(Stream::follower) else { return };
        if submitted {
            follower.warmth.used(true, self.turnovers);
            follower.mark.take_if(|mark| mark.seq <= seq);
        }
        self.mark_again(key);
    }

    /// A mark has no number to refuse: what is not submitted, or came meanwhile, waits for the next tick.
    pub(super) fn mark_again(&mut self, key: StreamKey) {
        let Some(follower) = self.streams.get_mut(key).and_then(Stream::follower) else { return };
        follower.marking = false;
        if follower.mark.is_some() {
            self.marked.push(key);
        }
    }

    /// Routes the outcome of a command to the stream that carried it.
    pub(super) fn decided(&mut self, change: &Change, outcome: &Outcome) {
        let By::Device { user, device, .. } = &change.by else { return };
        let Some(key) = self.sender(change.conversation, user, *device) else { return };
        let stream = &mut self.streams[key];
        let blocked = stream.out.blocked();
        let Some(follower) = stream.follower() else { return };
        if follower.phase == (Phase::Joining { n: outcome.n }) {
            return self.joined(key, outcome);
        }
        // A page may have brought the event before the batch did.
        let at_head = follower.live && !blocked && follower.cursor < outcome.seq;
        match follower.sends.decided(outcome, change.event.is_some(), at_head) {
            Answer::Nothing => return,
            Answer::Ack(ack) => stream.out.control(&ack),
            Answer::Rejected(rejected) => stream.out.control(&rejected),
        }
        self.pump(key);
    }

    pub(super) fn sender(&self, id: ConversationId, user: &UserId, device: DeviceId) -> Option<StreamKey> {
        self.senders.get(&(id, user.clone(), device)).copied()
    }

    /// Acts on what follows from a command besides its event.
    pub(super) fn effect(&mut self, change: &Change, effect: &Effect) {
        let id = change.conversation;
        let (head, number) = change.event.as_ref().map_or((0, 0), |event| (event.seq, event.number));
        match effect {
            Effect::Visible { user, to, role, .. } => {
                if *to < u64::MAX {
                    self.ended(id, user, *to);
                }
                self.companion(id, user, *to == u64::MAX);
                self.news.membership(id);
                self.tell_changed(user, &Changed { conversation: id, head, number, role: *role });
            }
            Effect::Touched { user } => {
                let role = quip_protocol::event::role::MEMBER;
                self.tell_changed(user, &Changed { conversation: id, head, number, role });
            }
            Effect::Marked { user, mark } => {
                self.tell_marked(user, &Marked { conversation: id, seq: mark.seq, number: mark.number });
            }
            Effect::Seen { user, at } => self.ledger.written(user, *at),
            // What is given up is not read any more: openings and pages look at the conversation's record.
            Effect::Trimmed { .. } => {}
            Effect::Rewritten { seq, record } => {
                if let Some(conversation) = self.conversations.get_mut(&id) {
                    let before = conversation.ring.bytes();
                    conversation.ring.replace(*seq, record.frame.clone());
                    self.ring_bytes = self.ring_bytes + conversation.ring.bytes() - before;
                }
            }
        }
    }

    /// A user's membership ended: their streams end with the last event that they may see. One that has not come to it
    /// yet ends there too if they are back meanwhile: what they may see then is for another opening to find out.
    fn ended(&mut self, id: ConversationId, user: &UserId, to: u64) {
        let open = |at| self.connections.get(at).and_then(|connection| connection.stream_of(id));
        let theirs: Vec<StreamKey> = self.roster.connections(user).filter_map(open).collect();
        for key in &theirs {
            if let Some(follower) = self.streams.get_mut(*key).and_then(|stream| stream.follower()) {
                follower.ended(to);
            }
        }
        if !theirs.is_empty() {
            self.fall_behind(id);
        }
    }

    /// Those who see a small group's presence live also see who comes while it is open, and no more who went. Once it is
    /// too large for that they are told nothing more, until they open it again.
    fn companion(&mut self, id: ConversationId, user: &UserId, member: bool) {
        let Some(conversation) = self.conversations.get(&id).filter(|_| id.kind() == Some(Kind::Group)) else { return };
        let most = self.shared.config.limits.presence_group_members;
        for key in conversation.followers.clone() {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            let at = stream.connection;
            let theirs = self.connections[at].user() == Some(user);
            let Some(watching) = stream.follower().and_then(|follower| follower.watching.as_mut()) else { continue };
            let known = watching.iter().position(|other| other == user);
            match (known, member) {
                (None, true) if !theirs && watching.len() + 1 < most => {
                    watching.push(user.clone());
                    self.roster.watch(user, at);
                    self.tell(at, &presence(user, self.presence_of(user, 0)));
                }
                (None, true) if !theirs => {
                    let all = stream.follower().and_then(|follower| follower.watching.take());
                    all.iter().flatten().for_each(|user| self.roster.unwatch(user, at));
                }
                (Some(place), false) => {
                    watching.swap_remove(place);
                    self.roster.unwatch(user, at);
                }
                _ => {}
            }
        }
    }

    /// Marks a conversation as one whose followers may have something to write.
    pub(super) fn fall_behind(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.left = conversation.followers.len();
        if !conversation.queued {
            conversation.queued = true;
            self.behind.push_back(id);
        }
    }
}
