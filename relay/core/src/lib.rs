//! The pure heart of the relay: commands go in, record writes and events come out.
//!
//! Nothing here reads a clock, draws a random number or does IO. [`keys()`] names the few records that a
//! [`Command`] needs, from its own fields alone; [`fold()`] decides it.

mod codec;
pub mod command;
pub mod fold;
pub mod record;

pub use command::{Action, Authority, By, Command, CommandError, JoinAs, NO_CONVERSATION};
pub use fold::{Effect, Folded, Loaded, NewEvent, Write, fold, keys};
pub use record::{
    ConversationRecord, EditsRecord, EventRecord, Key, Kind, MarkRecord, MemberRecord, MemberState, Naming, Origin,
    Policy, Record, RecordError, Recorded, SendsRecord, UserRecord,
};

/// The version of what [`fold()`] decides. It goes up when the same commands on the same records come to something else: a log
/// that is not empty is folded again only by the version that folded it first.
pub const FOLD_VERSION: u64 = 1;

/// Milliseconds since the Unix epoch.
pub type Timestamp = u64;
