//! Frames of the bare forwarder: one byte of length, then the payload.

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};

use crate::load::PAYLOAD;

pub(super) const ALPN: &[u8] = b"quip-bare";
/// A length byte and the payload.
pub(super) const FRAME: usize = 1 + PAYLOAD;
/// What the server sends once it has read a stream's header.
pub(super) const READY: u8 = 1;

/// What a stream is for: its first five bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Sends; the server forwards to every receiver of the same pair.
    Sender(u32),
    /// Receives what the sender of the pair sends; it comes before the sender, and there may be many.
    Receiver(u32),
    /// Sends; the server answers every frame with a frame of `ACK` bytes.
    Ingest,
}

/// Payload of the server's answer to an ingested frame: about the size of an acknowledgement.
pub(super) const ACK: usize = 8;

impl Role {
    pub(super) const LEN: usize = 5;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let (kind, pair) = match self {
            Self::Sender(pair) => (0, pair),
            Self::Receiver(pair) => (1, pair),
            Self::Ingest => (2, 0),
        };
        let [a, b, c, d] = pair.to_be_bytes();
        [kind, a, b, c, d]
    }

    pub(super) fn decode([kind, a, b, c, d]: [u8; Self::LEN]) -> Result<Self> {
        let pair = u32::from_be_bytes([a, b, c, d]);
        match kind {
            0 => Ok(Self::Sender(pair)),
            1 => Ok(Self::Receiver(pair)),
            2 => Ok(Self::Ingest),
            other => bail!("unknown role {other}"),
        }
    }
}

pub(super) fn frame(payload: &[u8; PAYLOAD]) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[0] = PAYLOAD as u8;
    frame[1..].copy_from_slice(payload);
    frame
}

/// Cuts chunks of a stream into frames; whole frames are slices of their chunk.
#[derive(Default)]
pub(super) struct Splitter(BytesMut);

impl Splitter {
    /// Appends the frames that `chunk` completes, each with its length byte.
    pub(super) fn push(&mut self, mut chunk: Bytes, frames: &mut Vec<Bytes>) -> Result<()> {
        if !self.0.is_empty() {
            let missing = (1 + usize::from(self.0[0])) - self.0.len();
            self.0.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
            if missing > 0 && self.0.len() < 1 + usize::from(self.0[0]) {
                return Ok(());
            }
            frames.push(self.0.split().freeze());
        }
        while let Some(&length) = chunk.first() {
            ensure!(length > 0, "an empty frame");
            let end = 1 + usize::from(length);
            if chunk.len() < end {
                self.0.extend_from_slice(&chunk);
                break;
            }
            frames.push(chunk.split_to(end));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let frames: Vec<[u8; FRAME]> = (0..3).map(|byte| frame(&[byte; PAYLOAD])).collect();
        let bytes = Bytes::from(frames.concat());
        for size in 1..=bytes.len() {
            let (mut splitter, mut found) = (Splitter::default(), Vec::new());
            for start in (0..bytes.len()).step_by(size) {
                let chunk = bytes.slice(start..bytes.len().min(start + size));
                splitter.push(chunk, &mut found).unwrap();
            }
            assert_eq!(
                found,
                frames.iter().map(|f| Bytes::copy_from_slice(f)).collect::<Vec<_>>(),
                "cut into chunks of {size}"
            );
        }
    }

    #[test]
    fn roles_round_trip() {
        for role in [Role::Sender(7), Role::Receiver(u32::MAX), Role::Ingest] {
            assert_eq!(Role::decode(role.encode()).unwrap(), role);
        }
        assert!(Role::decode([9, 0, 0, 0, 0]).is_err());
    }
}
