//! A look at the engine's lists of tables before the engine opens them.
//!
//! Of each keyspace the engine keeps a list of its tables, `v<id>`, and beside it `current`: the id (u64), the XXH3-128 of the
//! list, and the kind of checksum (u8, 0), little-endian. It writes the checksum and never compares it: a flipped bit makes it
//! leave out a table without a word, take terabytes of memory, or panic.

use std::{fs, io::ErrorKind, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use crate::OpenError;

/// Compares every keyspace's list of tables with its checksum.
///
/// # Errors
/// When one is not what was written, or cannot be read.
pub(crate) fn check(folder: &Path) -> Result<(), OpenError> {
    let keyspaces = folder.join("keyspaces");
    for entry in fs::read_dir(&keyspaces).map_err(OpenError::io(&keyspaces))? {
        let keyspace = entry.map_err(OpenError::io(&keyspaces))?.path();
        let current = keyspace.join("current");
        // One that was never finished has none, and the engine makes it again.
        if !current.try_exists().map_err(OpenError::io(&current))? {
            continue;
        }
        let content = fs::read(&current).map_err(OpenError::io(&current))?;
        let damaged = |what: String| OpenError::damaged(folder, what);
        let (Some(id), Some(sum)) = (content.first_chunk::<8>(), content.get(8..24)) else {
            return Err(damaged(format!("{} is cut off", current.display())));
        };
        let list = keyspace.join(format!("v{}", u64::from_le_bytes(*id)));
        let bytes = match fs::read(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged(format!("{} names a list of tables that is not there", current.display())));
            }
            other => other.map_err(OpenError::io(&list))?,
        };
        if xxh3_128(&bytes).to_le_bytes() != sum {
            return Err(damaged(format!("the list of tables {} is not what was written", list.display())));
        }
    }
    Ok(())
}
