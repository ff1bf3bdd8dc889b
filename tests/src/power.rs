//! Power failures and disk faults for a process that stores data.
//!
//! [`Shim`] makes a process record what it changes below a folder (see `tests/powerloss/shim.c`). After that process
//! was killed, [`Shim::lose_power`] rolls the folder back to a state that a real disk could show: what a completed
//! `fsync`, `fdatasync` or write with `O_DSYNC` covers stays, of everything else each 512-byte sector shows any of its states since then.
//!
//! ```ignore
//! let shim = Shim::new(&data)?;
//! let mut relay = Command::new("quip-relay").envs(shim.env()).spawn()?;
//! // ... let it work, note what it acknowledged ...
//! relay.kill()?;
//! relay.wait()?;
//! println!("{:?}", shim.lose_power(seed)?);
//! // start it again: everything acknowledged must be there
//! ```
//!
//! Limits: x86-64 Linux with a C compiler called `cc`. The watched process must not map files shared and writable
//! (the shim refuses it). File times, permissions and symbolic links are not rolled back.

mod content;
mod log;
mod names;

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use rand::{SeedableRng, rngs::StdRng};

const SOURCES: [(&str, &str); 2] =
    [("shim.c", include_str!("../powerloss/shim.c")), ("record.h", include_str!("../powerloss/record.h"))];

/// How the watched folder's storage misbehaves, from [`Shim::set`] on. Only the watched folder is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// Every sync fails with `EIO`. What such a sync should have covered counts as lost for good: as on Linux, a
    /// later sync that succeeds does not cover it.
    Eio,
    /// Every sync hangs until another fault is set.
    Stuck,
    /// Writes fail with `ENOSPC` once `after` more bytes are written; the one that crosses the limit is cut short.
    Enospc {
        /// Bytes that still fit; below 2^48.
        after: u64,
    },
    /// Every sync reports success and does nothing. To prove that a test notices a missing sync.
    Lying,
}

/// What a power failure does to names: creation, renaming and removal of files and folders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Metadata {
    /// As on ext4, XFS and btrfs: they survive in order, up to some point not before the last `fsync`.
    #[default]
    Ordered,
    /// As POSIX allows: a name survives for certain only once its folder was fsynced.
    Lost,
}

/// What a power failure did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Unsynced writes and truncations of which nothing is left.
    pub dropped: usize,
    /// Unsynced writes of which some sectors are left.
    pub torn: usize,
    /// Unsynced writes and truncations that survived whole.
    pub kept: usize,
    /// Files that had unsynced writes.
    pub files: usize,
    /// Changes of names that were undone.
    pub names: usize,
}

/// Watches one folder of one process at a time. What it knows is kept in `<folder>.shim/`.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    graves: PathBuf,
    control: PathBuf,
    faults: AtomicU8,
}

impl Shim {
    /// Prepares to watch `folder`, which need not exist, but its parent must. What is in it counts as durable.
    ///
    /// # Errors
    /// The shim cannot be compiled (see [`build_shim`]), or `<folder>.shim/` cannot be written.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
            return Err(io::Error::other("the watched folder needs a parent"));
        };
        let folder = parent.canonicalize()?.join(name);
        let mut state = folder.clone().into_os_string();
        state.push(".shim");
        let state = PathBuf::from(state);
        let shim = Self {
            library: build_shim()?,
            folder,
            log: state.join("log"),
            graves: state.join("log.graves"),
            control: state.join("control"),
            faults: AtomicU8::new(0),
        };
        fs::create_dir_all(&shim.graves)?;
        fs::write(&shim.control, [0; 8])?;
        shim.forget()?;
        Ok(shim)
    }

    /// Environment for the process to watch. It applies to the programs that one starts, too.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", &self.library),
            ("QUIP_SHIM_DIR", &self.folder),
            ("QUIP_SHIM_LOG", &self.log),
            ("QUIP_SHIM_CONTROL", &self.control),
        ]
        .map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
        .into()
    }

    /// Makes the storage misbehave from now on, also in a process that already runs.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn set(&self, fault: Fault) -> io::Result<()> {
        let (code, argument) = match fault {
            Fault::None => (0, 0),
            Fault::Eio => (1, 0),
            Fault::Stuck => (2, 0),
            Fault::Enospc { after } => (3, after.min((1 << 48) - 1)),
            Fault::Lying => (4, 0),
        };
        let count = self.faults.fetch_add(1, Ordering::Relaxed);
        let word = code << 56 | u64::from(count) << 48 | argument;
        fs::OpenOptions::new().write(true).open(&self.control)?.write_all_at(&word.to_le_bytes(), 0)
    }

    /// Rolls the folder back as a power failure would, with [`Metadata::Ordered`]. The process must be dead.
    ///
    /// # Errors
    /// As [`Shim::lose_power_with`].
    pub fn lose_power(&self, seed: u64) -> io::Result<Report> {
        self.lose_power_with(seed, Metadata::Ordered)
    }

    /// Rolls the folder back as a power failure would. The process must be dead. The same log and seed give the same
    /// result. What is left afterwards counts as durable; faults stay set.
    ///
    /// # Errors
    /// The log is not understood, or files cannot be read or written.
    pub fn lose_power_with(&self, seed: u64, metadata: Metadata) -> io::Result<Report> {
        let mut rng = StdRng::seed_from_u64(seed);
        let entries = log::parse(&fs::read(&self.log)?)?;
        let mut report = Report::default();
        if self.folder.exists() {
            let names = names::Names::scan(&self.folder, &self.graves)?;
            let undone = names::undone(&entries, metadata, &mut rng);
            report.names = undone.len();
            let after = names.clone().undo(&entries, &undone);
            for (inode, path) in names.files_of(&after) {
                if let Some(history) = content::History::of(&entries, inode) {
                    report.files += 1;
                    history.roll_back(&path, &mut rng, &mut report)?;
                }
            }
            if after != names {
                names.rebuild(&after, &self.folder)?;
            }
        }
        self.forget()?;
        Ok(report)
    }

    fn forget(&self) -> io::Result<()> {
        fs::write(&self.log, [])?;
        fs::remove_dir_all(&self.graves)?;
        fs::create_dir(&self.graves)
    }
}

/// Compiles the shim beside the running test program, once per version of its source.
///
/// # Errors
/// There is no `cc`, or it fails (on another architecture, say); the message has its output.
pub fn build_shim() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().map_or_else(env::temp_dir, Path::to_path_buf);
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    let library = folder.join(format!("libquip_shim-{:016x}.so", hasher.finish()));
    if library.exists() {
        return Ok(library);
    }
    // Other test processes may be building it as well: each builds its own, the last rename wins.
    let work = tempfile::tempdir_in(&folder)?;
    for (name, text) in SOURCES {
        fs::write(work.path().join(name), text)?;
    }
    let built = work.path().join("shim.so");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&built, &work.path().join(SOURCES[0].0)])
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("running `cc`, which the fault tests need: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("compiling tests/powerloss/shim.c: {text}")));
    }
    fs::rename(&built, &library)?;
    Ok(library)
}
