//! Servers that die, and several relays on one stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use quip_jetstream::{ClusterConfig, jetstream};
use quip_order::{Batch, BatchLimit, Clock, Limits, Next, Ordered, Positions, Submit, SubmitError, system_clock};

use crate::{
    config,
    contract::OneStream,
    server::Servers,
    suite::{Engine, at, drain, filled, n_of, post},
};

/// A relay's two ends: a thread that reads until the end, and the submitting side.
struct Relay {
    submit: Arc<dyn Submit>,
    reader: JoinHandle<BTreeMap<u64, Ordered>>,
    /// How many commands came out.
    out: Arc<AtomicUsize>,
}

impl Relay {
    fn start(config: &ClusterConfig) -> Self {
        let (submit, mut order) = jetstream(config.clone(), Limits::default(), system_clock()).unwrap();
        order.start(&Positions::default()).unwrap();
        let out = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&out);
        let reader = thread::spawn(move || {
            let (mut seen, mut batch) = (BTreeMap::new(), Batch::default());
            loop {
                match order.next_batch(BatchLimit::default(), &mut batch).unwrap() {
                    Next::Batch => {
                        seen.extend(batch.commands.drain(..).map(|ordered| (ordered.position, ordered)));
                        counted.store(seen.len(), Ordering::Relaxed);
                    }
                    Next::Idle => {}
                    Next::Full => panic!("the log is full"),
                    Next::Ended => return seen,
                }
            }
        });
        Self { submit, reader, out }
    }

    /// Waits until this much came out. The end of an order waits for a shorter time than servers may need.
    fn until(&self, count: usize) {
        let start = Instant::now();
        while self.out.load(Ordering::Relaxed) < count {
            assert!(start.elapsed() < Duration::from_secs(90), "{} of {count}", self.out.load(Ordering::Relaxed));
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(self) -> BTreeMap<u64, Ordered> {
        self.submit.close();
        self.reader.join().unwrap()
    }
}

/// Everything that the stream has now.
fn everything(config: &ClusterConfig) -> BTreeMap<u64, Ordered> {
    let (_submit, mut order) = jetstream(config.clone(), Limits::default(), system_clock()).unwrap();
    let heads = order.start(&Positions::default()).unwrap();
    let (mut seen, mut batch, start) = (BTreeMap::new(), Batch::default(), Instant::now());
    while (seen.len() as u64) < heads.of(0) {
        assert!(start.elapsed() < Duration::from_secs(60), "has {} of {}", seen.len(), heads.of(0));
        if order.next_batch(BatchLimit::default(), &mut batch).unwrap() == Next::Batch {
            seen.extend(batch.commands.drain(..).map(|ordered| (ordered.position, ordered)));
        }
    }
    seen
}

/// Submits until told to stop, from several conversations. Returns what was taken.
fn load(submit: Arc<dyn Submit>, stop: Arc<AtomicBool>) -> JoinHandle<BTreeSet<u64>> {
    thread::spawn(move || {
        let mut taken = BTreeSet::new();
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            match submit.submit(post((n % 40) as u8, n, 100)) {
                Ok(()) => assert!(taken.insert(n)),
                Err(SubmitError::Full { .. }) => thread::sleep(Duration::from_millis(2)),
                Err(SubmitError::Closed) => break,
            }
            if n % 8 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        taken
    })
}

/// What happens to a server, and for how long.
#[derive(Clone, Copy)]
enum Fault {
    Killed(Duration),
    Hangs(Duration),
}

/// Servers fail in turn under load; everything that was taken must come out, and again for a relay that reads from the start.
fn survives(mut servers: Servers, count: usize, fault: Fault) -> usize {
    let config = config(&servers);
    let relay = Relay::start(&config);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(relay.submit.clone(), stop.clone());
    for number in 0..count {
        thread::sleep(Duration::from_millis(700));
        let victim = number % servers.replicas();
        match fault {
            Fault::Killed(down) => {
                servers.kill(victim);
                thread::sleep(down);
                servers.restart(victim);
            }
            Fault::Hangs(time) => {
                servers.signal(victim, "-STOP");
                thread::sleep(time);
                servers.signal(victim, "-CONT");
            }
        }
        thread::sleep(Duration::from_millis(700));
    }
    stop.store(true, Ordering::Relaxed);
    let taken = load.join().unwrap();
    relay.until(taken.len());
    let seen = relay.end();
    assert!(seen.keys().copied().eq(1..=seen.len() as u64), "positions are dense");
    let out: BTreeSet<_> = seen.values().map(|ordered| n_of(&ordered.command)).collect();
    let repeated = seen.len() - out.len();
    println!("{} taken, {} came out, {repeated} of them again", taken.len(), out.len());
    assert!(taken == out, "missing {:?}", taken.difference(&out).take(10).collect::<Vec<_>>());
    assert!(taken.len() > 1000, "only {} were taken", taken.len());

    assert!(everything(&config) == seen, "the stream is read again as it was read");
    repeated
}

#[test]
fn a_server_that_is_killed_under_load_costs_nothing() {
    let Some(servers) = Servers::alone() else { return };
    let repeated = survives(servers, 4, Fault::Killed(Duration::from_millis(300)));
    assert_eq!(repeated, 0, "the stream knows the ids of what was published before it died");
}

#[test]
fn three_servers_that_are_killed_in_turn_cost_nothing() {
    let Some(servers) = Servers::three() else { return };
    survives(servers, 3, Fault::Killed(Duration::from_secs(2)));
}

#[test]
fn three_servers_that_hang_in_turn_cost_nothing() {
    let Some(servers) = Servers::three() else { return };
    survives(servers, 3, Fault::Hangs(Duration::from_secs(8)));
}

#[test]
fn two_servers_of_three_are_enough_to_start() {
    let Some(mut servers) = Servers::three() else { return };
    let config = config(&servers);
    let (seen, _) = filled(&OneStream(config.clone()), 100, 0);
    for victim in 0..3 {
        servers.kill(victim);
        assert!(everything(&config) == seen, "without server {victim}");
        servers.restart(victim);
    }
}

#[test]
fn two_relays_see_one_order() {
    let Some(servers) = Servers::alone() else { return };
    let config = config(&servers);
    let relays = [Relay::start(&config), Relay::start(&config)];
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = relays.iter().map(|relay| load(relay.submit.clone(), stop.clone())).collect();
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let taken: usize = loads.into_iter().map(|load| load.join().unwrap().len()).sum();
    // The second one reads on until it has what the first one published.
    let [first, second] = relays;
    let first = first.end();
    let second = second.end();
    let common = first.len().min(second.len());
    assert!(first.iter().take(common).eq(second.iter().take(common)));
    assert_eq!(first.len().max(second.len()), taken);
    assert_eq!(everything(&config).len(), taken);
}

#[test]
fn relays_that_begin_at_once_agree_on_the_generation() {
    let Some(servers) = Servers::three() else { return };
    for _ in 0..3 {
        let (config, barrier) = (config(&servers), Arc::new(Barrier::new(6)));
        let begin = || {
            let (config, barrier) = (config.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                jetstream(config, Limits::default(), system_clock()).unwrap().1.generation()
            })
        };
        let generations: Vec<_> =
            (0..6).map(|_| begin()).collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
        assert!(generations.iter().all(|generation| *generation == generations[0]), "{generations:?}");
    }
}

#[test]
fn a_server_whose_clock_is_ahead_gives_no_command_a_time_far_from_its_own() {
    let Some(servers) = Servers::alone() else { return };
    let config = config(&servers);
    let right = system_clock();
    // For this relay, the server's clock is 40 days ahead.
    let now = right();
    let behind: Clock = Arc::new(move || now - 40 * 24 * 3_600_000);
    for (n, clock) in [(1, right), (2, behind)] {
        let (submit, mut order) = jetstream(config.clone(), Limits::default(), clock).unwrap();
        order.start(&Positions::default()).unwrap();
        submit.submit(post(1, n, 10)).unwrap();
        submit.close();
        drain(&mut *order, &mut BTreeMap::new());
    }
    // Each reader computes the same.
    let times: Vec<_> = everything(&config).into_values().map(|ordered| ordered.at).collect();
    assert!(times[0].abs_diff(now) < 60_000, "{times:?}");
    assert_eq!(times[1], now - 40 * 24 * 3_600_000 + 60_000);
}

#[test]
fn nobody_waits_for_a_dead_server() {
    let Some(mut servers) = Servers::alone() else { return };
    let config = config(&servers);
    let (submit, mut order) = jetstream(config.clone(), Limits::default(), system_clock()).unwrap();
    order.start(&Positions::default()).unwrap();
    servers.kill(0);
    let start = Instant::now();
    let taken = (1..=1000).filter(|n| submit.submit(post(1, *n, 100)).is_ok()).count();
    assert_eq!(taken, 64, "a conversation's share");
    let total = (1..=10_000u64).filter(|n| submit.submit(post((n % 200) as u8, *n, 16_000)).is_ok()).count();
    assert!((900..1100).contains(&total), "{total} of 16 KB in 16 MiB");
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    let start = Instant::now();
    while submit.submit(post(1, 1, 1)) != Err(SubmitError::Full { retry_after_ms: 1000 }) {
        assert!(start.elapsed() < Duration::from_secs(5), "clients are told to wait longer");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(order.next_batch(BatchLimit::default(), &mut Batch::default()).unwrap(), Next::Idle);
    submit.close();
    let start = Instant::now();
    drain(&mut *order, &mut BTreeMap::new());
    assert!(start.elapsed() < Duration::from_secs(15), "the end took {:?}", start.elapsed());

    servers.restart(0);
    let (again, _) = filled(&OneStream(config), 10, 0);
    assert!(again.len() >= 10);
}

#[test]
fn a_sequencer_that_is_slow_gets_everything_all_the_same() {
    let Some(servers) = Servers::alone() else { return };
    let log = OneStream(config(&servers));
    let mut count = 0;
    for _ in 0..10 {
        let (submit, mut order) = log.open();
        order.start(&at(count)).unwrap();
        (1..=1500).for_each(|n| submit.submit(post((n % 60) as u8, n, 1000)).unwrap());
        submit.close();
        let mut seen = BTreeMap::new();
        drain(&mut *order, &mut seen);
        count += seen.len() as u64;
    }
    let (submit, mut order) = log.open();
    assert_eq!(order.start(&at(0)).unwrap().of(0), count);
    thread::sleep(Duration::from_secs(3));
    assert!(!order.wants_checkpoint());
    let (mut last, mut batch) = (0, Batch::default());
    while last < count {
        if order.next_batch(BatchLimit { commands: 100, bytes: usize::MAX }, &mut batch).unwrap() == Next::Batch {
            assert!(
                batch.commands.iter().map(|ordered| ordered.position).eq(last + 1..=last + batch.commands.len() as u64)
            );
            last += batch.commands.len() as u64;
        }
    }
    drop(submit);
}
