//! The relay: a QUIC endpoint before an ordered, durable log of conversations.
//!
//! Start with [`serve`], which puts the parts together. [`net`] is QUIC, [`hub`] decides what happens with what arrives,
//! `quip_store` has the sequencer and the view, `quip_core` the fold.

pub mod auth;
pub mod config;
pub mod hub;
pub mod identity;
pub mod logging;
pub mod net;
pub mod serve;
