//! What happens to a packet between a host and the rest of the network. Pure: time and randomness come from outside.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};
use tokio::time::Instant;

/// How good the way between a host and the network is, each direction by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quality {
    /// Every packet takes this long.
    pub delay: Duration,
    /// And up to this much more, so that packets overtake each other.
    pub jitter: Duration,
    /// Packets of a thousand that are lost.
    pub loss: u32,
    /// Packets of a thousand that arrive twice.
    pub duplication: u32,
    /// Packets of a thousand that are held up for long.
    pub held_up: u32,
    /// Bytes a second.
    pub bandwidth: u32,
    /// The largest packet that passes.
    pub mtu: usize,
}

impl Quality {
    /// A way without faults.
    pub const GOOD: Self = Self {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0,
        duplication: 0,
        held_up: 0,
        bandwidth: 10_000_000,
        mtu: 1500,
    };

    /// A way of any quality that a client has to live with.
    pub fn draw(rng: &mut StdRng) -> Self {
        let loss = [0, 0, 10, 30, 100, 200][rng.random_range(0..6)];
        Self {
            delay: Duration::from_millis([1, 10, 50, 150][rng.random_range(0..4)]),
            jitter: Duration::from_millis([0, 1, 20, 60][rng.random_range(0..4)]),
            loss,
            duplication: [0, 0, 20, 100][rng.random_range(0..4)],
            held_up: [0, 0, 10, 50][rng.random_range(0..4)],
            bandwidth: [20_000, 100_000, 1_000_000, 10_000_000][rng.random_range(0..4)],
            mtu: [1200, 1280, 1500][rng.random_range(0..3)],
        }
    }
}

/// One direction of the way.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Until then, earlier packets are being sent.
    busy: Option<Instant>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    /// It arrives then, and perhaps once more.
    Arrives(Instant, Option<Instant>),
}

impl Direction {
    pub(super) fn send(&mut self, quality: &Quality, now: Instant, size: usize, rng: &mut StdRng) -> Fate {
        let mut chance = |in_thousand: u32| rng.random_range(0..1000) < in_thousand;
        let (lost, twice, held_up) = (chance(quality.loss), chance(quality.duplication), chance(quality.held_up));
        let begin = self.busy.map_or(now, |busy| busy.max(now));
        if lost || size > quality.mtu || begin - now > QUEUE {
            return Fate::Lost;
        }
        let sent = begin + Duration::from_secs(1) * size as u32 / quality.bandwidth;
        self.busy = Some(sent);
        let jitter = quality.jitter.as_micros() as u64;
        let mut arrival = || sent + quality.delay + Duration::from_micros(rng.random_range(0..=jitter));
        let first = arrival() + if held_up { HELD_UP } else { Duration::ZERO };
        Fate::Arrives(first, twice.then(arrival))
    }
}

/// What does not leave within this finds the queue full.
const QUEUE: Duration = Duration::from_millis(500);
/// How long a packet is held up.
const HELD_UP: Duration = Duration::from_millis(700);

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn fates(quality: &Quality, count: usize) -> Vec<Fate> {
        let (mut rng, mut way, now) = (StdRng::seed_from_u64(1), Direction::default(), Instant::now());
        (0..count).map(|_| way.send(quality, now, 1000, &mut rng)).collect()
    }

    #[test]
    fn a_good_way_keeps_order_and_bandwidth() {
        let quality = Quality { bandwidth: 1_000_000, ..Quality::GOOD };
        let fates = fates(&quality, 3);
        let Fate::Arrives(first, None) = fates[0] else { panic!("{fates:?}") };
        for (at, fate) in (0..).zip(&fates) {
            assert_eq!(*fate, Fate::Arrives(first + Duration::from_millis(1) * at, None));
        }
    }

    #[test]
    fn what_does_not_fit_is_lost() {
        let quality = Quality { bandwidth: 10_000, ..Quality::GOOD };
        assert_eq!(
            fates(&quality, 10).iter().filter(|fate| **fate == Fate::Lost).count(),
            4,
            "half a second holds six"
        );
        assert_eq!(fates(&Quality { mtu: 999, ..Quality::GOOD }, 1), [Fate::Lost]);
    }

    #[test]
    fn faults_come_as_often_as_they_should() {
        let quality = Quality { loss: 100, duplication: 200, bandwidth: 1_000_000_000, ..Quality::GOOD };
        let fates = fates(&quality, 10_000);
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
        let twice = fates.iter().filter(|fate| matches!(fate, Fate::Arrives(_, Some(_)))).count();
        assert!((800..1200).contains(&lost) && (1600..2000).contains(&twice), "{lost} lost, {twice} twice");
    }
}
