//! A device's send numbers in a conversation, and the latest outcomes.
//!
//! They are stored in parts, so that a command writes about 100 bytes and not all 64 outcomes. Numbers 1 to 8 are the first
//! part, 9 to 16 the second, and so on. A part is stored in one of nine places, used in turn, and is rewritten until it is full.
//! The nine hold the latest 65 to 72 outcomes. The bytes depend on the commands alone, not on what was committed together.
//!
//! Key: slot 2 ‖ conversation 16 ‖ device 16 ‖ length of the user id 1 ‖ user id ‖ place of the part 1. Value: varints of the
//! last number and of the count ‖ the outcomes. An outcome is varint code; varint of the difference of its seq to the last seq
//! that was not 0 (0 = no event); with an event, varint of the difference of its message number to the last; zigzag varint of the
//! difference in time; 8 bytes of hash, little-endian. Times may go back: only events are in order of time.

use std::collections::VecDeque;

use quip_protocol::{Code, ConversationId, DeviceId, UserId, limit};

use super::kind::{
    Kind, Part, Stored, StoredKey, put_conversation, put_short_user, read_conversation, read_short_user,
};
use crate::{
    Timestamp,
    codec::{Malformed, Reader, Sink},
};

/// In which conversation, and of which user's device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SendsKey(pub ConversationId, pub DeviceId, pub UserId);

/// A device's send numbers in a conversation, or a stored part of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SendsRecord {
    /// The last `n` that was decided.
    pub last: u64,
    /// The latest outcomes, at least 64, ending with `last`, without gaps.
    pub latest: VecDeque<Recorded>,
}

/// The outcome of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// `Code::DONE` = accepted.
    pub code: Code,
    /// The event that it became; 0 = none.
    pub seq: u64,
    /// Its message number.
    pub number: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The first 8 bytes of BLAKE3 of what the command asked for.
    pub hash: u64,
}

impl Recorded {
    /// The check of the command.
    pub fn check(&self) -> [u8; 4] {
        check(self.hash)
    }
}

/// The check of a command with this hash.
pub(crate) fn check(hash: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    [a, b, c, d]
}

/// Outcomes in one part.
const PART: u64 = 8;
/// Number of places: enough for all parts that the latest [`limit::UNANSWERED`] outcomes can be in.
const PLACES: u64 = limit::UNANSWERED / PART + 1;

impl StoredKey for SendsKey {
    fn put(&self, out: &mut Vec<u8>) {
        put_conversation(self.0, out);
        out.put(&self.1.0);
        put_short_user(&self.2, out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(read_conversation(from)?, from.device()?, read_short_user(from)?))
    }
}

impl SendsRecord {
    /// Records the outcome of the next number, and drops the part whose place is reused.
    pub fn push(&mut self, recorded: Recorded) {
        self.last += 1;
        self.latest.push_back(recorded);
        let parts = self.last.div_ceil(PART);
        let kept = self.last - parts.saturating_sub(PLACES) * PART;
        while self.latest.len() as u64 > kept {
            self.latest.pop_front();
        }
    }

    /// When the device was last heard here; 0 = never.
    pub fn last_used(&self) -> Timestamp {
        self.latest.back().map_or(0, |recorded| recorded.at)
    }

    /// The prefix of the keys of all send numbers.
    pub const PREFIX: &'static [u8] = &[<Self as Kind>::NUMBER];

    /// The parts with numbers above `after`, each with its place.
    fn newer(&self, after: u64) -> impl Iterator<Item = (Part, Self)> {
        let oldest = self.last - self.latest.len() as u64;
        (after.max(oldest) / PART..self.last.div_ceil(PART)).map(move |part| {
            let (from, to) = (oldest.max(part * PART), self.last.min((part + 1) * PART));
            let latest = self.latest.range((from - oldest) as usize..(to - oldest) as usize).copied().collect();
            (Part((part % PLACES) as u8), Self { last: to, latest })
        })
    }
}

impl Stored for SendsRecord {
    const PARTS: u8 = PLACES as u8;

    fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.last);
        out.put_varint(self.latest.len() as u64);
        let mut before = Before::default();
        for recorded in &self.latest {
            out.put_varint(recorded.code.0);
            if recorded.seq == 0 {
                out.put_u8(0);
            } else {
                out.put_varint(recorded.seq.wrapping_sub(before.seq));
                out.put_varint(recorded.number.wrapping_sub(before.number));
                (before.seq, before.number) = (recorded.seq, recorded.number);
            }
            out.put_varint(zigzag(recorded.at.wrapping_sub(before.at)));
            before.at = recorded.at;
            out.put(&recorded.hash.to_le_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let last = from.varint()?;
        let count = from.varint()?;
        if count > limit::UNANSWERED.min(last) {
            return Err(Malformed);
        }
        let mut before = Before::default();
        let latest = (0..count).map(|_| before.read(from)).collect::<Result<_, _>>()?;
        Ok(Self { last, latest })
    }

    /// Each change adds one number, so only the parts of the latest numbers are written.
    fn parts(&self, changes: u64, mut write: impl FnMut(Option<Part>, &[u8])) {
        for (place, part) in self.newer(self.last.saturating_sub(changes)) {
            write(Some(place), &part.value());
        }
    }

    fn join(mut parts: Vec<Self>) -> Option<Self> {
        parts.sort_unstable_by_key(|part| part.last);
        let joined = parts.into_iter().try_fold(Self::default(), |mut record, part| {
            let before = part.last.checked_sub(part.latest.len() as u64)?;
            let fits = !part.latest.is_empty() && (record.latest.is_empty() || before == record.last);
            record.last = part.last;
            record.latest.extend(part.latest);
            fits.then_some(record)
        });
        joined.filter(|record| record.last > 0)
    }
}

/// The base of the differences.
#[derive(Default)]
struct Before {
    seq: u64,
    number: u64,
    at: u64,
}

impl Before {
    fn read(&mut self, from: &mut Reader<'_>) -> Result<Recorded, Malformed> {
        let code = Code(from.varint()?);
        let (mut seq, mut number) = (0, 0);
        match from.varint()? {
            0 => {}
            more => {
                seq = self.seq.wrapping_add(more);
                number = self.number.wrapping_add(from.varint()?);
                (self.seq, self.number) = (seq, number);
            }
        }
        self.at = self.at.wrapping_add(zagzig(from.varint()?));
        let hash = u64::from_le_bytes(from.array()?);
        Ok(Recorded { code, seq, number, at: self.at, hash })
    }
}

/// Maps small differences of either sign to small numbers.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

fn zagzig(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::tests::*, *};

    fn sends() -> SendsRecord {
        let at = 1_700_000_000_000;
        let recorded = |code, seq, number, at, hash| Recorded { code, seq, number, at, hash };
        let latest = [
            recorded(Code::DONE, 300, 200, at, 0x0807_0605_0403_0201),
            recorded(Code::FORBIDDEN, 0, 0, at - 1, u64::MAX),
            recorded(Code::DONE, 0, 0, at, 0),
            recorded(Code::DONE, 305, 204, at + 64, 1),
        ];
        SendsRecord { last: 9, latest: latest.into() }
    }

    #[test]
    fn golden() {
        let outcomes = [
            ["02", "ac02", "c801", "80a0abfef962", "0102030405060708"].concat(),
            ["43", "00", "01", "ffffffffffffffff"].concat(),
            ["02", "00", "02", "0000000000000000"].concat(),
            ["02", "05", "04", "8001", "0100000000000000"].concat(),
        ];
        check_value(&sends(), &("010904".to_owned() + &outcomes.concat()));
        // More than last; more than are kept.
        assert_malformed::<SendsRecord>(&[1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_malformed::<SendsRecord>(&[1, 200, 1, 65]);
    }

    #[test]
    fn golden_key() {
        let key = SendsKey(room(), device(0xd0), user("ann"));
        let stored = "060f6703abababababababababababababababd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d003616e6e";
        assert_eq!(hex(&SendsRecord::key(&key)), stored);
        assert_eq!(SendsRecord::read_key(&SendsRecord::key(&key)), Some(key.clone()));
        let annie = SendsKey(room(), device(0xd0), user("annie"));
        assert!(!SendsRecord::key(&annie).starts_with(&SendsRecord::key(&key)));
        let mut written = Vec::new();
        sends().encode(&key, 2, &mut |key: &[u8], value: &[u8]| written.push((hex(key), value.len())));
        assert_eq!(written.len(), 2, "numbers 8 and 9 are in two parts");
        assert_eq!((written[0].0.as_str(), written[1].0.as_str()), (&*format!("{stored}00"), &*format!("{stored}01")));
    }

    #[test]
    fn an_outcome_takes_at_most_sixteen_bytes() {
        // A device that posts every ten minutes into a conversation with 100 messages between its own.
        let place = |i: u64| 1_000_000 + i * 100;
        let at = |i: u64| 1_700_000_000_000 + i * 600_000;
        let outcome = |i| Recorded { code: Code::DONE, seq: place(i), number: place(i), at: at(i), hash: u64::MAX };
        let bytes = SendsRecord { last: 64, latest: (0..64).map(outcome).collect() }.value().len();
        assert!(bytes <= 64 * 16, "{bytes}");
    }

    fn outcomes(count: u64) -> impl Iterator<Item = Recorded> {
        (1..=count).map(|n| Recorded { code: Code::DONE, seq: n * 2, number: n, at: n * 7, hash: n })
    }

    /// What lies at the places after commits of these sizes, which must fit together after each.
    fn stored(commits: &[u64]) -> (BTreeMap<u8, Vec<u8>>, SendsRecord) {
        let (mut places, mut record) = (BTreeMap::new(), SendsRecord::default());
        let mut recorded = outcomes(commits.iter().sum());
        for commit in commits {
            recorded.by_ref().take(*commit as usize).for_each(|recorded| record.push(recorded));
            record.parts(*commit, |part, value| {
                places.insert(part.unwrap().0, value.to_vec());
            });
            let parts = places.values().map(|part| SendsRecord::decode(part).unwrap()).collect();
            assert_eq!(SendsRecord::join(parts), (record.last > 0).then(|| record.clone()));
        }
        (places, record)
    }

    #[test]
    fn a_command_writes_one_part_and_all_parts_hold_what_is_promised() {
        let (places, record) = stored(&[1; 200]);
        assert_eq!((places.len(), record.latest.len(), record.last), (9, 72, 200));
        let (Part(place), part) = record.newer(199).next().unwrap();
        assert!(record.newer(199).count() == 1 && part.value().len() < 120, "{} bytes", part.value().len());
        assert_eq!((u64::from(place), part.last, part.latest.len()), (24 % 9, 200, 8));
        assert_eq!(SendsRecord::join(vec![]), None);
        let parts = [part.clone(), SendsRecord { last: 191, latest: part.latest }];
        assert_eq!(SendsRecord::join(parts.into()), None, "one between them is missing");
    }

    proptest! {
        #[test]
        fn parts_are_the_same_whatever_was_committed_together(commits in prop::collection::vec(0..150u64, 0..8)) {
            let together = stored(&commits);
            prop_assert_eq!(&together, &stored(&vec![1; commits.iter().sum::<u64>() as usize]));
            prop_assert!(together.1.last < 64 || together.1.latest.len() >= 64);
        }

        #[test]
        fn any_comes_back(
            latest in prop::collection::vec(
                (any::<u64>(), prop_oneof![Just(0), any::<u64>()], any::<u64>(), any::<u64>(), any::<u64>()),
                0..=64,
            ),
            more in 0..1000u64,
        ) {
            let outcome = |(code, seq, number, at, hash)| {
                let number = if seq == 0 { 0 } else { number };
                Recorded { code: Code(code), seq, number, at, hash }
            };
            let latest: VecDeque<_> = latest.into_iter().map(outcome).collect();
            // Two outcomes in a row are never of one event.
            let seqs: Vec<_> = latest.iter().filter(|outcome| outcome.seq > 0).map(|outcome| outcome.seq).collect();
            prop_assume!(seqs.windows(2).all(|pair| pair[0] != pair[1]));
            comes_back(SendsRecord { last: latest.len() as u64 + more, latest });
        }
    }
}
