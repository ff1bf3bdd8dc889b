//! Many clients against a small relay in one thread, with faults drawn from a seed.

mod client;
mod relay;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use self::{client::Client, relay::Relay};

/// How often something goes wrong, in steps of a thousand.
#[derive(Clone, Copy)]
struct Faults {
    /// A connection is cut.
    cut: u32,
    /// A client process dies and starts again with what it had kept.
    crash: u32,
    /// The relay dies: what was not committed is gone.
    relay: u32,
    /// The log is restored from a backup.
    restore: u32,
    /// A command is refused before ordering.
    refuse: u32,
    /// A command that was queued comes again.
    repeat: u32,
    /// The app does not take events.
    lazy: bool,
}

/// Runs of each test; `QUIP_SEED` runs one, by its number.
const SEEDS: u64 = 30;

const NONE: Faults = Faults { cut: 0, crash: 0, relay: 0, restore: 0, refuse: 0, repeat: 0, lazy: false };

struct Sim {
    rng: StdRng,
    now: Instant,
    relay: Relay,
    clients: Vec<Client>,
    faults: Faults,
}

impl Sim {
    fn new(seed: u64, faults: Faults) -> Self {
        let clients = ["alice", "bob", "bob", "carol"].iter().enumerate();
        let now = Instant::now();
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            relay: Relay::default(),
            clients: clients.map(|(at, user)| Client::new(at, user)).collect(),
            faults,
        }
    }

    fn chance(&mut self, in_thousand: u32) -> bool {
        self.rng.random_range(0..1000) < in_thousand
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let at = self.rng.random_range(0..self.clients.len());
        let (refuse, repeat) = (self.chance(self.faults.refuse), self.chance(self.faults.repeat));
        let client = &mut self.clients[at];
        match self.rng.random_range(0..8) {
            0 => client.compose(),
            1 if !self.faults.lazy || self.rng.random_range(0..40) == 0 => client.take(self.now),
            2 => client.connect(&mut self.relay),
            3 | 4 => self.relay.read(at, refuse),
            5 => self.relay.commit(repeat),
            6 => self.relay.deliver(at),
            _ => client.read(&mut self.relay, self.now),
        }
        self.clients[at].turn(&mut self.relay, self.now);
        self.fail(at);
    }

    fn fail(&mut self, at: usize) {
        if self.chance(self.faults.cut) {
            self.clients[at].cut(&mut self.relay);
        }
        if self.chance(self.faults.crash) {
            self.clients[at].crash(&mut self.relay);
        }
        if self.chance(self.faults.relay) {
            self.relay.die();
            self.clients.iter_mut().for_each(|client| client.cut(&mut self.relay));
        }
        if self.chance(self.faults.restore) {
            self.relay.restore(self.rng.random());
            self.clients.iter_mut().for_each(|client| client.cut(&mut self.relay));
        }
    }

    /// Without faults everything comes to rest; then all must have seen the same.
    fn settle(&mut self) {
        self.faults = NONE;
        for client in &mut self.clients {
            client.done = true;
        }
        for _ in 0..200_000 {
            self.step();
            if self.relay.is_idle() && self.clients.iter().all(|client| client.is_settled(&self.relay)) {
                return;
            }
        }
        for client in &self.clients {
            eprintln!("{}", client.status());
        }
        panic!("does not come to rest; the head is {}", self.relay.head());
    }
}

fn run(name: &str, faults: Faults) {
    let seeds = match std::env::var("QUIP_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        let told = scopeguard(name, seed);
        let mut sim = Sim::new(seed, faults);
        for _ in 0..4_000 {
            sim.step();
        }
        sim.settle();
        let sent: u64 = sim.clients.iter().map(|client| client.composed).sum();
        assert!(sent > 100, "hardly anything was sent: {sent}");
        sim.clients.iter_mut().for_each(|client| client.check(&sim.relay));
        drop(told);
    }
}

/// Prints the seed if the test panics while this is held.
fn scopeguard(name: &str, seed: u64) -> impl Drop {
    struct Told(String);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}", self.0);
            }
        }
    }
    Told(format!("{name}: run again with QUIP_SEED={seed}"))
}

#[test]
fn without_faults() {
    run("without_faults", NONE);
}

#[test]
fn cut_connections() {
    run("cut_connections", Faults { cut: 10, ..NONE });
}

#[test]
fn refusals_before_ordering() {
    run("refusals_before_ordering", Faults { refuse: 200, ..NONE });
}

#[test]
fn crashing_clients() {
    run("crashing_clients", Faults { cut: 5, crash: 5, ..NONE });
}

#[test]
fn crashing_relay() {
    run("crashing_relay", Faults { relay: 5, cut: 5, refuse: 50, ..NONE });
}

#[test]
fn repeated_commands() {
    run("repeated_commands", Faults { repeat: 200, cut: 10, refuse: 20, ..NONE });
}

#[test]
fn an_app_that_takes_nothing_for_long() {
    run("an_app_that_takes_nothing_for_long", Faults { lazy: true, cut: 2, ..NONE });
}

#[test]
fn restored_logs() {
    run("restored_logs", Faults { restore: 2, cut: 5, crash: 2, ..NONE });
}

#[test]
fn everything_at_once() {
    run("everything_at_once", Faults { cut: 8, crash: 3, relay: 3, restore: 1, refuse: 50, repeat: 50, lazy: true });
}
