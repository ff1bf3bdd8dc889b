//! Another identity for a log that was copied back from a backup.

use std::{os::unix::fs::FileExt, path::Path};

use super::{
    log::{LogError, Segment, open_segments},
    segment::Header,
};

/// Gives the log in `folder` the generation `to` instead of `from`. What it holds stays the same. After an interruption the
/// same call goes on.
///
/// # Errors
/// When the log is in use, is another one, or the disk fails.
pub fn renew(folder: &Path, from: u64, to: u64) -> Result<(), LogError> {
    let segments = open_segments(folder)?;
    let headers = segments.iter().filter_map(|segment| Some((segment, segment.header?)));
    let headers: Vec<(&Segment, Header)> = headers.filter(|(_, header)| header.generation != to).collect();
    if headers.iter().any(|(_, header)| header.generation != from) {
        let what = "its segments are of different logs".to_owned();
        return Err(LogError::Damaged { path: folder.to_owned(), what });
    }
    for (segment, header) in headers {
        let header = Header { generation: to, ..header };
        let written = segment.file.write_all_at(&header.encode(), 0).and_then(|()| segment.file.sync_data());
        written.map_err(LogError::io(&segment.path))?;
    }
    Ok(())
}
