//! The pure heart of the relay: commands go in, rows and events come out.
//!
//! Nothing here reads a clock, draws a random number or does IO. [`keys()`] names the few rows that a
//! [`Command`] needs, from its own fields alone; [`fold()`] decides it.

mod codec;
pub mod command;
pub mod fold;
pub mod row;

pub use command::{Action, Authority, By, Command, CommandError, JoinAs, NO_CONVERSATION};
pub use fold::{Changed, Effect, Folded, Keys, NewEvent, Rows, fold, keys};
pub use row::{
    ConversationRow, EditsRow, EventRow, MarkRow, MemberRow, MemberState, Naming, Origin, Policy, Recorded, RowError,
    SendsRow, UserRow,
};

/// Milliseconds since the Unix epoch.
pub type Timestamp = u64;
