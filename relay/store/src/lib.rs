//! The view: everything that was accepted, in an embedded store, and the one thread that writes it.
//!
//! [`Store::open`] opens a folder. A [`Sequencer`] takes commands from an order, folds them, tells every [`Sink`] and writes
//! them. A [`View`] reads what sinks were told, on the threads of [`Readers`] where one may not wait for the disk.
//!
//! Nothing but the sequencer writes. The order makes commands durable; the view follows at its checkpoints, and what it lost in
//! between is folded again.

// Nobody may be reading either; the log goes through a queue.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod announced;
mod committed;
mod engine;
mod error;
mod expired;
mod folder;
mod list;
mod meta;
mod read;
mod readers;
mod sequencer;
mod store;
mod view;

pub use committed::{Change, Committed, Sink};
pub use engine::MemoryDisk;
pub use error::{EngineError, OpenError, ReadError};
pub use expired::Expired;
pub use readers::{Busy, Job, Readers, ReadersConfig};
pub use sequencer::{Sequencer, SequencerConfig, SequencerError, Step};
pub use store::{Store, StoreConfig};
pub use view::{Direction, EventPage, List, Listed, Members, PageLimit, View};
