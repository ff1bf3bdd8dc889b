//! One direction of a link, without packets: when what arrives now is to be delivered, if at all.

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::params::{Bottleneck, Chance, Params};

/// Which way packets go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the near side to the far side.
    Up,
    /// From the far side to the near side.
    Down,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// What becomes of a packet. Times run from the start of the link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is delivered at this time, and once more if it is a pair.
    Delivered {
        /// When.
        at: Duration,
        /// Whether it is delivered twice.
        twice: bool,
        /// Whether later packets may overtake it.
        held_back: bool,
    },
    /// It is not delivered.
    Dropped(Drop),
}

/// Why a packet is not delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drop {
    /// By chance.
    Lost,
    /// By chance, while the link was bad.
    LostInBurst,
    /// There was no room before the bottleneck.
    QueueFull,
}

/// The state of one direction.
///
/// The i-th packet meets the same dice in every link of the same seed and direction, whatever the
/// parameters and the other packets are. So two systems that are measured over one seed lose packets of
/// the same numbers, and what is lost at 1 % is lost at 2 % too.
#[derive(Clone, Debug)]
pub struct Wire {
    params: Params,
    dice: ChaCha8Rng,
    bad: bool,
    /// When the transmitter of the bottleneck has sent all that it took.
    idle_from: Duration,
    /// Delivery of the last packet that was not held back.
    last: Duration,
}

/// What chance decides about one packet. The names say what for; each is uniform over all of `u64`.
struct Dice {
    burst: u64,
    loss: u64,
    jitter: u64,
    reorder: u64,
    duplicate: u64,
}

impl Wire {
    /// A direction that has carried nothing yet. The caller has checked the parameters.
    pub fn new(params: Params, seed: u64, direction: Direction) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(direction as u64);
        Self { params, dice, bad: false, idle_from: Duration::ZERO, last: Duration::ZERO }
    }

    /// Other parameters for packets from now on. The caller has checked them.
    pub fn set(&mut self, params: Params) {
        self.params = params;
    }

    /// Decides about a packet of `length` bytes that arrives at `now`, which never goes back.
    pub fn admit(&mut self, now: Duration, length: usize) -> Fate {
        let dice = Dice::throw(&mut self.dice);
        let loss = self.loss(&dice);
        let Some(sent) = self.transmit(now, length) else {
            return Fate::Dropped(Drop::QueueFull);
        };
        if loss.happens(dice.loss) {
            return Fate::Dropped(if self.bad { Drop::LostInBurst } else { Drop::Lost });
        }
        let Params { delay, jitter, reorder, duplicate, .. } = self.params;
        let earliest = sent + delay - jitter;
        let in_order = (earliest + jitter.mul_f64(2.0 * share(dice.jitter))).max(self.last);
        let twice = duplicate.happens(dice.duplicate);
        match reorder {
            Some(reorder) if reorder.chance.happens(dice.reorder) => {
                Fate::Delivered { at: in_order + reorder.by, twice, held_back: true }
            }
            _ => {
                self.last = in_order;
                Fate::Delivered { at: in_order, twice, held_back: false }
            }
        }
    }

    /// Moves between good and bad, and gives the chance of loss there.
    fn loss(&mut self, dice: &Dice) -> Chance {
        let Some(burst) = self.params.burst else {
            self.bad = false;
            return self.params.loss;
        };
        let change = if self.bad { burst.leave } else { burst.enter };
        self.bad ^= change.happens(dice.burst);
        if self.bad { burst.loss } else { self.params.loss }
    }

    /// When the packet has left the bottleneck; `None` when there is no room before it.
    fn transmit(&mut self, now: Duration, length: usize) -> Option<Duration> {
        let Some(bottleneck @ Bottleneck { rate, .. }) = self.params.bottleneck else {
            return Some(now);
        };
        let begins = self.idle_from.max(now);
        if begins - now > bottleneck.longest_wait() {
            return None;
        }
        self.idle_from = begins + rate.time(length as u64);
        Some(self.idle_from)
    }
}

impl Dice {
    /// Always the same number of draws, so that no parameter moves the dice of later packets.
    fn throw(source: &mut ChaCha8Rng) -> Self {
        let mut draw = || source.next_u64();
        Self { burst: draw(), loss: draw(), jitter: draw(), reorder: draw(), duplicate: draw() }
    }
}

impl Chance {
    fn happens(self, die: u64) -> bool {
        share(die) < self.get()
    }
}

/// From 0 to just below 1.
fn share(die: u64) -> f64 {
    // The upper 53 bits are what a float holds exactly.
    (die >> 11) as f64 / (1u64 << 53) as f64
}
