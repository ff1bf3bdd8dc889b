//! A bad network on one machine: delay, jitter, loss alone and in bursts, reordering, duplication and a
//! bottleneck with a bounded queue, for UDP, TCP and whatever else IP carries, from a seed.
//!
//! Two network namespaces are joined by a thread that reads IP packets from a TUN device in one and writes
//! them to the other when they are due. What it does to a packet is decided by [`Wire`], which has no IO
//! and meets the same chance for the i-th packet of a direction in every link of the same seed. So all
//! systems that are measured over one seed meet the same pattern.
//!
//! ```no_run
//! use std::{net::UdpSocket, process::Command, time::Duration};
//!
//! use quip_link::{Direction, Link, Params};
//!
//! let params = Params { delay: Duration::from_millis(25), loss: "2%".parse()?, ..Params::default() };
//! let link = Link::start(&params, 1)?;
//! let server = link.far.spawn(Command::new("quip-relay").args(["serve", "--listen", "198.18.0.2:4433"]))?;
//! let socket = link.near.run(|| UdpSocket::bind((link.near.address(), 0)))??;
//! link.set(Direction::Up, &Params::default())?;
//! println!("{:?}", link.counts(Direction::Down)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//! * Linux only, and only root may start one. It uses `ip` of iproute2 once per side.
//! * The namespaces have no names and no way out: nothing of the machine's own network is touched, and
//!   the kernel removes both with the last process that uses them, even after SIGKILL. A process that was
//!   started in one outlives the link, but has a network without a device then.
//! * IPv4 only, packets up to 1,500 bytes, no segmentation offload: a packet here is one on the wire.
//! * Packets are handed over some 20 to 100 µs after they are due on an idle machine, later on a busy one;
//!   [`Counts::lateness`] says how much. Time before the thread reads a packet is in no figure of the
//!   link's own: `quip-bench link --check` measures it from outside.
//! * Loss in bursts advances with packets and not with time: on an idle line a burst lasts longer.

mod forward;
mod line;
mod link;
mod namespace;
mod params;
mod parse;
mod stats;
mod wire;

pub use line::UNDER_WAY;
pub use link::{Link, StartError, StatsError};
pub use namespace::Namespace;
pub use params::{Bottleneck, Burst, Chance, HELD_BACK, LONGEST, Params, ParamsError, QUEUE, Queue, Rate, Reorder};
pub use parse::duration;
pub use stats::{Counts, Lateness};
pub use wire::{Direction, Drop, Fate, Wire};
