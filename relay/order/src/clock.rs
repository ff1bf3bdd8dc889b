//! The wall clock, which comes from outside so that tests and the simulation can set it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use quip_core::Timestamp;

/// Reads the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}
