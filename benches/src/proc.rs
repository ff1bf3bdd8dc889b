//! CPU time and memory of processes, read from `/proc` (Linux only).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc/*/stat`; the kernel's ABI fixes it for user space.
const TICKS_PER_SECOND: u64 = 100;

/// A process's user and system time so far, exact to 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    parse_stat(&stat).with_context(|| format!("unexpected content of {path}"))
}

/// As [`cpu_time`], with the processes that it started, also those that have ended.
pub(crate) fn cpu_time_of_all(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let own = parse_stat(&stat).zip(parse_ended(&stat)).with_context(|| format!("unexpected content of {path}"))?;
    // One that ends meanwhile is missing, and counts as ended from the next look on.
    let running = children(pid)?.into_iter().filter_map(|child| cpu_time(child).ok());
    Ok(running.fold(own.0 + own.1, |sum, time| sum + time))
}

/// Processes that a process has started.
fn children(pid: u32) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("/proc")?;
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        // One that has ended is none.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        parse_parent(&stat) == Some(pid)
    };
    Ok(ids.filter(is_child).collect())
}

/// Time the whole machine was not idle, over all CPUs; includes time stolen by the hypervisor.
pub(crate) fn machine_busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    parse_machine(&stat).context("unexpected content of /proc/stat")
}

/// Bytes that a process has read from the disk itself, not from the page cache.
pub(crate) fn disk_reads(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/io");
    let io = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    let bytes = field.and_then(|bytes| bytes.trim().parse().ok());
    bytes.with_context(|| format!("unexpected content of {path}"))
}

/// Datagrams that the kernel threw away because the receive buffer of the sockets on `port` was full; 0 if there are none.
pub(crate) fn udp_drops(port: u16) -> Result<u64> {
    let sockets = fs::read_to_string("/proc/net/udp").context("/proc/net/udp")?;
    Ok(parse_drops(&sockets, port))
}

/// Bytes of IP packets that left this network namespace so far, loopback and headers of IP in them.
pub(crate) fn ip_bytes_sent() -> Result<u64> {
    let path = "/proc/self/net/netstat";
    let counters = fs::read_to_string(path).context(path)?;
    parse_netstat(&counters, "IpExt:", "OutOctets").with_context(|| format!("unexpected content of {path}"))
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident pages.
    pub(crate) rss: u64,
    /// Largest `rss` so far.
    pub(crate) rss_peak: u64,
    /// Resident pages that belong to this process alone and were written.
    pub(crate) private_dirty: u64,
    /// Resident pages, each divided by the number of processes that have it.
    proportional: u64,
}

/// Reads `/proc/PID/status` and `/proc/PID/smaps_rollup`.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).context(path)
    };
    let (status, smaps) = (read("status")?, read("smaps_rollup")?);
    let field = |text: &str, name: &str| kilobytes(text, name).with_context(|| format!("no {name} for process {pid}"));
    Ok(Memory {
        rss: field(&smaps, "Rss:")?,
        rss_peak: field(&status, "VmHWM:")?,
        private_dirty: field(&smaps, "Private_Dirty:")?,
        proportional: field(&smaps, "Pss:")?,
    })
}

fn parse_parent(stat: &str) -> Option<u32> {
    fields(stat)?.get(1)?.parse().ok()
}

/// As [`memory`], and in `rss` the share of the processes that it started in their pages.
pub(crate) fn memory_of_all(pid: u32) -> Result<Memory> {
    let own = memory(pid)?;
    let children = children(pid)?.into_iter().filter_map(|child| memory(child).ok());
    let rss = own.rss + children.map(|memory| memory.proportional).sum::<u64>();
    Ok(Memory { rss, rss_peak: own.rss_peak.max(rss), ..own })
}

/// A process's own time.
fn parse_stat(stat: &str) -> Option<Duration> {
    parse_times(stat, 11)
}

/// The time of its children that have ended.
fn parse_ended(stat: &str) -> Option<Duration> {
    parse_times(stat, 13)
}

/// User and system time, which begin at a field.
fn parse_times(stat: &str, first: usize) -> Option<Duration> {
    let fields = fields(stat)?;
    let user: u64 = fields.get(first)?.parse().ok()?;
    let system: u64 = fields.get(first + 1)?.parse().ok()?;
    Some(ticks(user + system))
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything in its parentheses.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn parse_machine(stat: &str) -> Option<Duration> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = all.split_whitespace().map(|field| field.parse().ok()).collect::<Option<_>>()?;
    // user nice system idle iowait irq softirq steal; guest time is already within user.
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|&i| fields.get(i)).sum::<Option<u64>>()?;
    Some(ticks(busy))
}

fn parse_drops(sockets: &str, port: u16) -> u64 {
    let ending = format!(":{port:04X}");
    let ours = sockets.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&ending)));
    ours.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// A counter of a group, whose names stand in one line and its values in the next.
fn parse_netstat(counters: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(known, _)| *known == name);
    found?.1.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        process::{Command, Stdio},
        thread,
        time::Instant,
    };

    use super::*;

    #[test]
    fn stat_with_parentheses_in_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 10 0 0 0 150 25 30 1 20 0 1 0 9 9 9";
        assert_eq!(parse_stat(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse_ended(stat), Some(Duration::from_millis(310)));
    }

    #[test]
    fn machine_time_leaves_out_idle_and_iowait() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9 9";
        assert_eq!(parse_machine(stat), Some(Duration::from_millis(630)));
    }

    #[test]
    fn drops_are_those_of_the_port() {
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  1: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7 2 0000 12
  2: 0100007F:1152 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 8 2 0000 5";
        assert_eq!((parse_drops(sockets, 0x1151), parse_drops(sockets, 0x1152), parse_drops(sockets, 1)), (12, 5, 0));
    }

    #[test]
    fn counters_stand_below_their_names() {
        let counters = "TcpExt: OutOctets\nTcpExt: 1\nIpExt: InOctets OutOctets\nIpExt: 2 3\n";
        assert_eq!(parse_netstat(counters, "IpExt:", "OutOctets"), Some(3));
        assert_eq!(parse_netstat(counters, "IpExt:", "Nothing"), None);
    }

    #[test]
    fn a_child_counts_while_it_runs_and_after() {
        let busy = tempfile::NamedTempFile::new().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "while [ -e \"$0\" ]; do :; done & wait; read end"]).arg(busy.path());
        let mut server = shell.stdin(Stdio::piped()).spawn().unwrap();
        let pid = server.id();
        let used = Duration::from_millis(100);
        until(|| cpu_time_of_all(pid).unwrap() > used);
        assert_eq!(children(pid).unwrap().len(), 1);
        assert!(cpu_time(pid).unwrap() < used);
        assert!(memory_of_all(pid).unwrap().rss > memory(pid).unwrap().rss);
        drop(busy);
        until(|| children(pid).unwrap().is_empty());
        assert!(cpu_time(pid).unwrap() < used);
        assert!(cpu_time_of_all(pid).unwrap() > used);
        drop(server.stdin.take());
        server.wait().unwrap();
    }

    fn until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(30), "too slow");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn this_process_can_be_read() {
        ip_bytes_sent().unwrap();
        let pid = std::process::id();
        cpu_time(pid).unwrap();
        disk_reads(pid).unwrap();
        let memory = memory(pid).unwrap();
        assert!(memory.rss > 0 && memory.rss_peak >= memory.private_dirty);
    }
}
