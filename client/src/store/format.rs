//! The bytes of a state file.
//!
//! 8 bytes of magic, a version byte, and records: length (u32, little endian), CRC-32 of the content (likewise), content. A
//! record holds the changes ([`record`](super::record)) of one save, which is therefore atomic. The first one is what was
//! saved before the file was written, maybe nothing; it was synced before the file got its name.

use thiserror::Error;

use super::{Change, Saved, record};

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) saved: Saved,
    /// Bytes up to the end of the last record. What follows is the torn tail of a save that was interrupted.
    pub(super) length: usize,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Unreadable {
    #[error("not a state file: choose another name")]
    Other,
    #[error(
        "a state file of another version: move it away to go on as a new device; commands in it that were not answered \
         are lost"
    )]
    Version,
    #[error(
        "damaged at byte {at} of {length}: move it away to go on as a new device; commands in it that were not answered \
         are lost"
    )]
    Damaged { at: usize, length: usize },
}

/// Reads a file. A record is torn when nothing good follows it, and damaged otherwise.
pub(super) fn read(bytes: &[u8]) -> Result<Content, Unreadable> {
    let mut saved = Saved::default();
    let damaged = |at| Unreadable::Damaged { at, length: bytes.len() };
    if bytes.is_empty() {
        return Ok(Content { saved, length: 0 });
    }
    if !bytes.starts_with(HEAD) {
        return Err(match bytes.get(..MAGIC) {
            _ if HEAD.starts_with(bytes) => damaged(bytes.len()),
            Some(magic) if magic == &HEAD[..MAGIC] => Unreadable::Version,
            _ => Unreadable::Other,
        });
    }
    let mut at = HEAD.len();
    loop {
        let is_first = at == HEAD.len();
        let Some((changes, size)) = next(&bytes[at..], is_first) else {
            let is_torn = !is_first && (at + 1..bytes.len()).all(|later| next(&bytes[later..], false).is_none());
            return if is_torn { Ok(Content { saved, length: at }) } else { Err(damaged(at)) };
        };
        changes.iter().for_each(|change| saved.apply(change));
        at += size;
        if at == bytes.len() {
            return Ok(Content { saved, length: at });
        }
    }
}

/// The first record and its size, or `None` if it is not whole. Zeros are no record, except where nothing was saved yet.
fn next(bytes: &[u8], may_be_empty: bool) -> Option<(Vec<Change>, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..u32::from_le_bytes(*length) as usize)?;
    // The tag is cheap to check, and this runs at every byte behind one that is bad.
    let is_one = content.first().map_or(may_be_empty, |tag| record::is_tag(*tag));
    if !is_one || crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((record::decode(content)?, content.len() + 8))
}

/// A file with this content.
pub(super) fn file(saved: &Saved) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    bytes.extend_from_slice(&encode(&saved.changes()));
    bytes
}

/// A record.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let content = record::encode(changes);
    let mut out = Vec::with_capacity(content.len() + 8);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    out.extend_from_slice(&content);
    out
}

/// Magic and version.
const HEAD: &[u8] = b"quipkeep\x02";
const MAGIC: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use quip_protocol::{ConversationId, DeviceId, UserId};

    use super::*;
    use crate::Cursor;

    pub(crate) const ID: ConversationId = ConversationId([3; 16]);

    pub(crate) fn changes() -> Vec<Change> {
        vec![
            Change::Identity(UserId::parse("alice").expect("a user"), DeviceId([7; 16])),
            Change::Queued(ID, 1, Bytes::from_static(b"one")),
            Change::Queued(ID, 2, Bytes::from_static(b"two")),
            Change::Settled(ID, 1),
            Change::Cursor(ID, Cursor { generation: 9, seq: 300, digest: [1, 2, 3, 4] }),
            Change::Outbox(ID, 5, vec![(5, Bytes::from_static(b"five"))]),
        ]
    }

    pub(crate) fn sum(changes: &[Change]) -> Saved {
        let mut saved = Saved::default();
        changes.iter().for_each(|change| saved.apply(change));
        saved
    }

    /// A file that was made empty, with a save for each change; and where each record begins.
    fn whole() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file(&Saved::default());
        let mut begins = vec![HEAD.len()];
        for change in changes() {
            begins.push(bytes.len());
            bytes.extend(encode(&[change]));
        }
        (bytes, begins)
    }

    #[test]
    fn the_bytes_of_a_file_are_fixed() {
        let mut expected = HEAD.to_vec();
        expected.extend([0; 8]);
        assert_eq!(file(&Saved::default()), expected);
        expected.extend([134, 0, 0, 0]); // length
        expected.extend(crc32fast::hash(&expected_content()).to_le_bytes());
        expected.extend(expected_content());
        let mut found = file(&Saved::default());
        found.extend(encode(&changes()));
        assert_eq!(found, expected);
        assert_eq!(HEAD, b"quipkeep\x02");
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    fn expected_content() -> Vec<u8> {
        let id = [3; 16];
        let parts: [&[u8]; 6] = [
            &[&[1, 5][..], b"alice", &[7; 16]].concat(), // identity: user, device
            &[&[2][..], &id, &[1, 3], b"one"].concat(),  // queued: conversation, n, frame
            &[&[2][..], &id, &[2, 3], b"two"].concat(),  //
            &[&[3][..], &id, &[1]].concat(),             // settled: conversation, n
            &[&[5][..], &id, &[9, 0xac, 2, 1, 2, 3, 4]].concat(), // cursor: conversation, generation, seq, digest
            &[&[4][..], &id, &[5, 1, 5, 4], b"five"].concat(), // outbox: conversation, last n, [n, frame]
        ];
        parts.concat()
    }

    #[test]
    fn a_damaged_bit_is_an_error_that_says_where_except_in_the_last_record() {
        let (whole, begins) = whole();
        let last = begins.len() - 1;
        for bit in 0..whole.len() * 8 {
            let at = bit / 8;
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (bit % 8);
            let found = read(&damaged);
            let record = begins.iter().rposition(|begin| *begin <= at);
            match record {
                None if at < MAGIC => assert_eq!(found, Err(Unreadable::Other), "bit {bit}"),
                None => assert_eq!(found, Err(Unreadable::Version), "bit {bit}"),
                // It looks like a save that was interrupted.
                Some(record) if record == last => {
                    let saved = sum(&changes()[..changes().len() - 1]);
                    assert_eq!(found, Ok(Content { saved, length: begins[last] }), "bit {bit}");
                }
                Some(record) => {
                    let expected = Unreadable::Damaged { at: begins[record], length: whole.len() };
                    assert_eq!(found, Err(expected), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_has_what_was_saved_before() {
        let (whole, begins) = whole();
        assert_eq!(read(&[]), Ok(Content { saved: Saved::default(), length: 0 }));
        // The head and the first record are synced before the file is there.
        for cut in 1..begins[1] {
            let found = read(&whole[..cut]);
            assert!(matches!(found, Err(Unreadable::Damaged { .. })), "cut at {cut}: {found:?}");
        }
        for cut in begins[1]..=whole.len() {
            let ends = begins[1..].iter().copied().chain([whole.len()]);
            let (records, length) = ends.enumerate().filter(|(_, end)| *end <= cut).last().expect("the first");
            let saved = sum(&changes()[..records]);
            assert_eq!(read(&whole[..cut]), Ok(Content { saved, length }), "cut at {cut}");
        }
    }

    #[test]
    fn zeros_at_the_end_are_torn_and_zeros_in_the_middle_are_damage() {
        let (whole, begins) = whole();
        let mut tail = whole.clone();
        tail.extend([0; 5000]);
        assert_eq!(read(&tail), Ok(Content { saved: sum(&changes()), length: whole.len() }));
        let mut middle = whole.clone();
        middle[begins[2]..begins[4]].fill(0);
        assert_eq!(read(&middle), Err(Unreadable::Damaged { at: begins[2], length: whole.len() }));
    }

    #[test]
    fn other_files_are_refused() {
        for other in [&b"x"[..], b"quip", b"something else", b"quipkeeping", b"quipkeep\x01"] {
            println!("{}", read(other).expect_err("refused"));
        }
        assert_eq!(read(b"something else"), Err(Unreadable::Other));
        assert_eq!(read(b"quipkeep\x01"), Err(Unreadable::Version));
    }
}
