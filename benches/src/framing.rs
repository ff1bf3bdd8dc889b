//! The overhead of the protocol, counted from frames on a stream.

use crate::report::Sample;

/// Bytes of frames on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Framing {
    frames: u64,
    bytes: usize,
    /// Bytes of content.
    content: usize,
    /// Bytes of senders' ids.
    sender: usize,
}

impl Framing {
    /// Counts a frame, given its bytes and those of the content and the sender's id in it.
    pub(crate) fn count(&mut self, frame: usize, content: usize, sender: usize) {
        assert!(content + sender < frame, "a frame holds its content and more");
        *self = [*self, Self { frames: 1, bytes: frame, content, sender }].into_iter().sum();
    }

    /// Adds the mean of bytes that are neither content nor the sender's id, if frames were counted.
    pub(crate) fn add_to(&self, sample: &mut Sample, metric: &'static str) {
        if self.frames > 0 {
            sample.push(metric, (self.bytes - self.content - self.sender) as f64 / self.frames as f64);
        }
    }

    /// Adds the mean length of the sender's id, if frames were counted.
    pub(crate) fn add_sender_to(&self, sample: &mut Sample, metric: &'static str) {
        if self.frames > 0 {
            sample.push(metric, self.sender as f64 / self.frames as f64);
        }
    }
}

impl std::iter::Sum for Framing {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            frames: sum.frames + one.frames,
            bytes: sum.bytes + one.bytes,
            content: sum.content + one.content,
            sender: sum.sender + one.sender,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_what_is_neither_content_nor_sender() {
        let mut framing = Framing::default();
        framing.count(60, 32, 8);
        framing.count(50, 32, 4);
        let mut sample = Sample::default();
        framing.add_to(&mut sample, "framing");
        framing.add_sender_to(&mut sample, "sender");
        assert_eq!((sample.get("framing"), sample.get("sender")), (Some(17.0), Some(6.0)));
        let mut none = Sample::default();
        Framing::default().add_to(&mut none, "framing");
        assert_eq!(none.get("framing"), None);
    }
}
