//! Reserved numbers, which both sides send now and then so that nobody comes to rely on not meeting what they do not know.
//!
//! Of every 64 numbers the one that leaves 61 is reserved, as a frame type, an extension id, a feature id, a code and a kind
//! of signal. They are odd, mean nothing, and are skipped. The idea is RFC 8701's.

use crate::{extension::Extension, frame};

/// What a reserved number leaves when it is divided by [`EVERY`].
const REMAINDER: u64 = 61;
/// One of this many numbers is reserved.
const EVERY: u64 = 64;
/// Reserved numbers are taken from the first this many.
const CHOICES: u64 = 1 << 20;

/// True for a reserved number.
pub fn is_reserved(number: u64) -> bool {
    number % EVERY == REMAINDER
}

/// A reserved number, picked by `random`.
pub fn number(random: u64) -> u64 {
    random % CHOICES * EVERY + REMAINDER
}

/// An extension that means nothing, picked by `random`, whose bytes are its content.
pub fn extension(random: &[u8; 8]) -> Extension<'_> {
    let number = number(u64::from_le_bytes(*random));
    Extension { id: number, content: &random[..usize::from(random[0] % 8)] }
}

/// Appends a frame that means nothing, picked by `random`.
pub fn frame(random: u64, out: &mut Vec<u8>) {
    let bytes = random.to_le_bytes();
    frame::encode_as(number(random), out, |out| out.extend_from_slice(&bytes[..usize::from(bytes[7] % 8)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_are_odd_and_may_be_skipped() {
        for random in [0, 1, 77, u64::MAX] {
            let number = number(random);
            assert!(is_reserved(number) && number % 2 == 1);
            let mut out = Vec::new();
            frame(random, &mut out);
            let (read, used) = frame::split(&out, 100).unwrap().unwrap();
            assert_eq!((read.kind, used), (number, out.len()));
        }
        assert_eq!([61, 125, 189].map(is_reserved), [true; 3]);
        assert!(!is_reserved(0x61) && !is_reserved(0));
    }
}
