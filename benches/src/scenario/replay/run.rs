//! What all clients of a run share, and how one of them is in the room.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use quip_client::{Client, Code, ConversationEvent, Events, OpenError, OwnedEvent, Sender, Start, UserId};
use tokio::task::JoinSet;

use super::{follower::Follower, ledger::Ledger, stage::Stage};
use crate::check::Tamper;

/// A run while it goes on.
pub(crate) struct Run {
    pub(crate) stage: Stage,
    /// What all times are counted from.
    pub(crate) epoch: Instant,
    pub(crate) counts: Counts,
    ledger: Mutex<Ledger>,
    /// The newest event that anyone has: whatever joins from now on comes after it.
    seen: AtomicU64,
}

/// What is counted on the way.
#[derive(Default)]
pub(crate) struct Counts {
    /// Connections that were made, lost and found again counting once.
    pub(crate) connections: AtomicU64,
    /// Members now.
    pub(crate) members: AtomicU64,
    /// The most members at once.
    pub(crate) members_max: AtomicU64,
    /// Lines handed to the library.
    pub(crate) sent: AtomicU64,
    /// Lines that the relay accepted.
    pub(crate) accepted: AtomicU64,
    /// Times that a room was open again after a lost connection.
    pub(crate) reopened: AtomicU64,
}

/// One client in the room, from a join to the leave.
pub(crate) struct Stay {
    pub(crate) sender: Sender,
    /// Its place in the ledger.
    pub(crate) follower: usize,
    /// Takes the events. Stops when this is dropped.
    pub(crate) reader: JoinSet<()>,
}

impl Run {
    /// A run whose first event comes after `after`.
    pub(crate) fn new(stage: Stage, after: u64) -> Self {
        Self {
            stage,
            epoch: Instant::now(),
            counts: Counts::default(),
            ledger: Mutex::new(Ledger::new(after + 1)),
            seen: AtomicU64::new(after),
        }
    }

    /// The ledger, for a moment.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Joins the room. Everything that anyone has now is from before that, and so is everything up to `left`.
    pub(crate) async fn enter(self: &Arc<Self>, client: &Client, user: &UserId, left: u64) -> Result<Stay, OpenError> {
        let after = self.seen.load(Relaxed).max(left);
        let events = self.stage.open(client, Start::After(after)).await?;
        Ok(self.stay(events, user, after))
    }

    /// Counts a client as a member that has the room open and must receive everything after `after`.
    pub(crate) fn stay(self: &Arc<Self>, (sender, events): (Sender, Events), user: &UserId, after: u64) -> Stay {
        let follower = self.ledger().follow(Follower::new(user.clone(), after, self.now()));
        let members = self.counts.members.fetch_add(1, Relaxed) + 1;
        self.counts.members_max.fetch_max(members, Relaxed);
        let mut reader = JoinSet::new();
        reader.spawn(read(Arc::clone(self), events, follower));
        Stay { sender, follower, reader }
    }

    fn receive(&self, follower: usize, event: &OwnedEvent) {
        let now = self.now();
        self.ledger().receive(follower, event, now);
        self.seen.fetch_max(event.seq, Relaxed);
    }
}

/// Takes events until the membership ends.
async fn read(run: Arc<Run>, mut events: Events, follower: usize) {
    let _present = Present(&run.counts.members);
    let trouble = |what: String| run.ledger().followers[follower].trouble(what);
    let mut tamper = Tamper::default();
    while let Some(event) = events.next().await {
        match event {
            ConversationEvent::Event(event) => {
                tamper.pass(event).for_each(|event| run.receive(follower, &event));
            }
            ConversationEvent::Skipped { to, .. } => run.ledger().followers[follower].skip(to),
            ConversationEvent::Reconnected => {
                run.counts.reopened.fetch_add(1, Relaxed);
            }
            ConversationEvent::Reset { .. } => trouble("the relay's log became another one during the run".to_owned()),
            ConversationEvent::Ended(Code::ENDED) => return,
            ConversationEvent::Ended(code) => return trouble(format!("the relay closed the room: {code}")),
            _ => {}
        }
    }
    trouble("the events stopped without an end".to_owned());
}

/// Counts a member out, also when the task is stopped.
struct Present<'a>(&'a AtomicU64);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
