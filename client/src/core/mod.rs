//! What a conversation does, decided without IO: frames, commands and time go in; frames, events for the app and changes to
//! keep come out.
//!
//! * [`outbox`] holds the commands without an answer and their numbers;
//! * [`delivery`] holds the cursor and the events that wait for the app;
//! * [`conversation`] joins both to one stream after another;
//! * [`frames`] reads and renumbers stored commands.

mod conversation;
mod delivery;
mod frames;
mod outbox;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub(crate) use conversation::{Core, Next, Setup};
pub(crate) use outbox::Ticket;

/// What a relay must never send; the connection is closed with `UNEXPECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) &'static str);
