//! A disk that is really full: a small file system in memory.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A tmpfs of a given size, unmounted and removed when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of `bytes` (rounded up to whole pages).
    ///
    /// Returns `None` after printing why when this process may not mount: only root may, and some containers forbid it
    /// to root as well. A test then has nothing to do.
    ///
    /// # Errors
    /// There is no `mount` command, or no temporary folder.
    pub fn new(bytes: u64) -> io::Result<Option<Self>> {
        let mount = tempfile::Builder::new().prefix("quip-disk-").tempdir()?;
        let options = format!("size={bytes},mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "quip-small-disk"])
            .arg(mount.path())
            .output()?;
        if output.status.success() {
            return Ok(Some(Self { mount }));
        }
        eprintln!("skipped: this test mounts a tmpfs, which needs root: {}", message(&output));
        Ok(None)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Fills what is left of it with a file, and returns that; removing the file makes room again.
    ///
    /// # Errors
    /// Writing fails for another reason than the full disk.
    pub fn fill(&self) -> io::Result<PathBuf> {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path)?;
        match io::copy(&mut io::repeat(1), &mut file) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("the disk never became full")),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process under test may still have files open.
        match Command::new("umount").arg("--lazy").arg(self.mount.path()).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("could not unmount {}: {}", self.mount.path().display(), message(&output)),
            Err(error) => eprintln!("could not unmount {}: {error}", self.mount.path().display()),
        }
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
