//! What a wire does in the long run is what its parameters say. Every run here has a fixed seed, so the
//! bounds, five standard deviations wide, either always hold or never.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quip_link::{Bottleneck, Burst, Chance, Direction, Drop, Fate, Params, Queue, Rate, Reorder, Wire};

const PACKETS: usize = 100_000;
const SEEDS: std::ops::Range<u64> = 0..5;
const MS: Duration = Duration::from_millis(1);

fn chance(share: f64) -> Chance {
    Chance::new(share).unwrap()
}

/// The fates of packets of 1,000 bytes, so far apart that none waits for another.
fn fates(params: &Params, seed: u64) -> Vec<Fate> {
    let mut wire = Wire::new(params.clone(), seed, Direction::Up);
    (0..PACKETS as u32).map(|number| wire.admit(100 * MS * number, 1000)).collect()
}

/// Asserts that `count` of `of` is a share of `expected`, within five standard deviations.
fn assert_share(count: usize, of: usize, expected: f64, what: &str) {
    let share = count as f64 / of as f64;
    let bound = 5.0 * (expected * (1.0 - expected) / of as f64).sqrt();
    assert!((share - expected).abs() <= bound, "{what}: {share}, expected {expected} ± {bound}");
}

#[test]
fn random_loss_is_the_share_that_was_asked_for_and_comes_alone() {
    for seed in SEEDS {
        for loss in [0.0, 0.005, 0.02, 0.3, 1.0] {
            let fates = fates(&Params { loss: chance(loss), ..Params::default() }, seed);
            let lost: Vec<bool> = fates.iter().map(|fate| *fate == Fate::Dropped(Drop::Lost)).collect();
            let pairs = lost.windows(2).filter(|pair| pair[0] && pair[1]).count();
            assert_share(lost.iter().filter(|lost| **lost).count(), PACKETS, loss, "loss");
            assert_share(pairs, PACKETS - 1, loss * loss, "two lost in a row");
        }
    }
}

#[test]
fn bursts_are_as_frequent_and_as_long_as_asked_for() {
    let burst = Burst { enter: chance(0.01), leave: chance(0.25), loss: chance(1.0) };
    let params = Params { burst: Some(burst), ..Params::default() };
    for seed in SEEDS {
        let fates = fates(&params, seed);
        let bad: Vec<bool> = fates.iter().map(|fate| *fate == Fate::Dropped(Drop::LostInBurst)).collect();
        let bursts: Vec<usize> = bad.chunk_by(|a, b| a == b).filter(|run| run[0]).map(<[bool]>::len).collect();
        let lost: usize = bursts.iter().sum();
        // A burst begins in a good packet with chance `enter`, and each of its packets is its last with
        // chance `leave`.
        assert_share(bursts.len(), PACKETS - lost, 0.01, "bursts");
        assert_share(bursts.len(), lost, 0.25, "ends of bursts");
        let ones = bursts.iter().filter(|length| **length == 1).count();
        assert_share(ones, bursts.len(), 0.25, "bursts of one packet");
        let mean = params.mean_loss();
        assert!((mean - 0.01 / 0.26).abs() < 1e-12);
        assert!((lost as f64 / PACKETS as f64 - mean).abs() < 0.25 * mean, "lost {lost}");
    }
}

#[test]
fn packets_may_survive_a_burst_and_be_lost_outside_of_one() {
    let burst = Burst { enter: chance(0.05), leave: chance(0.05), loss: chance(0.5) };
    let params = Params { loss: chance(0.1), burst: Some(burst), ..Params::default() };
    assert!((params.mean_loss() - 0.3).abs() < 1e-12);
    let fates = fates(&params, 1);
    let count = |fate| fates.iter().filter(|found| **found == fate).count() as f64 / PACKETS as f64;
    assert!((count(Fate::Dropped(Drop::Lost)) - 0.05).abs() < 0.01);
    assert!((count(Fate::Dropped(Drop::LostInBurst)) - 0.25).abs() < 0.03);
}

#[test]
fn delay_is_exact_and_jitter_even_around_it() {
    let (delay, jitter) = (25 * MS, 10 * MS);
    for (seed, jitter) in SEEDS.flat_map(|seed| [(seed, Duration::ZERO), (seed, jitter)]) {
        let fates = fates(&Params { delay, jitter, ..Params::default() }, seed);
        let mut delays: Vec<Duration> = (0..).zip(&fates).map(|(i, fate)| delivered(fate) - 100 * MS * i).collect();
        delays.sort_unstable();
        for (quantile, position) in [(0.0, 0), (0.25, PACKETS / 4), (0.5, PACKETS / 2), (1.0, PACKETS - 1)] {
            let expected = (delay - jitter + jitter.mul_f64(2.0 * quantile)).as_secs_f64();
            let bound = 5.0 * 0.5 * 2.0 * jitter.as_secs_f64() / (PACKETS as f64).sqrt();
            let found = delays[position].as_secs_f64();
            assert!((found - expected).abs() <= bound + 1e-9, "{quantile}: {found}, expected {expected}");
        }
    }
}

#[test]
fn reordering_and_duplication_are_as_frequent_as_asked_for() {
    let reorder = Some(Reorder { chance: chance(0.03), by: 7 * MS });
    let params = Params { delay: MS, reorder, duplicate: chance(0.05), ..Params::default() };
    for seed in SEEDS {
        let fates = fates(&params, seed);
        let held = (0..).zip(&fates).filter(|(i, fate)| delivered(fate) - 100 * MS * *i == 8 * MS).count();
        let twice = fates.iter().filter(|fate| matches!(fate, Fate::Delivered { twice: true, .. })).count();
        assert_share(held, PACKETS, 0.03, "held back");
        assert_share(twice, PACKETS, 0.05, "duplicated");
    }
}

#[test]
fn a_bottleneck_passes_its_rate_and_drops_what_its_queue_cannot_take() {
    let rate = Rate::new(8_000_000).unwrap();
    for queue in [Queue::Time(20 * MS), Queue::Bytes(20_000)] {
        let params = Params { delay: 5 * MS, bottleneck: Some(Bottleneck { rate, queue }), ..Params::default() };
        let mut wire = Wire::new(params, 1, Direction::Down);
        // 1,000 bytes each half millisecond is twice what 8 Mbit/s can carry.
        let fates: Vec<Fate> = (0..4000).map(|i| wire.admit(MS / 2 * i, 1000)).collect();
        let passed: Vec<(u32, Duration)> = (0..)
            .zip(&fates)
            .filter(|(_, fate)| matches!(fate, Fate::Delivered { .. }))
            .map(|(i, fate)| (i, delivered(fate)))
            .collect();
        // 2 s at 1 packet a millisecond, and what the queue held at the end.
        assert!((2020..=2021).contains(&passed.len()), "{} passed", passed.len());
        assert!(passed.windows(2).all(|pair| pair[1].1 - pair[0].1 == MS));
        let waits = passed.iter().map(|(i, at)| *at - MS / 2 * *i - 5 * MS);
        assert_eq!(waits.max(), Some(21 * MS), "a full queue and the packet's own transmission");
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Delivered { .. } | Fate::Dropped(Drop::QueueFull))));
    }
}

fn delivered(fate: &Fate) -> Duration {
    match fate {
        Fate::Delivered { at, .. } => *at,
        Fate::Dropped(why) => panic!("dropped: {why:?}"),
    }
}
