//! The sequencer and the view together, from outside.

mod fixture;
mod harness;
mod once;
mod pages;
mod readers;
mod sequencer;
mod trims;
