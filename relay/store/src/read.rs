//! Reading one record from a snapshot.

use std::ops::Bound;

use fjall::Slice;
use quip_core::{Key, Kind, Record, record::behind};

use crate::{ReadError, engine::Snapshot};

/// The record under a key.
pub(crate) fn get<K: Kind>(rows: &Snapshot, key: K::Key) -> Result<Option<K>, ReadError> {
    Ok(read(rows, &key.into())?.and_then(K::of))
}

/// The record under a key of any kind.
pub(crate) fn read(rows: &Snapshot, key: &Key) -> Result<Option<Record>, ReadError> {
    let (kind, stored) = (key.kind(), key.encode());
    let failed = |error| ReadError::engine(kind, &stored, error);
    let values: Vec<Slice> = if key.is_in_parts() {
        let end = behind(&stored);
        let parts = rows.range(Bound::Included(&stored), Bound::Excluded(&end));
        parts.map(|part| part.map(|(_, value)| value)).collect::<Result<_, _>>().map_err(failed)?
    } else {
        rows.get(&stored).map_err(failed)?.into_iter().collect()
    };
    key.decode(&values).map_err(|error| ReadError::damaged(kind, &stored, error))
}
