//! quip-tests

pub mod disk;
pub mod power;
