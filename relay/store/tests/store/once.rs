//! Exactly once, in one order, numbered without holes: on every order, with clients that resend.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use quip_core::{By, Command};
use quip_order::{BatchLimit, Faults, Submit, faulty};
use quip_protocol::{Code, ConversationId, DeviceId, conversation::Outcome};
use quip_store::Committed;

use crate::harness::*;

const CONVERSATIONS: [&str; 3] = ["test:one", "test:two", "test:three"];
const MESSAGES: u64 = 60;
/// Commands that a client has on the way at once.
const WINDOW: usize = 8;

/// One device in one conversation: sends its commands again until each has an outcome.
struct Client {
    device: Device,
    room: &'static str,
    name: usize,
    /// Outcomes by number. One may come late: the relay decides in order, but may restart before it tells.
    outcomes: BTreeMap<u64, Outcome>,
}

impl Client {
    fn command(&self, n: u64) -> Command {
        let action = if n == 1 { join(self.room) } else { post(format!("{} {n}", self.name)) };
        self.device.numbered(n, action)
    }

    fn is_done(&self) -> bool {
        self.outcomes.len() as u64 == MESSAGES
    }

    /// Sends what has no outcome yet, in order, until something is refused.
    fn resend(&self, submit: &dyn Submit) {
        let waiting = (1..=MESSAGES).filter(|n| !self.outcomes.contains_key(n));
        for n in waiting.take(WINDOW) {
            if submit.submit(self.command(n)).is_err() {
                return;
            }
        }
    }

    fn hear(&mut self, outcome: Outcome) {
        assert!(outcome.code != Code::REUSED, "{outcome:?}");
        if matches!(outcome.code, Code::MISSING | Code::KNOWN) {
            return;
        }
        assert_eq!(outcome.code, Code::DONE);
        let known = self.outcomes.entry(outcome.n).or_insert(outcome);
        assert_eq!(*known, outcome, "an outcome never changes");
    }
}

/// What the sinks were told of each conversation.
#[derive(Default)]
struct Told {
    heads: HashMap<ConversationId, (u64, u64, u64)>,
}

impl Told {
    fn hear(&mut self, batch: &Committed) {
        for change in &batch.changes {
            let Some(event) = &change.event else { continue };
            let (seq, number, at) = self.heads.entry(change.conversation).or_default();
            assert_eq!(event.seq, *seq + 1, "dense");
            assert!(event.number - *number <= 1 && event.at >= *at);
            (*seq, *number, *at) = (event.seq, event.number, event.at);
        }
    }
}

fn clients() -> Vec<Client> {
    let names = 0..CONVERSATIONS.len() * 4;
    names
        .map(|name| {
            let room = CONVERSATIONS[name % CONVERSATIONS.len()];
            // Two devices of each user.
            let mut device = Device::new(&format!("user-{}", name % 6), self::room(room));
            device.device = DeviceId([name as u8; 16]);
            Client { device, room, name, outcomes: BTreeMap::new() }
        })
        .collect()
}

/// Runs clients until all are done.
fn drive(
    clients: &mut [Client],
    told: &mut Told,
    submit: &dyn Submit,
    running: &Running,
    enough: impl Fn(&[Client]) -> bool,
) {
    let keys = clients.iter().enumerate().map(|(i, client)| {
        let device = &client.device;
        ((device.conversation, device.user.clone(), device.device), i)
    });
    let keys: HashMap<_, _> = keys.collect();
    while !enough(clients) {
        clients.iter().for_each(|client| client.resend(submit));
        // Whatever comes; if everything got lost, nothing does.
        let batch = match running.told.recv_timeout(Duration::from_millis(5)) {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => panic!("the sequencer has ended"),
        };
        for batch in std::iter::once(batch).chain(running.told.try_iter()) {
            told.hear(&batch);
            for change in &batch.changes {
                let (By::Device { user, device, .. }, Some(outcome)) = (&change.by, change.outcome) else { continue };
                clients[keys[&(change.conversation, user.clone(), *device)]].hear(outcome);
            }
        }
    }
}

/// Everything that was accepted is there once, in the place that the client was told.
fn check(clients: &[Client], running: &Running) {
    for name in CONVERSATIONS {
        let stored = all_events(&running.view, room(name));
        let head = running.view.conversation(room(name)).unwrap().unwrap().head;
        assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=head), "dense");
        let mut expected: Vec<_> = clients
            .iter()
            .filter(|client| client.room == name)
            .flat_map(|client| {
                let posts = client.outcomes.values().filter(|outcome| outcome.n > 1);
                posts.map(|outcome| (outcome.seq, format!("{} {}", client.name, outcome.n).into_bytes()))
            })
            .collect();
        expected.sort();
        assert_eq!(stored, expected);
    }
}

fn halfway(clients: &[Client]) -> bool {
    clients.iter().any(|client| client.outcomes.len() as u64 > MESSAGES / 2)
}

fn everyone_is_done(clients: &[Client]) -> bool {
    clients.iter().all(Client::is_done)
}

#[test]
fn on_an_embedded_order() {
    let folder = tempfile::tempdir().unwrap();
    let (submit, order) = on_disk(folder.path());
    let running = run(folder.path(), order, BatchLimit::default());
    let (mut clients, mut told) = (clients(), Told::default());
    drive(&mut clients, &mut told, &*submit, &running, everyone_is_done);
    check(&clients, &running);
    submit.close();
    running.end().unwrap();
}

#[test]
fn on_a_faulty_order() {
    for seed in 0..6 {
        println!("seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        faulty_run(folder.path(), seed);
    }
}

/// The relay is restarted halfway, and clients notice nothing but silence.
fn faulty_run(folder: &Path, seed: u64) {
    let (mut clients, mut told) = (clients(), Told::default());
    for (phase, enough) in [halfway as fn(&_) -> _, everyone_is_done].into_iter().enumerate() {
        let (submit, order) = faulty(on_disk(folder), seed * 2 + phase as u64, Faults::default());
        let running = run(folder, order, BatchLimit { commands: 50, bytes: 1 << 20 });
        drive(&mut clients, &mut told, &*submit, &running, enough);
        submit.close();
        // What was still on the way is committed too; the clients do not hear of it.
        while let Ok(batch) = running.told.recv() {
            told.hear(&batch);
        }
        if phase == 1 {
            check(&clients, &running);
        }
        running.end().unwrap();
    }
}
