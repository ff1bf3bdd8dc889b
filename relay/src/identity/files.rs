//! Files that are whole or absent, whenever the machine stops.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Everyone that the umask lets.
    All,
    /// Only the user that the relay runs as.
    Owner,
}

/// Writes a file unless it is there already, also when two processes do so at once: one of them wins, and both read
/// the winner's.
pub(super) fn create_once(path: &Path, contents: &[u8], readable: Readable) -> io::Result<()> {
    let beside = write_beside(path, contents, readable)?;
    // A hard link fails where a rename would replace what the other process already uses.
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(path),
    }
}

/// Writes a file, in one step instead of what was there.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = write_beside(path, contents, Readable::All)?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Makes a folder that only the relay's user can enter; those above it are ordinary ones.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_beside(path: &Path, contents: &[u8], readable: Readable) -> io::Result<PathBuf> {
    let beside = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readable == Readable::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    Ok(beside)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_of_two_creations_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_once(&path, b"first", Readable::Owner).unwrap();
        create_once(&path, b"second", Readable::Owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
    }
}
