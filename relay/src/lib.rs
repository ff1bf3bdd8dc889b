//! The relay: a QUIC endpoint before an ordered, durable log of conversations.
//!
//! Start with [`serve`], which puts the parts together. [`net`] is QUIC, [`hub`] decides what happens with what arrives,
//! `quip_store` has the sequencer and the view, `quip_core` the fold.

// Nobody may be reading either; the log goes through a queue.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod auth;
pub mod config;
pub mod hub;
pub mod identity;
pub mod logging;
pub mod net;
pub mod restore;
pub mod serve;
pub mod shutdown;
mod signals;
