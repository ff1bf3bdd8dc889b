//! The sequencer and the view together, from outside.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod expired;
mod harness;
mod log;
mod once;
mod pages;
mod readers;
mod seen;
mod sequencer;
mod trims;
