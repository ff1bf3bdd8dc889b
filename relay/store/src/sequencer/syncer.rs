//! Syncs the engine's journal behind what was committed, where no commit waits for it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::journal;

/// How often it syncs, if there is something new: by so much the log is ahead of the disk, and a restart after a power loss
/// folds so much again.
const PAUSE: Duration = Duration::from_millis(250);

/// A thread that syncs. It ends with its owner.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    _stop: mpsc::Sender<()>,
}

#[derive(Default)]
struct Shared {
    applied: AtomicU64,
    synced: AtomicU64,
    failed: OnceLock<io::Error>,
}

impl Syncer {
    /// Syncs the journals in the engine's folder.
    pub(super) fn start(folder: PathBuf) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = mpsc::channel();
        let seen = shared.clone();
        let work = move || {
            let mut journal = None;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let applied = seen.applied.load(Ordering::Acquire);
                if applied == seen.synced.load(Ordering::Relaxed) {
                    continue;
                }
                if let Err(error) = sync_newest(&folder, &mut journal) {
                    _ = seen.failed.set(error);
                    return;
                }
                seen.synced.store(applied, Ordering::Release);
            }
        };
        thread::Builder::new().name("quip-syncer".to_owned()).spawn(work)?;
        Ok(Self { shared, _stop: stop })
    }

    /// A commit up to this position was written.
    pub(super) fn applied(&self, position: u64) {
        self.shared.applied.store(position, Ordering::Release);
    }

    /// The position up to which commits survive a power loss.
    ///
    /// # Errors
    /// When a sync failed: what it should have covered may never reach the disk.
    pub(super) fn synced(&self) -> Result<u64, io::Error> {
        match self.shared.failed.get() {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(self.shared.synced.load(Ordering::Acquire)),
        }
    }
}

/// Through a descriptor of its own: the engine would hold the lock that commits need. Journals before the newest one were
/// synced by the engine when it began the next.
fn sync_newest(folder: &Path, open: &mut Option<(PathBuf, File)>) -> io::Result<()> {
    loop {
        let newest = journal::list(folder)?.pop().ok_or_else(|| io::Error::other("the engine has no journal"))?;
        let file = match open.take() {
            Some((path, file)) if path == newest => Ok(file),
            _ => File::open(&newest),
        };
        match file {
            // Meanwhile it became an older one, and the engine needs it no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                let file = file?;
                file.sync_data()?;
                *open = Some((newest, file));
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Looks until there is something to see; a test that hangs has failed.
    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_was_applied_is_synced_and_a_sync_that_fails_is_told_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0.jnl"), b"rows").unwrap();
        let syncer = Syncer::start(folder.path().to_owned()).unwrap();
        assert_eq!(syncer.synced().unwrap(), 0);
        syncer.applied(7);
        until(|| (syncer.synced().unwrap() == 7).then_some(()));
        // The engine has begun another journal and has no more need of the first.
        fs::write(folder.path().join("1.jnl"), b"rows").unwrap();
        fs::remove_file(folder.path().join("0.jnl")).unwrap();
        syncer.applied(9);
        until(|| (syncer.synced().unwrap() == 9).then_some(()));
        fs::remove_file(folder.path().join("1.jnl")).unwrap();
        syncer.applied(10);
        until(|| syncer.synced().err());
        assert!(syncer.synced().is_err(), "it stays failed");
    }
}
