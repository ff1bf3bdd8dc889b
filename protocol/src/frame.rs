//! Frames: varint length, varint type, body.
//!
//! The length counts the type and the body. It is checked before anything is buffered.
//!
//! After the last field of a body may come extensions, see [`crate::extension`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Code,
    extension::{self, Extension},
    varint,
};

/// A message that is sent as one frame.
pub trait Message: Serialize {
    /// The type number, fixed for ever. Even: must be understood. Odd: may be skipped.
    const TYPE: u64;
}

/// Assigns type numbers to messages.
macro_rules! types {
    ($($name:ty = $number:literal;)*) => { $(impl $crate::frame::Message for $name { const TYPE: u64 = $number; })* };
}
pub(crate) use types;

/// One frame, borrowed from the bytes it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type number.
    pub kind: u64,
    /// The body, in postcard.
    pub body: &'a [u8],
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// What the frame claims.
        length: u64,
        /// What is allowed.
        limit: usize,
    },
    /// A varint that is too long, or a length too small for the type.
    #[error("the frame header is malformed")]
    Malformed,
}

/// Why a frame's body is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body does not parse, or breaks a bound.
    #[error("the body of a frame of type {0:#x} is malformed")]
    Malformed(u64),
    /// An unknown extension with an even id, in a message of this type.
    #[error("a frame of type {0:#x} has an unknown extension that must not be skipped")]
    UnknownExtension(u64),
    /// An unknown even type.
    #[error("the frame type {0:#x} is unknown and must not be skipped")]
    UnknownType(u64),
    /// A type that only the other side sends, or that is for datagrams.
    #[error("a frame of type {0:#x} has no place here")]
    Unexpected(u64),
}

impl From<varint::TooLong> for FrameError {
    fn from(_: varint::TooLong) -> Self {
        Self::Malformed
    }
}

impl FrameError {
    /// The code to close with.
    pub fn code(self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::FRAME_TOO_LARGE,
            Self::Malformed => Code::MALFORMED,
        }
    }
}

impl DecodeError {
    /// The code to close with.
    pub fn code(self) -> Code {
        match self {
            Self::Malformed(_) => Code::MALFORMED,
            Self::UnknownExtension(_) => Code::UNKNOWN_EXTENSION,
            Self::UnknownType(_) => Code::UNKNOWN_TYPE,
            Self::Unexpected(_) => Code::UNEXPECTED,
        }
    }
}

/// Parses the first frame of `buffer`: the frame and its length in bytes, or `None` while it is incomplete.
///
/// # Errors
/// If the header is malformed or the length is over the limit, even before the body has arrived.
pub fn split(buffer: &[u8], limit: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, head)) = varint::read(buffer)? else { return Ok(None) };
    if length > limit as u64 {
        return Err(FrameError::TooLarge { length, limit });
    }
    let end = head + length as usize;
    if buffer.len() < end {
        return Ok(None);
    }
    let inner = &buffer[head..end];
    Ok(Some((from_datagram(inner)?, end)))
}

/// Decodes a body. Extensions that may be skipped are skipped.
///
/// # Errors
/// If the body or its extensions are malformed, or an extension must be understood.
pub fn decode<'a, M: Message + Deserialize<'a>>(body: &'a [u8]) -> Result<M, DecodeError> {
    let (message, rest) = postcard::take_from_bytes::<M>(body).map_err(|_| DecodeError::Malformed(M::TYPE))?;
    for extension in extension::read(rest) {
        match extension {
            Some(extension) if extension.id.is_multiple_of(2) => return Err(DecodeError::UnknownExtension(M::TYPE)),
            Some(_) => {}
            None => return Err(DecodeError::Malformed(M::TYPE)),
        }
    }
    Ok(message)
}

/// The first varint of a body. Every command with a send number begins with that number, known to this crate or not.
pub fn first_varint(body: &[u8]) -> Option<u64> {
    varint::read(body).ok().flatten().map(|(value, _)| value)
}

/// Appends a message as a frame.
///
/// # Panics
/// If the message cannot be serialised. All types of this crate can be.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    encode_extended(message, &[], out);
}

/// Appends a message with extensions as a frame.
///
/// # Panics
/// As [`encode`].
pub fn encode_extended<M: Message>(message: &M, extensions: &[Extension<'_>], out: &mut Vec<u8>) {
    let body = |body| postcard::to_extend(message, body).expect("plain data serialises into a Vec");
    encode_as(M::TYPE, out, |out| {
        *out = body(std::mem::take(out));
        extensions.iter().for_each(|extension| extension.write(out));
    });
}

/// Appends a frame of any type, whose body `write` appends.
pub(crate) fn encode_as(kind: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    varint::write(kind, out);
    write(out);
    let length = out.len() - start;
    let mut head = Vec::with_capacity(3);
    varint::write(length as u64, &mut head);
    out.resize(out.len() + head.len(), 0);
    out.copy_within(start..start + length, start + head.len());
    out[start..start + head.len()].copy_from_slice(&head);
}

/// A message as a frame in its own allocation.
pub fn to_bytes<M: Message>(message: &M) -> Bytes {
    let mut out = Vec::with_capacity(128);
    encode(message, &mut out);
    Bytes::copy_from_slice(&out)
}

/// A message as the content of a QUIC datagram: type and body, without the length.
///
/// # Panics
/// If the message cannot be serialised. All types of this crate can be.
pub fn to_datagram<M: Message>(message: &M) -> Bytes {
    let mut out = Vec::with_capacity(128);
    varint::write(M::TYPE, &mut out);
    postcard::to_extend(message, out).expect("plain data serialises into a Vec").into()
}

/// Reads the content of a QUIC datagram as a frame.
///
/// # Errors
/// If the type is missing or malformed.
pub fn from_datagram(datagram: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (kind, at) = varint::read(datagram)?.ok_or(FrameError::Malformed)?;
    Ok(Frame { kind, body: &datagram[at..] })
}
