//! Where a state file is, who may use it, and how another file takes its place.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// A state file's place. Beside it are a file that is locked (`.lock`) and, for a while, one that will take its place (`.new`).
/// Both are for the owner alone.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    /// Follows links, so that every name of a file leads to one place.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        loop {
            match fs::canonicalize(&path) {
                Ok(path) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            match fs::read_link(&path) {
                // A link to a file that is not there yet.
                Ok(target) => path = folder.join(target),
                Err(_) => {
                    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
                    return Ok(Self { path: fs::canonicalize(folder)?.join(name) });
                }
            }
        }
    }

    /// The file, after all links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other clients away, in this and other processes, until the returned file is dropped.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = private(OpenOptions::new().create(true).append(true)).open(self.beside(".lock"))?;
        narrow(&file);
        judge(file.try_lock())?;
        Ok(file)
    }

    /// An empty file that can take this place.
    pub(super) fn create_new(&self) -> io::Result<File> {
        self.remove_new()?;
        private(OpenOptions::new().create_new(true).read(true).append(true)).open(self.beside(".new"))
    }

    /// Removes the file that was to take this place.
    pub(super) fn remove_new(&self) -> io::Result<()> {
        match fs::remove_file(self.beside(".new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts the file from [`Place::create_new`] in this place, at once or not at all. It gets the mode of the one that was
    /// there and, where the system allows that, its owner and group.
    pub(super) fn put(&self, new: &File) -> io::Result<()> {
        let old = match fs::metadata(&self.path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // The owner changes before the rename: a crash between the two must not take the file from its owner. The mode changes
        // after it: no other file beside this one is ever open to others.
        let owned = old.map(|old| (keep_owner(new, &old), old));
        fs::rename(self.beside(".new"), &self.path)?;
        if let Some((kept, old)) = owned
            && let Err(error) = kept.and_then(|same_group| keep_mode(new, &old, same_group))
        {
            tracing::warn!(file = %self.path.display(), %error, "could not keep owner and mode of the state file");
        }
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }
}

/// Whether the client may go on after it tried to lock. Some systems, such as Android, have no locks here.
fn judge(tried: Result<(), TryLockError>) -> io::Result<()> {
    match tried {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::WouldBlock, IN_USE)),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

const IN_USE: &str = "in use by another client (in this or another process): close it first, or use one file for each";

#[cfg(unix)]
mod owner {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};

    use super::*;

    /// What is created is for its owner alone.
    pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
        options.mode(PRIVATE)
    }

    /// The same for a file that was there. One of another user has another mode for good.
    pub(super) fn narrow(file: &File) {
        if file.metadata().is_ok_and(|found| found.mode() & 0o077 != 0) {
            file.set_permissions(fs::Permissions::from_mode(PRIVATE)).ok();
        }
    }

    /// Gives the new file the owner and group of the old one, as far as that is allowed. Returns whether it has the group.
    pub(super) fn keep_owner(new: &File, old: &Metadata) -> io::Result<bool> {
        let (uid, gid) = (old.uid(), old.gid());
        let found = new.metadata()?;
        if (found.uid(), found.gid()) == (uid, gid) {
            return Ok(true);
        }
        Ok(fchown(new, Some(uid), Some(gid)).or_else(|_| fchown(new, None, Some(gid))).is_ok())
    }

    /// Gives the new file the mode of the old one. Another group does not get what the old one had.
    pub(super) fn keep_mode(new: &File, old: &Metadata, same_group: bool) -> io::Result<()> {
        let mode = kept(old.mode(), same_group);
        if mode == PRIVATE { Ok(()) } else { new.set_permissions(fs::Permissions::from_mode(mode)) }
    }

    pub(super) fn kept(mode: u32, same_group: bool) -> u32 {
        mode & if same_group { 0o777 } else { 0o707 }
    }

    const PRIVATE: u32 = 0o600;
}

#[cfg(not(unix))]
mod owner {
    use super::*;

    pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
        options
    }

    pub(super) fn narrow(_: &File) {}

    pub(super) fn keep_owner(_: &File, _: &Metadata) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn keep_mode(_: &File, _: &Metadata, _: bool) -> io::Result<()> {
        Ok(())
    }
}

use owner::{keep_mode, keep_owner, narrow, private};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_locks_is_no_reason_to_fail() {
        assert!(judge(Ok(())).is_ok());
        assert!(judge(Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))).is_ok());
        let other = judge(Err(TryLockError::Error(io::ErrorKind::PermissionDenied.into())));
        assert_eq!(other.expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        let text = judge(Err(TryLockError::WouldBlock)).expect_err("refused").to_string();
        assert!(text.contains("in this or another process"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn another_group_does_not_get_what_the_old_one_had() {
        let kept = |mode, same_group| owner::kept(mode, same_group);
        assert_eq!([kept(0o100_640, true), kept(0o100_640, false), kept(0o100_664, false)], [0o640, 0o600, 0o604]);
    }

    #[cfg(unix)]
    #[test]
    fn all_names_of_a_file_lead_to_one_place() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(folder.path()).expect("a folder");
        let at = |name: &str| root.join(name);
        fs::create_dir(at("real")).expect("made");
        symlink("real", at("folder")).expect("linked");
        symlink("folder/state", at("one")).expect("linked");
        symlink(at("one"), at("two")).expect("linked");
        let names = ["real/state", "folder/state", "real/../folder/./state", "one", "two"];
        let find = |name: &str| Place::find(&at(name)).map(|place| place.path);
        // Before the file is there, and after.
        for _ in 0..2 {
            for name in names {
                assert_eq!(find(name).expect("found"), at("real/state"), "{name}");
            }
            fs::write(at("real/state"), "").expect("written");
        }
        symlink("circle", at("circle")).expect("linked");
        for name in ["circle", "real/..", "gone/state"] {
            println!("{name}: {:?}", find(name));
        }
        assert!(find("circle").is_err() && find("gone/state").is_err());
    }
}
