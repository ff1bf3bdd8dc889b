//! Splits the bytes of a stream into frames.

use bytes::{Buf, Bytes, BytesMut};
use quip_protocol::{ToClient, frame, limit};

use super::Broken;

/// Received bytes that are not decoded yet. The stream is not read while a complete frame is buffered, so that the buffer
/// holds at most one frame and one chunk.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: BytesMut,
}

impl Buffer {
    /// Appends a chunk.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if self.bytes.is_empty() {
            // Usually the only reference, so that nothing is copied.
            self.bytes = chunk.into();
        } else {
            self.bytes.extend_from_slice(&chunk);
        }
    }

    /// Passes every complete frame to `each`, until it returns false or fails. Skips frames of unknown odd types.
    pub(super) fn drain<E: From<Broken>>(
        &mut self,
        mut each: impl FnMut(ToClient<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        loop {
            let Some((frame, used)) = frame::split(&self.bytes, limit::FRAME).map_err(Broken::from)? else {
                return Ok(());
            };
            let go_on = match ToClient::decode(frame).map_err(Broken::from)? {
                Some(message) => each(message)?,
                None => true,
            };
            self.bytes.advance(used);
            if !go_on {
                return Ok(());
            }
        }
    }

    /// Whether a stream that ends here ends inside a frame. Whole frames may be left that nobody wants any more.
    pub(super) fn is_partial(&self) -> bool {
        let mut rest = &self.bytes[..];
        while let Ok(Some((_, used))) = frame::split(rest, limit::FRAME) {
            rest = &rest[used..];
        }
        !rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use quip_protocol::{conversation::Ack, frame::to_bytes};

    use super::*;

    fn frames(buffer: &mut Buffer, most: usize) -> Vec<u64> {
        let mut found = Vec::new();
        let each = |message: ToClient<'_>| {
            if let ToClient::Ack(ack) = message {
                found.push(ack.n);
            }
            Ok::<_, Broken>(found.len() < most)
        };
        buffer.drain(each).expect("good frames");
        found
    }

    #[test]
    fn frames_come_whole_however_the_bytes_are_cut() {
        let ack = |n| to_bytes(&Ack { n, seq: 300, number: 2, at: 3 });
        let all: Vec<u8> = (1..=5).flat_map(ack).collect();
        for cut in 0..=all.len() {
            let mut buffer = Buffer::default();
            buffer.push(Bytes::copy_from_slice(&all[..cut]));
            let mut found = frames(&mut buffer, usize::MAX);
            buffer.push(Bytes::copy_from_slice(&all[cut..]));
            found.extend(frames(&mut buffer, usize::MAX));
            assert_eq!(found, [1, 2, 3, 4, 5], "cut at {cut}");
            assert!(!buffer.is_partial());
        }
    }

    #[test]
    fn draining_stops_when_told_and_goes_on_later() {
        let mut buffer = Buffer::default();
        (1..=5).for_each(|n| buffer.push(to_bytes(&Ack { n, seq: 1, number: 1, at: 1 })));
        assert_eq!(frames(&mut buffer, 2), [1, 2]);
        assert_eq!(frames(&mut buffer, 2), [3, 4]);
        assert_eq!(frames(&mut buffer, 2), [5]);
    }

    #[test]
    fn whole_frames_that_are_left_are_not_a_part_of_one() {
        let mut buffer = Buffer::default();
        let frame = to_bytes(&Ack { n: 1, seq: 1, number: 1, at: 1 });
        assert!(!buffer.is_partial());
        buffer.push(frame.clone());
        buffer.push(frame.clone());
        assert!(!buffer.is_partial());
        buffer.push(frame.slice(..frame.len() - 1));
        assert!(buffer.is_partial());
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_head() {
        let mut buffer = Buffer::default();
        buffer.push(Bytes::from_static(&[0xff, 0xff, 0x7f]));
        assert!(buffer.drain(|_| Ok::<_, Broken>(true)).is_err());
    }
}
