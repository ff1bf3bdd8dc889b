//! Deleting the bytes of events that were given up, a few with each commit.
//!
//! `first_kept` moves at once and decides what can be read. The bytes follow with later commits, so that a trim of a
//! million events does not hold up anybody; what is left is noted in the store and goes on after a restart.

use std::{collections::BTreeMap, ops::Range};

use quip_protocol::ConversationId;

use super::{batch::Batch, rows::Working};
use crate::{ReadError, keys, space::Spaces, store::Inner};

/// Events whose bytes one commit deletes, at most: about a millisecond.
const DELETED_AT_ONCE: u64 = 1024;

/// What is still to be deleted.
#[derive(Default)]
pub(super) struct Trims {
    seqs: BTreeMap<ConversationId, Range<u64>>,
    /// Conversations of which the note in the store is out of date.
    unnoted: Vec<ConversationId>,
}

impl Trims {
    /// What an earlier run left.
    pub(super) fn load(inner: &Inner) -> Result<Self, ReadError> {
        let (space, first) = (&inner.spaces.local, keys::trim::PREFIX);
        let end = keys::behind(first);
        let mut trims = Self::default();
        for record in space.range(&inner.published(), first, first..&end[..]) {
            let (key, value) = record?;
            let trim = keys::trim::conversation(&key).zip(keys::trim::seqs(&value));
            trims.seqs.extend([trim.ok_or_else(|| space.damaged(&key, "it is no note of a trim"))?]);
        }
        Ok(trims)
    }

    /// Events that are given up; an empty range is nothing.
    pub(super) fn add(&mut self, id: ConversationId, seqs: Range<u64>) {
        if !seqs.is_empty() {
            self.seqs.entry(id).or_insert(seqs.clone()).end = seqs.end;
            self.unnoted.push(id);
        }
    }

    /// Deletes some, and notes what is left.
    pub(super) fn write(&mut self, batch: &mut Batch, spaces: &Spaces, working: &mut Working) {
        let mut room = DELETED_AT_ONCE;
        while let Some(mut trim) = self.seqs.first_entry().filter(|_| room > 0) {
            let (id, seqs) = (*trim.key(), trim.get_mut());
            let until = seqs.end.min(seqs.start + room);
            room -= until - seqs.start;
            for seq in seqs.start..until {
                working.delete(id, seq, batch, spaces);
            }
            seqs.start = until;
            self.unnoted.push(id);
            if seqs.is_empty() {
                trim.remove();
            }
        }
        self.note(batch, spaces);
    }

    fn note(&mut self, batch: &mut Batch, spaces: &Spaces) {
        self.unnoted.sort_unstable();
        self.unnoted.dedup();
        for id in self.unnoted.drain(..) {
            let key = keys::trim::encode(id);
            match self.seqs.get(&id) {
                Some(seqs) => batch.insert(&spaces.local.handle, &key, &keys::trim::value(seqs)),
                None => batch.remove(&spaces.local.handle, &key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quip_core::command::WRITTEN;
    use quip_order::BatchLimit;

    use super::*;

    #[test]
    fn no_commit_is_larger_than_what_a_torn_one_may_be() {
        // An event and what is noted of its edits: two removals with keys of 26 bytes.
        let trims = DELETED_AT_ONCE * 2 * 64;
        let commands = BatchLimit::default().bytes * WRITTEN;
        assert!(commands as u64 + trims <= crate::journal::LARGEST_COMMIT);
    }
}
