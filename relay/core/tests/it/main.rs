//! The fold and its rows, seen from outside.

mod cases;
mod commands;
mod interleaved;
mod model;
mod random;
mod roles;
mod rows;
mod sends;
mod world;
