//! What everything in a run has in common.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{disk::Disk, issuer::Issuer, place::Place};
use crate::{
    history::{App, Device, Entry, Reading, Recorder, Ticket},
    host::Host,
    logs::Logs,
    plant::Plant,
};
use quip_client::Cursor;
use quip_order::Ordered;
use quip_protocol::{ConversationId, UserId};

/// What everything in a run has in common.
pub(super) struct Shared {
    /// Where everything is noted.
    pub recorder: Recorder,
    /// The conversations that apps know of.
    pub places: Vec<Place>,
    /// Where the relay may be.
    pub relays: Vec<SocketAddr>,
    /// Its certificate's fingerprint.
    pub fingerprint: [u8; 32],
    /// The fault that is planted in this run.
    pub plant: Option<Plant>,
    /// True once the faults are over.
    pub calm: AtomicBool,
    /// What was decided so far.
    pub logs: Mutex<Logs>,
    /// Who makes tokens, where they expire.
    pub issuer: Option<Issuer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    readings: u64,
    tickets: u64,
    /// How far each reading that is under way has come.
    progress: BTreeMap<(Device, ConversationId), Cursor>,
    /// Commands whose fate is waited for.
    waiting: BTreeMap<Device, usize>,
}

impl Shared {
    /// Before anything has happened.
    pub(super) fn new(
        recorder: Recorder,
        places: Vec<Place>,
        relays: Vec<SocketAddr>,
        fingerprint: [u8; 32],
        issuer: Option<Issuer>,
        plant: Option<Plant>,
    ) -> Self {
        let (calm, logs, state) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { recorder, places, relays, fingerprint, plant, calm, logs, issuer, state }
    }

    /// The relay has another log, which begins with some commands of the one before. Gives these.
    pub(super) fn begin_log(&self, generation: u64, kept: usize) -> Vec<Ordered> {
        self.recorder.note(Entry::Log { generation, kept });
        lock(&self.logs).begin(generation, kept, self.recorder.elapsed())
    }

    /// Whether the faults are over.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// A name for a reading.
    pub(super) fn reading(&self) -> Reading {
        let mut state = lock(&self.state);
        state.readings += 1;
        Reading(state.readings)
    }

    /// A name for a command, whose fate is waited for.
    pub(super) fn ticket(&self, device: Device) -> Ticket {
        let mut state = lock(&self.state);
        state.tickets += 1;
        *state.waiting.entry(device).or_default() += 1;
        Ticket(state.tickets)
    }

    /// The fate of a command is known.
    pub(super) fn told(&self, device: Device) {
        *lock(&self.state).waiting.entry(device).or_default() -= 1;
    }

    /// A process died: it waits for nothing and reads nothing.
    pub(super) fn died(&self, device: Device) {
        let mut state = lock(&self.state);
        state.waiting.remove(&device);
        state.progress.retain(|(of, _), _| *of != device);
    }

    /// A reading has come so far; `None` = it is over.
    pub(super) fn progress(&self, device: Device, id: ConversationId, at: Option<Cursor>) {
        let mut state = lock(&self.state);
        match at {
            Some(at) => _ = state.progress.insert((device, id), at),
            None => _ = state.progress.remove(&(device, id)),
        }
    }

    /// What is still to come on a device, now that the faults are over; `None` = nothing.
    pub(super) fn lacks(&self, device: Device, user: &UserId) -> Option<String> {
        let (state, logs) = (lock(&self.state), lock(&self.logs));
        let log = logs.current();
        if state.waiting.get(&device).is_some_and(|waiting| *waiting > 0) {
            return Some(format!("{user}#{}: {} commands without a fate", device.0, state.waiting[&device]));
        }
        log.truth.conversations.iter().find_map(|(id, conversation)| {
            let visible = conversation.visible.get(user).and_then(|all| all.last())?;
            let (head, at) = (conversation.events.len() as u64, state.progress.get(&(device, *id)).copied());
            let arrived = at.is_some_and(|at| at.generation == log.generation && at.seq >= head);
            let behind = visible.role > 0 && head > 0 && !arrived;
            behind.then(|| format!("{user}#{} has come to {at:?} of {head} in {id} of {}", device.0, log.generation))
        })
    }
}

/// What a process of a device has.
pub(super) struct Process {
    /// Which device.
    pub device: Device,
    /// Whose.
    pub user: UserId,
    /// On which it runs.
    pub host: Host,
    /// What outlives it.
    pub disk: Disk,
    /// What everything has in common.
    pub shared: Arc<Shared>,
}

impl Process {
    /// Notes what the app did or saw, while it lives.
    pub(super) fn note(&self, what: App) {
        if self.host.is_alive() {
            self.shared.recorder.note(Entry::App(self.device, what));
        }
    }

    /// Whether a planted fault is to show now, which it does once in `times`.
    pub(super) fn planted(&self, plant: Plant, times: u64) -> bool {
        self.shared.plant == Some(plant) && self.host.draw(times) == 0
    }
}

/// Locks, also after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
