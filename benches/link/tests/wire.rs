//! What holds for every wire, whatever its parameters.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use quip_link::{Bottleneck, Burst, Chance, Direction, Drop, Fate, Params, ParamsError, Queue, Rate, Reorder, Wire};

fn chance() -> impl Strategy<Value = Chance> {
    (0.0..=1.0).prop_map(|share| Chance::new(share).unwrap())
}

fn millis(longest: u64) -> impl Strategy<Value = Duration> {
    (0..=longest * 1000).prop_map(Duration::from_micros)
}

fn burst() -> impl Strategy<Value = Burst> {
    (chance(), 0.01..=1.0, chance()).prop_map(|(enter, leave, loss)| {
        let leave = Chance::new(leave).unwrap();
        Burst { enter, leave, loss }
    })
}

fn bottleneck() -> impl Strategy<Value = Bottleneck> {
    let queue = prop_oneof![millis(100).prop_map(Queue::Time), (0..100_000u64).prop_map(Queue::Bytes)];
    let rate = (100_000..100_000_000u64).prop_map(|bits| Rate::new(bits).unwrap());
    (rate, queue).prop_map(|(rate, queue)| Bottleneck { rate, queue })
}

prop_compose! {
    fn params()(
        delay in millis(100),
        jitter_share in 0.0..=1.0,
        loss in chance(),
        burst in option::of(burst()),
        reorder in option::of((chance(), millis(50)).prop_map(|(chance, by)| Reorder { chance, by })),
        duplicate in chance(),
        bottleneck in option::of(bottleneck()),
    ) -> Params {
        let jitter = delay.mul_f64(jitter_share);
        Params { delay, jitter, loss, burst, reorder, duplicate, bottleneck }
    }
}

/// Packets: the time since the one before, and the length.
fn traffic() -> impl Strategy<Value = Vec<(Duration, usize)>> {
    vec((millis(5), 20..=1500usize), 1..200)
}

fn run(params: &Params, seed: u64, direction: Direction, traffic: &[(Duration, usize)]) -> Vec<(Duration, Fate)> {
    let mut wire = Wire::new(params.clone(), seed, direction);
    let mut now = Duration::ZERO;
    let mut admit = |(gap, length): &(Duration, usize)| {
        now += *gap;
        (now, wire.admit(now, *length))
    };
    traffic.iter().map(&mut admit).collect()
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_fates(params in params(), seed: u64, traffic in traffic()) {
        let once = run(&params, seed, Direction::Up, &traffic);
        prop_assert_eq!(once, run(&params, seed, Direction::Up, &traffic));
    }

    /// Chance belongs to the packet's number: neither time nor length nor other parameters move it.
    #[test]
    fn what_is_lost_by_chance_depends_on_the_number_alone(
        params in params(), other in params(), seed: u64, one in traffic(), two in traffic(),
    ) {
        let params = Params { bottleneck: None, ..params };
        let other = Params { loss: params.loss, burst: params.burst, bottleneck: None, ..other };
        let (one, two) = (run(&params, seed, Direction::Up, &one), run(&other, seed, Direction::Up, &two));
        for ((_, one), (_, two)) in one.iter().zip(&two) {
            match (one, two) {
                (Fate::Dropped(one), Fate::Dropped(two)) => prop_assert_eq!(one, two),
                (Fate::Delivered { .. }, Fate::Delivered { .. }) => {}
                _ => prop_assert!(false, "{:?} and {:?}", one, two),
            }
        }
    }

    #[test]
    fn what_is_lost_at_a_low_rate_is_lost_at_a_higher_one(low in chance(), high in chance(), seed: u64) {
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        let traffic = vec![(Duration::ZERO, 100); 500];
        let run = |loss| run(&Params { loss, ..Params::default() }, seed, Direction::Up, &traffic);
        for ((_, low), (_, high)) in run(low).iter().zip(run(high)) {
            prop_assert!(*low != Fate::Dropped(Drop::Lost) || high == Fate::Dropped(Drop::Lost));
        }
    }

    #[test]
    fn nothing_arrives_early_and_only_what_is_held_back_is_overtaken(
        params in params(), seed: u64, traffic in traffic(),
    ) {
        let mut last = Duration::ZERO;
        for (now, fate) in run(&params, seed, Direction::Down, &traffic) {
            let Fate::Delivered { at, held_back, .. } = fate else { continue };
            prop_assert!(at >= now + params.delay - params.jitter);
            if !held_back {
                prop_assert!(at >= last);
                last = at;
            }
        }
    }

    #[test]
    fn a_bottleneck_is_never_faster_than_its_rate_and_no_wait_longer_than_its_queue(
        bottleneck in bottleneck(), seed: u64, traffic in traffic(),
    ) {
        let params = Params { bottleneck: Some(bottleneck), ..Params::default() };
        let mut idle_from = Duration::ZERO;
        let longest = match bottleneck.queue {
            Queue::Time(time) => time,
            Queue::Bytes(bytes) => bottleneck.rate.time(bytes),
        };
        for ((now, fate), (_, length)) in run(&params, seed, Direction::Down, &traffic).into_iter().zip(&traffic) {
            let begins = idle_from.max(now);
            match fate {
                Fate::Delivered { at, .. } => {
                    prop_assert_eq!(at, begins + bottleneck.rate.time(*length as u64));
                    prop_assert!(begins - now <= longest);
                    idle_from = at;
                }
                Fate::Dropped(why) => {
                    prop_assert_eq!(why, Drop::QueueFull);
                    prop_assert!(begins - now > longest);
                }
            }
        }
    }
}

#[test]
fn seeds_and_directions_have_chances_of_their_own() {
    let params = Params { loss: Chance::new(0.5).unwrap(), ..Params::default() };
    let traffic = vec![(Duration::ZERO, 100); 200];
    let up = run(&params, 1, Direction::Up, &traffic);
    assert_ne!(up, run(&params, 1, Direction::Down, &traffic));
    assert_ne!(up, run(&params, 2, Direction::Up, &traffic));
}

/// A generator of another version would change every pattern that was ever measured.
#[test]
fn the_pattern_of_a_seed_is_fixed_for_ever() {
    let params = Params { loss: Chance::new(0.25).unwrap(), ..Params::default() };
    let fates = run(&params, 7, Direction::Up, &[(Duration::ZERO, 100); 40]);
    let lost: Vec<usize> =
        (0..).zip(fates).filter(|(_, (_, fate))| matches!(fate, Fate::Dropped(_))).map(|(i, _)| i).collect();
    assert_eq!(lost, [0, 1, 7, 10, 14, 15, 16, 22, 25, 37, 39]);
}

#[test]
fn parameters_that_make_no_link_are_refused() {
    let ms = Duration::from_millis;
    let long = Duration::from_secs(11);
    let rate = Rate::new(1_000_000).unwrap();
    let endless = Burst { enter: Chance::ALWAYS, leave: Chance::NEVER, loss: Chance::ALWAYS };
    for (params, error) in [
        (
            Params { delay: ms(5), jitter: ms(6), ..Params::default() },
            ParamsError::Jitter { jitter: ms(6), delay: ms(5) },
        ),
        (Params { delay: long, ..Params::default() }, ParamsError::Long { what: "a delay", value: long }),
        (
            Params { reorder: Some(Reorder { chance: Chance::NEVER, by: long }), ..Params::default() },
            ParamsError::Long { what: "holding back", value: long },
        ),
        (
            Params { bottleneck: Some(Bottleneck { rate, queue: Queue::Time(long) }), ..Params::default() },
            ParamsError::Long { what: "a queue", value: long },
        ),
        (Params { burst: Some(endless), ..Params::default() }, ParamsError::Endless),
    ] {
        assert_eq!(params.check(), Err(error));
    }
    assert_eq!(Rate::new(Rate::MIN - 1), Err(ParamsError::Rate(Rate::MIN - 1)));
    assert_eq!(Chance::new(-0.1), Err(ParamsError::Chance(-0.1)));
}
