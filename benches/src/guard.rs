//! Ends processes and removes their data when the harness is told to end: no destructor runs then.

use std::{
    fs,
    path::PathBuf,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// What the shell reports of a program that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// A process, and the folder that goes with it.
#[derive(Clone, PartialEq)]
pub(crate) struct Guarded {
    pub(crate) pid: Pid,
    pub(crate) data: Option<PathBuf>,
}

static GUARDED: Mutex<Vec<Guarded>> = Mutex::new(Vec::new());

/// From now on an interrupt or SIGTERM ends what is guarded, and then the harness.
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
        end(&guarded());
        process::exit(INTERRUPTED);
    });
    Ok(())
}

/// Guards a process until [`release`].
pub(crate) fn guard(process: Guarded) {
    guarded().push(process);
}

/// Leaves a process to whoever holds it.
pub(crate) fn release(process: &Guarded) {
    guarded().retain(|guarded| guarded != process);
}

fn end(processes: &[Guarded]) {
    for Guarded { pid, data } in processes {
        // It may have ended by itself, and nobody is left to be told.
        let _ = kill_process(*pid, Signal::KILL);
        let _ = data.as_ref().map(fs::remove_dir_all);
    }
}

fn guarded() -> MutexGuard<'static, Vec<Guarded>> {
    GUARDED.lock().unwrap_or_else(PoisonError::into_inner)
}
