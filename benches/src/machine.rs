//! The machine of the measurement.

use std::{fs, path::Path, thread};

use serde::Serialize;

/// The properties of the machine that matter for figures.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpus: usize,
    cpu_model: String,
    kernel: String,
    /// File system and device that hold the data of the run.
    storage: String,
    /// Load average over one minute when the report was made.
    load_1m: f64,
    /// Largest socket receive buffer that the kernel grants, in bytes.
    rmem_max: u64,
    build: &'static str,
}

impl Machine {
    /// Reads the properties; unreadable ones are "unknown" or 0, and not used in computations.
    pub(crate) fn describe(data: &Path) -> Self {
        Self {
            cpus: thread::available_parallelism().map_or(0, usize::from),
            cpu_model: cpu_model().unwrap_or_else(unknown),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            storage: storage(data).unwrap_or_else(unknown),
            load_1m: load().unwrap_or(0.0),
            rmem_max: read("/proc/sys/net/core/rmem_max").and_then(|text| text.parse().ok()).unwrap_or(0),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }

    /// Whether data is in memory, where a sync costs nothing.
    pub(crate) fn keeps_data_in_memory(&self) -> bool {
        self.storage.starts_with("tmpfs") || self.storage.starts_with("ramfs")
    }

    /// A summary in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} x {}, Linux {}, data on {}, load {:.2}, {} build",
            self.cpus, self.cpu_model, self.kernel, self.storage, self.load_1m, self.build
        )
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

/// The mount with the longest path that holds `data`.
fn storage(data: &Path) -> Option<String> {
    let data = data.canonicalize().ok()?;
    let mounts = read("/proc/self/mounts")?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
            data.starts_with(at).then(|| (at.len(), format!("{kind} ({device})")))
        })
        .max()
        .map(|(_, name)| name)
}
