//! `meta`: one record for each name.

/// Its name, the same in every format.
pub(crate) const KEYSPACE: &str = "meta";
/// u32: the format of the whole store.
pub(crate) const FORMAT: &[u8] = b"format";
/// u64: identity of the log.
pub(crate) const GENERATION: &[u8] = b"generation";
/// u64: up to where the store has what the log had.
pub(crate) const LOG_POSITION: &[u8] = b"log position";
/// u64: bytes of a memtable, which the engine keeps as they were when its keyspaces were made.
pub(crate) const MEMTABLE: &[u8] = b"memtable";
