//! Rows as bytes: a version byte, then the fields in order. What is stored is pinned by golden bytes.

use bytes::Bytes;
use quip_protocol::limit;
use thiserror::Error;

use super::{
    ConversationRow, EditsRow, EventRow, MarkRow, MemberRow, MemberState, Naming, Policy, SendsRow, UserRow,
    edits_codec, sends_codec,
};
use crate::codec::{Malformed, Reader, Sink};

/// The version of every row, in its first byte.
pub const VERSION: u8 = 1;

/// What a conversation is called: the same numbers as `quip_protocol::Kind`.
const DIRECT: u8 = 1;
const GROUP: u8 = 2;
const ROOM: u8 = 3;

/// Why bytes are not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RowError {
    /// Written by a version of Quip that this one does not know.
    #[error("a stored {row} row has version {version}, this relay knows {VERSION}: run the newer relay that wrote it")]
    UnknownVersion {
        /// Which kind of row.
        row: &'static str,
        /// Its first byte.
        version: u8,
    },
    /// The bytes do not parse.
    #[error("a stored {row} row is damaged: restore the store from a backup or a peer")]
    Malformed {
        /// Which kind of row.
        row: &'static str,
    },
    /// The bytes parse and some are left over.
    #[error("a stored {row} row is damaged ({left} bytes too many): restore the store from a backup or a peer")]
    Trailing {
        /// Which kind of row.
        row: &'static str,
        /// How many.
        left: usize,
    },
}

/// Reads a versioned value that must be used up.
fn decode<'a, T>(
    row: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, RowError> {
    let mut reader = Reader::new(bytes);
    let malformed = |_| RowError::Malformed { row };
    match reader.u8().map_err(malformed)? {
        VERSION => {}
        version => return Err(RowError::UnknownVersion { row, version }),
    }
    let value = read(&mut reader).map_err(malformed)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(RowError::Trailing { row, left }),
    }
}

impl ConversationRow {
    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.put_u8(VERSION);
        for value in [self.created_at, self.head, self.number, self.first_kept, self.last_at, self.members, self.owners]
        {
            out.put_varint(value);
        }
        self.policy.put(&mut out);
        let (kind, texts) = match &self.naming {
            Naming::Direct(a, b) => (DIRECT, [a.as_str(), b.as_str()]),
            Naming::Group(title) => (GROUP, [title.as_str(), ""]),
            Naming::Room(name, title) => (ROOM, [name.as_str(), title.as_str()]),
        };
        out.put_u8(kind);
        for text in texts {
            out.put_blob(text.as_bytes());
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("conversation", bytes, |from| {
            Ok(Self {
                created_at: from.varint()?,
                head: from.varint()?,
                number: from.varint()?,
                first_kept: from.varint()?,
                last_at: from.varint()?,
                members: from.varint()?,
                owners: from.varint()?,
                policy: Policy::read(from)?,
                naming: Naming::read(from)?,
            })
        })
    }
}

impl Naming {
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            DIRECT => Ok(Self::Direct(from.user()?, from.user()?)),
            GROUP => {
                let title = from.text()?.to_owned();
                if from.blob()?.is_empty() { Ok(Self::Group(title)) } else { Err(Malformed) }
            }
            ROOM => Ok(Self::Room(from.text()?.to_owned(), from.text()?.to_owned())),
            _ => Err(Malformed),
        }
    }
}

impl Policy {
    pub(crate) fn put(self, out: &mut impl Sink) {
        out.put_u8(u8::from(self.history_open) | u8::from(self.joins_shown) << 1);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            bits @ 0..=3 => Ok(Self { history_open: bits & 1 != 0, joins_shown: bits & 2 != 0 }),
            _ => Err(Malformed),
        }
    }
}

impl MemberRow {
    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        out.put(&[VERSION, self.state as u8, self.role]);
        for value in [self.from, self.to, self.number, self.at] {
            out.put_varint(value);
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("member", bytes, |from| {
            Ok(Self {
                state: match from.u8()? {
                    1 => MemberState::Member,
                    2 => MemberState::Left,
                    3 => MemberState::Banned,
                    _ => return Err(Malformed),
                },
                role: from.u8()?,
                from: from.varint()?,
                to: from.varint()?,
                number: from.varint()?,
                at: from.varint()?,
            })
        })
    }
}

impl MarkRow {
    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21);
        out.put_u8(VERSION);
        out.put_varint(self.seq);
        out.put_varint(self.number);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("mark", bytes, |from| Ok(Self { seq: from.varint()?, number: from.varint()? }))
    }
}

impl UserRow {
    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(11);
        out.put_u8(VERSION);
        out.put_varint(self.seen);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("user", bytes, |from| Ok(Self { seen: from.varint()? }))
    }
}

impl EventRow {
    /// The row as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let user = self.user.as_str().as_bytes();
        let mut out = Vec::with_capacity(28 + user.len() + self.frame.len());
        out.put_u8(VERSION);
        out.put_blob(user);
        out.put(&self.device.0);
        out.put_varint(self.n);
        out.put(&self.frame);
        out
    }

    /// Reads what [`Self::encode`] wrote. The frame gets an allocation of its own.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("event", bytes, |from| {
            Ok(Self {
                user: from.user()?,
                device: from.device()?,
                n: from.varint()?,
                frame: Bytes::copy_from_slice(from.rest()),
            })
        })
    }

    /// The frame of a stored row, without reading more than it takes to find it.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn frame_of(bytes: &[u8]) -> Result<&[u8], RowError> {
        decode("event", bytes, |from| {
            from.blob()?;
            from.device()?;
            from.varint()?;
            Ok(from.rest())
        })
    }
}

impl EditsRow {
    /// The row as it is stored: about 10 bytes an edit.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.edits.len() * edits_codec::TYPICAL);
        out.put_u8(VERSION);
        out.put_varint(self.edits.len() as u64);
        edits_codec::put(&self.edits, &mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("edits", bytes, |from| {
            let count = usize::try_from(from.varint()?).map_err(|_| Malformed)?;
            if count > limit::EDITS {
                return Err(Malformed);
            }
            Ok(Self { edits: edits_codec::read(count, from)? })
        })
    }
}

impl SendsRow {
    /// A part as it is stored: about 13 bytes an outcome.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.latest.len() * sends_codec::TYPICAL);
        out.put_u8(VERSION);
        out.put_varint(self.last);
        out.put_varint(self.latest.len() as u64);
        sends_codec::put(&self.latest, &mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the version is not known, or the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        decode("sends", bytes, |from| {
            let last = from.varint()?;
            let count = from.varint()?;
            if count > limit::UNANSWERED.min(last) {
                return Err(Malformed);
            }
            Ok(Self { last, latest: sends_codec::read(count as usize, from)? })
        })
    }
}
