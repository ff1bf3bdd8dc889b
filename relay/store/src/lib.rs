//! The view: everything that was committed, in an embedded store, and the one thread that writes it.
//!
//! [`Store::open`] opens a folder, [`Sequencer`] takes commands from an order, folds and commits them and tells every
//! [`Sink`]; [`View`] reads what is committed, on [`Readers`]' threads where the caller may not wait for the disk.

mod committed;
mod error;
mod readers;
mod sequencer;
mod store;
mod view;

pub use committed::{Change, Committed, Sink};
pub use error::{OpenError, ReadError};
pub use readers::{Busy, Job, Readers, ReadersConfig};
pub use sequencer::{Sequencer, SequencerConfig, SequencerError};
pub use store::{Store, StoreConfig};
pub use view::{Direction, List, Listed, Members, Page, PageLimit, View};
