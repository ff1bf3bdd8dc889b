//! The view: everything that was committed, in an embedded store, and the one thread that writes it.
//!
//! [`Store::open`] opens a folder. A [`Sequencer`] takes commands from an order, folds them, commits them and tells
//! every [`Sink`]. A [`View`] reads what is committed, on the threads of [`Readers`] where one may not wait for the disk.
//!
//! Nothing but the sequencer writes. Commands are durable in a log before they are folded; the engine is synced later.

mod committed;
mod error;
mod folder;
mod journal;
mod keys;
mod list;
mod log;
mod manifest;
mod memtables;
mod readers;
mod sequencer;
mod space;
mod store;
mod view;

pub use committed::{Change, Committed, Sink};
pub use error::{OpenError, ReadError};
pub use log::LogError;
pub use readers::{Busy, Job, Readers, ReadersConfig};
pub use sequencer::{Sequencer, SequencerConfig, SequencerError};
pub use store::{Store, StoreConfig};
pub use view::{Direction, List, Listed, Members, Page, PageLimit, View};
