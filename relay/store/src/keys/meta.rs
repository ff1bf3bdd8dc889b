//! `meta`: one record for each name.

/// u32: the format of the whole store.
pub(crate) const FORMAT: &[u8] = b"format";
/// u64: identity of the log.
pub(crate) const GENERATION: &[u8] = b"generation";
