//! quip-relay
pub mod config;
