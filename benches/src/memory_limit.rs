//! A limit on the memory of a process: a control group of its own, of version 1 or 2 (Linux only, needs root).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Child},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

/// Where the controllers are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group. Removed with it, once its processes are gone.
pub(crate) struct MemoryLimit(PathBuf);

impl MemoryLimit {
    pub(crate) fn new(mebibytes: u64) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("quip-bench-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let is_unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let (folder, file) = match is_unified {
            true => (Path::new(ROOT).join(name), "memory.max"),
            false => (Path::new(ROOT).join("memory").join(name), "memory.limit_in_bytes"),
        };
        if is_unified {
            // It may be on already, or another process's to turn on; without it the limit below cannot be written.
            let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+memory");
        }
        let make = fs::create_dir(&folder);
        make.with_context(|| format!("cannot make the control group {}: a memory limit needs root", folder.display()))?;
        let limit = Self(folder);
        if is_unified {
            // A machine without swap has no such file.
            let _ = fs::write(limit.0.join("memory.swap.max"), "0");
        }
        let write = fs::write(limit.0.join(file), (mebibytes << 20).to_string());
        write.with_context(|| format!("cannot set {file} in {}", limit.0.display()))?;
        Ok(limit)
    }

    /// Puts a process under the limit. What it has allocated before is not counted.
    pub(crate) fn add(&self, child: &Child) -> Result<()> {
        let write = fs::write(self.0.join("cgroup.procs"), child.id().to_string());
        write.with_context(|| format!("cannot put a process into {}", self.0.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group without processes takes nothing; one that cannot be removed is left.
        let _ = fs::remove_dir(&self.0);
    }
}
