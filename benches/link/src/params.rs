//! What a link does to packets: typed, checked, and readable from a command line.

use std::time::Duration;

/// The longest delay, jitter or holding back that a link takes.
pub const LONGEST: Duration = Duration::from_secs(10);
/// The queue before a bottleneck unless another is asked for.
pub const QUEUE: Queue = Queue::Time(Duration::from_millis(50));
/// How far a reordered packet is held back unless something else is asked for.
pub const HELD_BACK: Duration = Duration::from_millis(5);

/// One direction of a link. The default changes nothing.
///
/// A packet passes these in turn: the bottleneck and its queue, loss, delay with jitter, holding back,
/// duplication. A packet that is lost on the way has used the bottleneck.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// From the end of the packet's transmission to its delivery.
    pub delay: Duration,
    /// Evenly distributed between `delay - jitter` and `delay + jitter`. It changes no order: a packet
    /// waits for those before it, as in a queue, so that dense traffic sees more of the upper half.
    pub jitter: Duration,
    /// Chance of each packet to be lost while there is no burst, independent of all others.
    pub loss: Chance,
    /// Loss that comes in bursts.
    pub burst: Option<Burst>,
    /// Packets that arrive behind later ones.
    pub reorder: Option<Reorder>,
    /// Chance of each delivered packet to be delivered a second time, right behind the first.
    pub duplicate: Chance,
    /// The narrowest place of the way.
    pub bottleneck: Option<Bottleneck>,
}

/// Loss after Gilbert and Elliott: before each packet the link may change between good and bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Chance to turn bad before a packet. A link is bad for `enter / (enter + leave)` of all packets.
    pub enter: Chance,
    /// Chance to turn good again. A burst is `1 / leave` packets long on average.
    pub leave: Chance,
    /// Chance of a packet to be lost while the link is bad.
    pub loss: Chance,
}

/// Packets that are held back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Chance of each packet to be held back.
    pub chance: Chance,
    /// How much later it is delivered.
    pub by: Duration,
}

/// A transmitter that sends one packet after the other, and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bottleneck {
    /// How fast it sends.
    pub rate: Rate,
    /// What may wait; a packet for which there is no room is dropped.
    pub queue: Queue,
}

/// Bits of IP packets per second.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord)]
pub struct Rate(u64);

/// Room before a bottleneck. A packet that waits for nobody is always taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Bytes of IP packets that wait or are being sent.
    Bytes(u64),
    /// How long the last packet of a full queue waits.
    Time(Duration),
}

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Chance(f64);

/// Why parameters make no link.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// Not a probability.
    #[error("{0} is not a chance: expected 0 to 1, or 0% to 100%")]
    Chance(f64),
    /// Packets would arrive before they are sent.
    #[error("a jitter of {jitter:?} exceeds the one-way delay of {delay:?}, half of the round trip")]
    Jitter {
        /// What was asked for.
        jitter: Duration,
        /// The delay beside it.
        delay: Duration,
    },
    /// Beyond [`LONGEST`].
    #[error("{what} of {value:?} exceeds {LONGEST:?}")]
    Long {
        /// Which parameter.
        what: &'static str,
        /// What was asked for.
        value: Duration,
    },
    /// A burst that never ends.
    #[error("the chance to leave a burst must be above 0")]
    Endless,
    /// Outside what [`Rate::new`] takes.
    #[error("{0} bit/s is not a rate: expected {min} to {max} bit/s", min = Rate::MIN, max = Rate::MAX)]
    Rate(u64),
    /// Text that is not what it should be.
    #[error("{text:?} is not {wanted}")]
    Text {
        /// What was read.
        text: String,
        /// What it should look like.
        wanted: &'static str,
    },
}

impl Params {
    /// Says what is wrong with the parameters, if anything.
    ///
    /// # Errors
    /// With the first parameter that makes no link.
    pub fn check(&self) -> Result<(), ParamsError> {
        let held_back = self.reorder.map_or(Duration::ZERO, |reorder| reorder.by);
        for (what, value) in [("a delay", self.delay), ("a jitter", self.jitter), ("holding back", held_back)] {
            if value > LONGEST {
                return Err(ParamsError::Long { what, value });
            }
        }
        if let Some(Bottleneck { queue: Queue::Time(value), .. }) = self.bottleneck
            && value > LONGEST
        {
            return Err(ParamsError::Long { what: "a queue", value });
        }
        if self.jitter > self.delay {
            return Err(ParamsError::Jitter { jitter: self.jitter, delay: self.delay });
        }
        if self.burst.is_some_and(|burst| burst.leave == Chance::NEVER) {
            return Err(ParamsError::Endless);
        }
        Ok(())
    }

    /// The share of packets that are lost in the long run, without what a full queue drops.
    pub fn mean_loss(&self) -> f64 {
        let Some(Burst { enter, leave, loss }) = self.burst else {
            return self.loss.get();
        };
        let bad = enter.get() / (enter.get() + leave.get());
        bad * loss.get() + (1.0 - bad) * self.loss.get()
    }
}

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0.0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1.0);

    /// A share from 0 to 1.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(share: f64) -> Result<Self, ParamsError> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(ParamsError::Chance(share)) }
    }

    /// From 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Rate {
    /// The lowest rate in bit/s.
    pub const MIN: u64 = 1_000;
    /// The highest rate in bit/s.
    pub const MAX: u64 = 100_000_000_000;

    /// Bits per second.
    ///
    /// # Errors
    /// When it is below [`Rate::MIN`] or above [`Rate::MAX`].
    pub fn new(bits: u64) -> Result<Self, ParamsError> {
        if (Self::MIN..=Self::MAX).contains(&bits) { Ok(Self(bits)) } else { Err(ParamsError::Rate(bits)) }
    }

    /// Bits per second.
    pub fn get(self) -> u64 {
        self.0
    }

    /// How long a transmitter of this rate is busy with `bytes`.
    pub fn time(self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(u128::from(self.0));
        Duration::from_nanos(nanos as u64)
    }
}

impl Bottleneck {
    /// How long a packet waits at most before its transmission begins.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self.queue {
            Queue::Time(time) => time,
            Queue::Bytes(bytes) => self.rate.time(bytes),
        }
    }
}
