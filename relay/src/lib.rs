//! The relay: a QUIC endpoint before an ordered, durable log of conversations.
//!
//! Start with [`serve`], which puts the parts together; [`worker`] is the network side,
//! `quip_store` the sequencer and the view, `quip_core` the decisions.

pub mod auth;
pub mod config;
pub mod identity;
pub mod logging;
pub mod presence;
pub mod serve;
pub mod worker;
