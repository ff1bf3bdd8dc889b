//! A smaller state file, written and synced by a thread of its own.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

use super::{format, place::Place};

/// A file that is being filled with what another one held when it was `from` bytes long.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The new file, which nobody else writes to once the thread is done.
    pub(super) file: File,
    /// How much of the old file it stands for.
    pub(super) from: u64,
    length: Receiver<io::Result<u64>>,
}

impl Snapshot {
    /// Begins one of the file in its place.
    pub(super) fn begin(place: &Place, from: u64) -> io::Result<Self> {
        let old = File::open(place.path())?;
        Self::spawn(place, from, move |new| write(old, from, new))
    }

    /// The thread has files only, no names: what it does late harms no store that was opened since.
    pub(super) fn spawn(
        place: &Place,
        from: u64,
        work: impl FnOnce(File) -> io::Result<u64> + Send + 'static,
    ) -> io::Result<Self> {
        let file = place.create_new()?;
        let new = file.try_clone()?;
        let (done, length) = sync_channel(1);
        thread::Builder::new().name("quip-state".to_owned()).spawn(move || done.send(work(new)))?;
        Ok(Self { file, from, length })
    }

    /// The length of the new file when it is synced; `None` until then.
    pub(super) fn poll(&self) -> Option<io::Result<u64>> {
        match self.length.try_recv() {
            Ok(length) => Some(length),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the thread that wrote it has failed"))),
        }
    }
}

/// Writes what the old file holds in its first bytes, and syncs; returns the length.
pub(super) fn write(old: File, from: u64, mut new: File) -> io::Result<u64> {
    let mut bytes = Vec::new();
    old.take(from).read_to_end(&mut bytes)?;
    let content = format::read(&bytes).map_err(io::Error::other)?;
    if content.length as u64 != from {
        return Err(io::Error::other("the file is shorter than what was written to it"));
    }
    let bytes = format::file(&content.saved);
    new.write_all(&bytes)?;
    new.sync_all()?;
    Ok(bytes.len() as u64)
}
