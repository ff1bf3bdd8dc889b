//! The pure core of the relay: commands go in, record writes and events come out.
//!
//! Nothing here reads a clock, uses randomness or does IO. [`keys()`] names the few records that a [`Command`] needs,
//! from its own fields alone; [`fold()`] decides it.

mod codec;
pub mod command;
pub mod fold;
pub mod record;

pub use command::{Action, Authority, By, Command, CommandError, JoinAs, NO_CONVERSATION};
pub use fold::{Effect, Folded, Loaded, NewEvent, Write, check, fold, keys};
pub use record::{
    ConversationRecord, EditsRecord, EventRecord, Interval, Key, Kind, MarkRecord, MemberRecord, MemberState, Naming,
    Origin, Parting, Policy, ReactionsRecord, Record, RecordError, Recorded, SendsRecord, UserRecord,
};

/// The version of the fold. It is incremented when the same commands on the same records get another result. A log that is not
/// empty is replayed only by the version that folded it first.
pub const FOLD_VERSION: u64 = 6;

/// Milliseconds since the Unix epoch.
pub type Timestamp = u64;
