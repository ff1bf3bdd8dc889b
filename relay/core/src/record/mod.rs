//! Records, which the fold reads and writes, each under its key. Every kind has its own file with key, value, encoding and
//! tests.
//!
//! A key begins with the number of its kind. Then follows the **slot** of the record's conversation or user: u16 = the first
//! two bytes of BLAKE3 of the id as a big-endian number, modulo [`SLOTS`]. A slot is the smallest unit that can be dumped or
//! moved to another partition. Numbers in keys are big-endian, so that keys sort by them. A value begins with a version byte.
//! Kinds from 128 on are local to one store and do not follow from the log.

mod conversation;
mod edits;
mod event;
mod interval;
mod kind;
mod mark;
mod member;
mod membership;
mod reactions;
mod sends;
mod trim;
mod user;

use thiserror::Error;

pub(crate) use self::sends::check;
pub use self::{
    conversation::{ConversationKey, ConversationRecord, Naming, Policy},
    edits::{EditsKey, EditsRecord, Origin},
    event::{EventKey, EventRecord},
    interval::Interval,
    kind::{Kind, Part, Stored, StoredKey, behind},
    mark::{MarkKey, MarkRecord},
    member::{MemberKey, MemberRecord, MemberState, Parting},
    membership::{MembershipKey, MembershipRecord},
    reactions::{ReactionsKey, ReactionsRecord},
    sends::{Recorded, SendsKey, SendsRecord},
    trim::{TrimKey, TrimRecord},
    user::{UserKey, UserRecord},
};

/// Number of slots.
pub const SLOTS: u16 = 4096;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $number:literal $label:literal $name:ident: $key:ident => $record:ident,)*) => {
        /// The key of a record.
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
            /// The key as it is stored; for a record in parts, the prefix of their keys.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$name(key) => <$record>::key(key),)*
                }
            }

            /// The name of its kind in messages.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$record as Kind>::NAME,)*
                }
            }

            /// Whether its record is stored in parts, each under its own key.
            pub fn is_in_parts(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$record as Stored>::PARTS > 0,)*
                }
            }

            /// Every key that its record may be stored under.
            pub fn stored_keys(&self) -> Vec<Vec<u8>> {
                match self {
                    $(Self::$name(key) => <$record>::stored_keys(key),)*
                }
            }

            /// Reads the record of this key from its value or the values of its parts.
            ///
            /// # Errors
            /// If they are malformed.
            pub fn decode(&self, values: &[impl AsRef<[u8]>]) -> Result<Option<Record>, RecordError> {
                match self {
                    $(Self::$name(_) => kind::join::<$record>(values).map(|record| record.map(Record::$name)),)*
                }
            }
        }

        impl Record {
            /// Encodes the record: usually one key and value.
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
    /// The edits of a message.
    3 "edits" Edits: EditsKey => EditsRecord,
    /// A present, past or banned member of a conversation.
    4 "member" Member: MemberKey => MemberRecord,
    /// A present membership, by user.
    5 "membership" Membership: MembershipKey => MembershipRecord,
    /// The outcomes of a device's commands.
    6 "sends" Sends: SendsKey => SendsRecord,
    /// How far a user has read a conversation, and what they said behind that.
    7 "mark" Mark: MarkKey => MarkRecord,
    /// When a user was last seen.
    8 "user" User: UserKey => UserRecord,
    /// The reactions to a message.
    9 "reactions" Reactions: ReactionsKey => ReactionsRecord,
    /// Trimmed events still to be deleted from this store.
    128 "trim" Trim: TrimKey => TrimRecord,
}

/// Why a record could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Written by a newer version of Quip.
    #[error("a {kind} record has version {version}, which this relay does not know; run the newer relay that wrote it")]
    UnknownVersion {
        /// Which kind of record.
        kind: &'static str,
        /// Its first byte.
        version: u8,
    },
    /// The bytes do not parse.
    #[error("a {kind} record is damaged")]
    Malformed {
        /// Which kind of record.
        kind: &'static str,
    },
    /// Bytes are left over after the record.
    #[error("a {kind} record is damaged ({left} bytes too many)")]
    Trailing {
        /// Which kind of record.
        kind: &'static str,
        /// How many.
        left: usize,
    },
    /// The parts of a record do not fit together.
    #[error("the parts of a {kind} record do not fit together")]
    Parts {
        /// Which kind of record.
        kind: &'static str,
    },
}

#[cfg(test)]
mod tests;
