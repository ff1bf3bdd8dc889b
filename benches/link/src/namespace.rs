//! An unnamed network namespace, which disappears with its last user, even after a crash.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    os::fd::AsRawFd,
    panic::resume_unwind,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::link::StartError;

/// The one device of a side, apart from loopback.
const DEVICE: &str = "link";
/// Bytes of the largest IP packet, as on Ethernet.
pub(crate) const MTU: u16 = 1500;
/// Packets that the kernel keeps for the forwarder while it is at work.
const KERNEL_QUEUE: u32 = 10_000;

/// One side of a link: a network of its own with loopback and one address on the link.
///
/// Sockets belong to the namespace in which they are made, wherever they are used afterwards. So one
/// runtime serves both sides with sockets from [`Namespace::run`].
#[derive(Debug)]
pub struct Namespace {
    net: File,
    address: Ipv4Addr,
}

impl Namespace {
    /// A new namespace with a device of `address` in it.
    pub(crate) fn new(address: Ipv4Addr) -> Result<(Self, SyncDevice), StartError> {
        let made = thread::scope(|scope| scope.spawn(|| make(address)).join());
        made.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The address that the other side reaches.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives the device one more address within 198.18.0.0/24.
    ///
    /// # Errors
    /// When there is such an address already, or no such network.
    pub fn add_address(&self, address: Ipv4Addr) -> io::Result<()> {
        self.run(|| ip(&format!("address add {address}/24 dev {DEVICE}\n")))?
    }

    /// A file that stands for the namespace as long as the link lives: `nsenter --net=FILE` enters it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd()).into()
    }

    /// Runs `work` on a thread within the namespace and waits for it. Threads and processes that it
    /// starts, and sockets that it makes, are within the namespace too.
    ///
    /// # Errors
    /// When the thread cannot enter, which needs root.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let entered = || -> io::Result<T> {
            setns(&self.net, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a process within the namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())?
    }

    /// Sets one of the namespace's own `net.` settings, such as `ipv4/tcp_rmem`.
    ///
    /// # Errors
    /// When there is no such setting or value.
    pub fn set(&self, setting: &str, value: &str) -> io::Result<()> {
        self.run(|| fs::write(format!("/proc/sys/net/{setting}"), value))?
    }

    /// Sets the congestion control of TCP connections over the link that begin from now on and ask for none themselves.
    ///
    /// It is the route's: a namespace's own default may only be one that the kernel lets everyone have.
    ///
    /// # Errors
    /// When the kernel has none of that name.
    pub fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        let route = format!("198.18.0.0/24 dev {DEVICE} proto kernel scope link src {}", self.address);
        self.run(|| ip(&format!("route replace {route} congctl {name}\n")))?
    }

    /// Packets that the kernel did not get rid of to the forwarder, and those it did not take from it.
    pub(crate) fn kernel_drops(&self) -> io::Result<(u64, u64)> {
        // `self` would be the process's first thread, which is in another namespace.
        let devices = self.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        drops(&devices).ok_or_else(|| io::Error::other("unexpected content of /proc/net/dev"))
    }
}

fn make(address: Ipv4Addr) -> Result<(Namespace, SyncDevice), StartError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| StartError::needs("a network namespace", error.into()))?;
    let net = File::open("/proc/thread-self/ns/net").map_err(StartError::Namespace)?;
    // Nobody asked for the neighbour and router discovery of IPv6, and its packets would take dice.
    if fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").map_err(StartError::Namespace)?;
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").map_err(StartError::Namespace)?;
    }
    let device = DeviceBuilder::new().name(DEVICE).mtu(MTU).tx_queue_len(KERNEL_QUEUE).build_sync();
    let device = device.map_err(|error| StartError::needs("a TUN device", error))?;
    device.set_nonblocking(true).map_err(StartError::Namespace)?;
    ip(&format!("link set lo up\naddress add {address}/24 dev {DEVICE}\n")).map_err(StartError::Ip)?;
    Ok((Namespace { net, address }, device))
}

/// Runs commands of iproute2 in this thread's namespace.
fn ip(commands: &str) -> io::Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("it is piped").write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The columns of dropped packets, out and in, of the link's device.
fn drops(devices: &str) -> Option<(u64, u64)> {
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix(DEVICE)?.strip_prefix(':'))?;
    let columns: Vec<u64> = line.split_whitespace().map(|column| column.parse().ok()).collect::<Option<_>>()?;
    Some((*columns.get(11)?, *columns.get(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_the_twelfth_and_the_fourth_column() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n  \
                    link: 10 2 0 7 0 0 0 0 20 3 0 9 0 0 0 0\n";
        assert_eq!(drops(text), Some((9, 7)));
        assert_eq!(drops("    lo: 1 1\n"), None);
    }
}
