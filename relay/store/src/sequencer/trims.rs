//! Deleting the bytes of events that were given up, a few with each commit.
//!
//! `first_kept` moves at once and decides what can be read. The bytes follow with later commits, so that a trim of a
//! million events does not hold up anybody; what is left is noted in the store and goes on after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Range},
};

use quip_core::{
    Kind as _, Record,
    record::{EditsKey, EventKey, Key, ReactionsKey, TrimKey, TrimRecord, behind},
};
use quip_protocol::ConversationId;

use super::cache::Cache;
use crate::{
    ReadError,
    engine::{Batch, Snapshot},
};

/// Events whose bytes one commit deletes, at most: about a millisecond.
const DELETED_AT_ONCE: u64 = 1024;

/// What is still to be deleted.
#[derive(Default)]
pub(super) struct Trims {
    seqs: BTreeMap<ConversationId, Range<u64>>,
    /// Conversations of which the note in the store is out of date.
    unnoted: BTreeSet<ConversationId>,
}

impl Trims {
    /// What an earlier run left.
    pub(super) fn load(rows: &Snapshot) -> Result<Self, ReadError> {
        let first = TrimRecord::PREFIX;
        let end = behind(first);
        let mut trims = Self::default();
        for row in rows.range(Bound::Included(first), Bound::Excluded(&end)) {
            let (key, value) = row.map_err(|error| ReadError::engine(TrimRecord::NAME, first, error))?;
            let damaged = |why: String| ReadError::damaged(TrimRecord::NAME, &key, why);
            let TrimKey(id) = TrimRecord::read_key(&key).ok_or_else(|| damaged("the key is no trim's".to_owned()))?;
            let trim = TrimRecord::decode(&value).map_err(|error| damaged(error.to_string()))?;
            trims.seqs.insert(id, trim.from..trim.until);
        }
        Ok(trims)
    }

    /// Events that are given up.
    pub(super) fn add(&mut self, id: ConversationId, seqs: Range<u64>) {
        self.seqs.entry(id).or_insert(seqs.clone()).end = seqs.end;
        self.unnoted.insert(id);
    }

    /// Deletes some, and notes what is left.
    pub(super) fn write(&mut self, batch: &mut Batch, cache: &mut Cache) {
        let mut room = DELETED_AT_ONCE;
        while let Some(mut trim) = self.seqs.first_entry().filter(|_| room > 0) {
            let (id, seqs) = (*trim.key(), trim.get_mut());
            let until = seqs.end.min(seqs.start + room);
            room -= until - seqs.start;
            for seq in seqs.start..until {
                cache.remove(EventKey(id, seq).into());
                cache.remove(EditsKey(id, seq).into());
                cache.remove(ReactionsKey(id, seq).into());
            }
            seqs.start = until;
            self.unnoted.insert(id);
            if seqs.is_empty() {
                trim.remove();
            }
        }
        for id in std::mem::take(&mut self.unnoted) {
            let key: Key = TrimKey(id).into();
            match self.seqs.get(&id) {
                Some(seqs) => {
                    let trim: Record = TrimRecord { from: seqs.start, until: seqs.end }.into();
                    trim.encode(&key, 1, |key, value| batch.insert(key, value));
                }
                None => batch.remove(&key.encode()),
            }
        }
    }
}
