//! Ends processes and removes their data on a signal, when no destructor runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Child},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The exit status that shells report after an interrupt.
const INTERRUPTED: i32 = 130;

/// A process and its data folder.
struct Guarded {
    pid: Pid,
    /// Ends it at once.
    stop: Signal,
    data: Option<PathBuf>,
}

static GUARDED: Mutex<Vec<Guarded>> = Mutex::new(Vec::new());

/// Installs a handler of interrupt and SIGTERM, which ends guarded processes and then the harness.
pub(crate) fn install() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Held to the end, so that no process is started in between.
        let guarded = guarded();
        end(&guarded);
        process::exit(INTERRUPTED);
    });
    Ok(())
}

/// Starts a process, guarded until [`release`].
pub(crate) fn start(data: Option<&Path>, stop: Signal, spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let mut guarded = guarded();
    let child = spawn()?;
    guarded.push(Guarded { pid: Pid::from_child(&child), stop, data: data.map(Path::to_owned) });
    Ok(child)
}

/// Stops guarding a process.
pub(crate) fn release(child: &Child) {
    let pid = Pid::from_child(child);
    guarded().retain(|guarded| guarded.pid != pid);
}

fn end(processes: &[Guarded]) {
    for Guarded { pid, stop, data } in processes {
        // It may have ended by itself; errors cannot be reported here.
        let _ = kill_process(*pid, *stop);
        let _ = data.as_ref().map(fs::remove_dir_all);
    }
}

fn guarded() -> MutexGuard<'static, Vec<Guarded>> {
    GUARDED.lock().unwrap_or_else(PoisonError::into_inner)
}
