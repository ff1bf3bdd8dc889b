//! The whole system in virtual time: real clients of the library over real QUIC, the real relay, a bad network, crashes at
//! any step, all by one seed.
//!
//! [`net`] is the network and [`host`] what a process runs on. [`world`] plays and writes a [`history`]; [`check`] judges the
//! history by the promises of the design, with [`truth`] as what was decided in each of the relay's [`logs`]. [`plant`] names
//! faults that a run pretends, to test the checker.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

pub mod check;
pub mod crypto;
pub mod history;
pub mod host;
pub mod identity;
pub mod logs;
pub mod net;
pub mod plant;
pub mod runs;
pub mod trace;
pub mod truth;
pub mod watch;
pub mod world;
