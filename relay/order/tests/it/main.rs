//! The contract of an order, run against every engine, and what each engine promises beyond it.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod embedded;
mod faulty;
mod suite;
