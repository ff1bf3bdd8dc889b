//! The state that all clients of a run share, and a client's stay in the room.

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

/// A run in progress.
pub(crate) struct Run {
    pub(crate) stage: Stage,
    /// The origin of all times.
    pub(crate) epoch: Instant,
    pub(crate) counts: Counts,
    ledger: Mutex<Ledger>,
    /// The newest event received by anyone. Later joins come after it.
    seen: AtomicU64,
}

/// Counters.
#[derive(Default)]
pub(crate) struct Counts {
    /// Connections; a reconnect is not counted.
    pub(crate) connections: AtomicU64,
    /// Current members.
    pub(crate) members: AtomicU64,
    /// Maximum of `members`.
    pub(crate) members_max: AtomicU64,
    /// Lines handed to the library.
    pub(crate) sent: AtomicU64,
    /// Accepted lines.
    pub(crate) accepted: AtomicU64,
    /// How often a client reopened the room after a disconnect.
    pub(crate) reopened: AtomicU64,
}

/// The stay of a client in the room, from join to leave.
pub(crate) struct Stay {
    pub(crate) sender: Sender,
    /// Its index in [`Ledger::followers`].
    pub(crate) follower: usize,
    /// The task that takes the events; aborted on drop.
    pub(crate) reader: JoinSet<()>,
}

impl Run {
    /// A run whose events come after `after`.
    pub(crate) fn new(stage: Stage, after: u64) -> Self {
        Self {
            stage,
            epoch: Instant::now(),
            counts: Counts::default(),
            ledger: Mutex::new(Ledger::new(after + 1)),
            seen: AtomicU64::new(after),
        }
    }

    /// Locks the ledger.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Joins the room. Events that anyone has received, and those up to `left`, precede the join.
    pub(crate) async fn enter(self: &Arc<Self>, client: &Client, user: &UserId, left: u64) -> Result<Stay, OpenError> {
        let after = self.seen.load(Relaxed).max(left);
        let events = self.stage.open(client, Start::After(after)).await?;
        Ok(self.stay(events, user, after))
    }

    /// Begins a stay that must receive everything after `after`.
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
            ConversationEvent::Reset { .. } => trouble("the log of the relay was replaced during the run".to_owned()),
            ConversationEvent::Ended(Code::ENDED) => return,
            ConversationEvent::Ended(code) => return trouble(format!("the relay closed the room: {code}")),
            _ => {}
        }
    }
    trouble("the events ended without Ended".to_owned());
}

/// Decrements the members on drop.
struct Present<'a>(&'a AtomicU64);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
