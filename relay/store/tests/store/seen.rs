//! When users were last seen, on every order.

use std::time::{Duration, Instant};

use quip_core::{Command, Effect};
use quip_order::{BatchLimit, Faults, Submit as _, faulty};

use crate::harness::*;

#[test]
fn a_last_seen_time_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let seen = |relay: &Relay, at| relay.send(Command::seen(user("ann"), at)).effects;
    let known = |at| [Effect::Seen { user: user("ann"), at }];
    assert_eq!(seen(&relay, 500), known(500));
    relay.close();
    let relay = Relay::open(folder.path());
    assert_eq!(relay.view().user(&user("ann")).unwrap().unwrap().seen, 500);
    assert_eq!(relay.view().user(&user("ben")).unwrap(), None);
    assert_eq!(seen(&relay, 400), known(500), "it is known again what is stored");
    assert_eq!(seen(&relay, 600), known(600));
    // More users than the sequencer keeps rows of.
    (0..20).for_each(|i| _ = relay.send(Command::seen(user(&format!("user-{i}")), 1000 + i)));
    assert_eq!(seen(&relay, 1), known(600));
    assert_eq!(relay.view().user(&user("user-7")).unwrap().unwrap().seen, 1007);
    relay.close();
}

#[test]
fn on_a_faulty_order_the_latest_time_wins() {
    for seed in 0..6 {
        println!("seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        let (submit, order) = faulty(on_disk(folder.path()), seed, Faults::default());
        let running = run(folder.path(), order, BatchLimit { commands: 7, bytes: 1 << 20 });
        let users: Vec<_> = (0..5).map(|i| user(&format!("user-{i}"))).collect();
        // Each is submitted once and may be lost, repeated, late.
        for at in 1..=100 {
            users.iter().for_each(|user| _ = submit.submit(Command::seen(user.clone(), at)));
        }
        // What the order was given last is asked for until it is told to be known.
        let mut open: Vec<_> = users.iter().collect();
        let started = Instant::now();
        while !open.is_empty() {
            assert!(started.elapsed() < PATIENCE, "{open:?}");
            open.iter().for_each(|user| _ = submit.submit(Command::seen((*user).clone(), 100)));
            let Ok(batch) = running.told.recv_timeout(Duration::from_millis(5)) else { continue };
            for effect in batch.changes.iter().flat_map(|change| &change.effects) {
                let Effect::Seen { user, at } = effect else { continue };
                assert!(*at <= 100);
                if *at == 100 {
                    open.retain(|other| *other != user);
                }
            }
        }
        submit.close();
        // Old ones that come late change nothing.
        while running.told.recv().is_ok() {}
        for user in &users {
            assert_eq!(running.view.user(user).unwrap().unwrap().seen, 100);
        }
        running.end().unwrap();
    }
}
