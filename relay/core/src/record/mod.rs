//! What the fold reads and writes: records, each under its key. Every kind has a file of its own with its key, its value, their
//! bytes and the tests of these.
//!
//! A key begins with the number of its kind. Then follows the **slot** of the conversation or user that the record is of: u16 =
//! the first two bytes of BLAKE3 of the id as a big-endian number, modulo [`SLOTS`]. A slot is what can be dumped or given to
//! another partition by itself. Numbers in keys are big-endian, so that keys sort by them. A value begins with a version byte.
//! Kinds from 128 on are of one store and do not follow from the log.

mod conversation;
mod edits;
mod event;
mod kind;
mod mark;
mod member;
mod membership;
mod sends;
mod trim;
mod user;

use thiserror::Error;

pub use self::{
    conversation::{ConversationKey, ConversationRecord, Naming, Policy},
    edits::{EditsKey, EditsRecord, Origin},
    event::{EventKey, EventRecord},
    kind::{Kind, Part, Stored, StoredKey, behind},
    mark::{MarkKey, MarkRecord},
    member::{MemberKey, MemberRecord, MemberState},
    membership::{MembershipKey, MembershipRecord},
    sends::{Recorded, SendsKey, SendsRecord},
    trim::{TrimKey, TrimRecord},
    user::{UserKey, UserRecord},
};

/// How many slots there are.
pub const SLOTS: u16 = 4096;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $number:literal $label:literal $name:ident: $key:ident => $record:ident,)*) => {
        /// What a record lies under.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Key {
            $($(#[doc = $doc])* $name($key),)*
        }

        /// A record of any kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Record {
            $($(#[doc = $doc])* $name($record),)*
        }

        $(impl From<$key> for Key {
            fn from(key: $key) -> Self {
                Self::$name(key)
            }
        }

        impl From<$record> for Record {
            fn from(record: $record) -> Self {
                Self::$name(record)
            }
        }

        impl Kind for $record {
            type Key = $key;
            const NUMBER: u8 = $number;
            const NAME: &'static str = $label;

            fn of(record: Record) -> Option<Self> {
                match record {
                    Record::$name(record) => Some(record),
                    _ => None,
                }
            }
        })*

        impl Key {
            /// The key as it is stored; what the keys of its parts begin with, of a record in parts.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(key) => <$record>::key(key),)*
                }
            }

            /// What its kind is called in messages.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$record as Kind>::NAME,)*
                }
            }

            /// Whether its record is stored in parts, each under a key of its own.
            pub fn is_in_parts(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$record as Stored>::PARTS,)*
                }
            }

            /// Reads the record that lies under it, from its value or the values of its parts.
            ///
            /// # Errors
            /// When they are not what was written.
            pub fn decode(&self, values: &[impl AsRef<[u8]>]) -> Result<Option<Record>, RecordError> {
                match self {
                    $(Self::$name(_) => kind::join::<$record>(values).map(|record| record.map(Record::$name)),)*
                }
            }
        }

        impl Record {
            /// Writes the record as it is stored: mostly one key and value.
            pub fn encode(&self, key: &Key, changes: u64, mut write: impl FnMut(&[u8], &[u8])) {
                match (key, self) {
                    $((Key::$name(key), Self::$name(record)) => record.encode(key, changes, &mut write),)*
                    _ => unreachable!("a record lies under a key of its kind"),
                }
            }
        }
    };
}

kinds! {
    /// The head of a conversation.
    1 "conversation" Conversation: ConversationKey => ConversationRecord,
    /// An event.
    2 "event" Event: EventKey => EventRecord,
    /// Where the edits of a message are.
    3 "edits" Edits: EditsKey => EditsRecord,
    /// Who is, was, or must not be in a conversation.
    4 "member" Member: MemberKey => MemberRecord,
    /// A present membership again, by user.
    5 "membership" Membership: MembershipKey => MembershipRecord,
    /// Which commands of a device were decided, and how.
    6 "sends" Sends: SendsKey => SendsRecord,
    /// How far a user has read a conversation.
    7 "mark" Mark: MarkKey => MarkRecord,
    /// When a user was last seen.
    8 "user" User: UserKey => UserRecord,
    /// Events whose bytes are still to be deleted here.
    128 "trim" Trim: TrimKey => TrimRecord,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Written by a version of Quip that this one does not know.
    #[error("a {kind} record has version {version}, which this relay does not know; run the newer relay that wrote it")]
    UnknownVersion {
        /// Which kind of record.
        kind: &'static str,
        /// Its first byte.
        version: u8,
    },
    /// The bytes do not parse.
    #[error("a {kind} record is damaged; restore the store from a backup")]
    Malformed {
        /// Which kind of record.
        kind: &'static str,
    },
    /// The bytes parse and some are left over.
    #[error("a {kind} record is damaged ({left} bytes too many); restore the store from a backup")]
    Trailing {
        /// Which kind of record.
        kind: &'static str,
        /// How many.
        left: usize,
    },
    /// The parts of a record do not fit together.
    #[error("the parts of a {kind} record do not fit together; restore the store from a backup")]
    Parts {
        /// Which kind of record.
        kind: &'static str,
    },
}

#[cfg(test)]
mod tests;
