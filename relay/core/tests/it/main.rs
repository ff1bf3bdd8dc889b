//! The fold and its rows, seen from outside.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cases;
mod commands;
mod edits;
mod interleaved;
mod model;
mod random;
mod reactions;
mod roles;
mod sends;
mod world;
