//! What the threads of a relay did, as Linux counts it.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{relay::Relay, talk::until};

impl Relay {
    /// How often threads of this name have read from a file, by `read` or the like.
    ///
    /// # Errors
    /// When there is no such thread, or the system does not count.
    pub fn file_reads(&self, thread: &str) -> Result<u64> {
        self.sum(thread, "io", "syscr:")
    }

    /// Waits until all threads of this name sleep, and says how often they have gone to sleep. Those that are given nothing
    /// to do do not.
    ///
    /// # Errors
    /// When there is no such thread, or it does not come to rest.
    pub async fn sleeps(&self, thread: &str) -> Result<u64> {
        let mut sleeps = 0;
        until("the threads sleep", async || {
            let awake = self.counters(thread, "status", "State:")?.iter().any(|state| !state.starts_with('S'));
            sleeps = self.sum(thread, "status", "voluntary_ctxt_switches:")?;
            Ok(!awake)
        })
        .await?;
        Ok(sleeps)
    }

    fn sum(&self, thread: &str, file: &str, counter: &str) -> Result<u64> {
        self.counters(thread, file, counter)?.iter().map(|value| Ok(value.parse::<u64>()?)).sum()
    }

    /// A line of a file of all threads whose names begin so.
    fn counters(&self, thread: &str, file: &str, counter: &str) -> Result<Vec<String>> {
        let tasks = format!("/proc/{}/task", self.pid().context("the relay is not running")?);
        let mut values = Vec::new();
        for task in fs::read_dir(&tasks)? {
            let task = task?.path();
            // Other threads come and go.
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(thread)) {
                let text = fs::read_to_string(task.join(file))?;
                let value = text.lines().find_map(|line| line.strip_prefix(counter)).context(text.clone())?;
                values.push(value.trim().to_owned());
            }
        }
        ensure!(!values.is_empty(), "no thread {thread} in {tasks}");
        Ok(values)
    }
}
