//! Making an empty log.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use quip_core::FOLD_VERSION;

use super::{
    log::SEGMENTS,
    segment::{Header, SECTOR},
};
use crate::draw_generation;

/// Where a segment is.
pub(super) fn file(folder: &Path, i: usize) -> PathBuf {
    folder.join(format!("{i}.log"))
}

/// Where segments are until all of them are complete.
fn unfinished(folder: &Path) -> PathBuf {
    folder.join("new")
}

/// Whether a log is there, also one that lacks a segment.
pub(super) fn is_made(folder: &Path) -> io::Result<bool> {
    if unfinished(folder).try_exists()? {
        return file(folder, 0).try_exists();
    }
    (0..SEGMENTS).try_fold(false, |found, i| Ok(found || file(folder, i).try_exists()?))
}

/// Makes an empty log. Its segments are moved to their places when they are complete, so that an interrupted start leaves
/// nothing that looks like a log. The first segment is begun, which gives the log its identity.
pub(super) fn make(folder: &Path, segment_bytes: u64) -> io::Result<()> {
    let unfinished = unfinished(folder);
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    // Every message is in it.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if unfinished.try_exists()? {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished)?;
    let header = Header {
        generation: draw_generation(),
        number: 1,
        first: 1,
        salt: rand::random(),
        size: segment_bytes,
        fold: FOLD_VERSION,
    };
    for i in 0..SEGMENTS {
        let header = if i == 0 { header.encode() } else { [0; SECTOR] };
        fill(&file(&unfinished, i), segment_bytes, &header)?;
    }
    File::open(&unfinished)?.sync_all()?;
    File::open(folder)?.sync_all()?;
    // The log is there once its first segment is.
    let move_one = |i| fs::rename(file(&unfinished, i), file(folder, i));
    (1..SEGMENTS).try_for_each(move_one)?;
    File::open(folder)?.sync_all()?;
    move_one(0)?;
    File::open(folder)?.sync_all()?;
    fs::remove_dir(&unfinished)?;
    File::open(folder)?.sync_all()?;
    File::open(parent)?.sync_all()
}

/// Makes a file of this size that begins with a sector and goes on with zeros.
fn fill(path: &Path, size: u64, sector: &[u8; SECTOR]) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    // Where the folder was there, others may look into it.
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    for at in (0..size).step_by(ZEROS.len()) {
        file.write_all_at(&ZEROS[..ZEROS.len().min((size - at) as usize)], at)?;
    }
    file.write_all_at(sector, 0)?;
    file.sync_all()
}
