//! The logic of a conversation, without IO: frames, commands and time go in; frames, events for the app and changes to save
//! come out.
//!
//! * [`outbox`] holds the unanswered commands and their numbers;
//! * [`delivery`] holds the cursor and the events queued for the app;
//! * [`conversation`] runs both over one stream after another;
//! * [`frames`] decodes and renumbers stored commands.

mod conversation;
mod delivery;
mod frames;
mod outbox;
#[cfg(test)]
mod tests;

pub(crate) use conversation::{Core, Next, Setup};
pub(crate) use outbox::Ticket;

/// A protocol violation by the relay; the connection is closed with `UNEXPECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) &'static str);
