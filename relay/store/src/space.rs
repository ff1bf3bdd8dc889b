//! The keyspaces, one for each kind of record.

use std::ops::RangeBounds;

use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot, UserValue};
use quip_core::RowError;

use crate::ReadError;

macro_rules! spaces {
    ($($(#[$attribute:meta])* $name:ident: $what:literal,)*) => {
        /// Every keyspace of a store.
        pub(crate) struct Spaces {
            $(#[doc = $what] $(#[$attribute])* pub(crate) $name: Space,)*
            /// Bytes of a memtable before it is flushed, as far as that is known: at least so many.
            memtable: u64,
        }

        impl Spaces {
            /// Their names.
            pub(crate) const NAMES: &[&'static str] = &[$(stringify!($name)),*];

            /// Opens them; those that are missing are created with memtables of so many bytes, and keep those.
            pub(crate) fn open(database: &Database, memtable: u64) -> Result<Self, fjall::Error> {
                Ok(Self { $($name: Space::open(database, stringify!($name), memtable)?,)* memtable })
            }

            /// Whether the engine may flush rows before it syncs them, if so many bytes are written now: it flushes whatever
            /// is sealed when it comes to that, and syncs its journal some time before.
            pub(crate) fn may_flush(&self, bytes: u64) -> bool {
                self.handles().any(|handle| {
                    let full = handle.tree.active_memtable().size() + bytes > self.memtable;
                    full || handle.tree.sealed_memtable_count() > 0
                })
            }

            /// Those of the engine.
            pub(crate) fn handles(&self) -> impl Iterator<Item = &Keyspace> {
                [$(&self.$name.handle),*].into_iter()
            }
        }
    };
}

spaces! {
    events: "What conversations are made of.",
    edits: "Where the edits of each message are.",
    conversations: "Their heads.",
    members: "Who is, was, or must not be in them.",
    members_by_user: "The present memberships again, by user.",
    sends: "Which commands of which device were decided, and how.",
    marks: "How far users have read.",
    users: "When users were last seen.",
    meta: "Format, generation, position in the log.",
    local: "What only this store knows; never in dumps.",
}

/// One keyspace.
pub(crate) struct Space {
    pub(crate) name: &'static str,
    pub(crate) handle: Keyspace,
}

impl Space {
    fn open(database: &Database, name: &'static str, memtable: u64) -> Result<Self, fjall::Error> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true);
        Ok(Self { name, handle: database.keyspace(name, options)? })
    }

    /// The record as it was when the snapshot was taken.
    pub(crate) fn get<T>(&self, at: &Snapshot, key: &[u8], read: Decode<T>) -> Result<Option<T>, ReadError> {
        self.decoded(key, at.get(&self.handle, key), read)
    }

    /// The records in a range of keys; `first` names the range in errors.
    pub(crate) fn range<'a, R: RangeBounds<&'a [u8]>>(
        &self,
        at: &Snapshot,
        first: &'a [u8],
        range: R,
    ) -> impl DoubleEndedIterator<Item = Result<fjall::KvPair, ReadError>> + use<'a, R> {
        let name = self.name;
        at.range(&self.handle, range)
            .map(move |record| record.into_inner().map_err(|error| ReadError::engine(name, first, error)))
    }

    /// A damaged record of this keyspace.
    pub(crate) fn damaged(&self, key: &[u8], why: impl ToString) -> ReadError {
        ReadError::damaged(self.name, key, why)
    }

    fn decoded<T>(
        &self,
        key: &[u8],
        value: fjall::Result<Option<UserValue>>,
        read: Decode<T>,
    ) -> Result<Option<T>, ReadError> {
        let value = value.map_err(|error| ReadError::engine(self.name, key, error))?;
        value.map(|value| read(&value).map_err(|error| self.damaged(key, error))).transpose()
    }
}

/// Reads a row.
type Decode<T> = fn(&[u8]) -> Result<T, RowError>;
