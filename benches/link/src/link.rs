//! Two namespaces with a bad network between them.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use crate::{
    forward::{Forwarder, Lines, lock},
    line::Line,
    namespace::Namespace,
    params::{Params, ParamsError},
    stats::Counts,
    wire::Direction,
};

/// The near side's address: 198.18.0.0/15 is set aside for measurements (RFC 2544).
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// A running link. Its namespaces and devices end with it, or with the process, however that ends.
#[derive(Debug)]
pub struct Link {
    /// Where clients run.
    pub near: Namespace,
    /// Where servers run.
    pub far: Namespace,
    lines: Lines,
    forwarder: Forwarder,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The parameters make none.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Only root may make namespaces and devices.
    #[error("{what} needs root: run it with sudo, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN")]
    NotRoot {
        /// What was refused.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no TUN devices.
    #[error("no /dev/net/tun: run `modprobe tun`, or give the container the device")]
    NoTun(#[source] io::Error),
    /// `ip` failed.
    #[error("`ip` of iproute2 could not set up the link")]
    Ip(#[source] io::Error),
    /// A namespace cannot be set up.
    #[error("could not set up the namespace of a link")]
    Namespace(#[source] io::Error),
    /// The forwarder has no thread.
    #[error("could not start the thread of the link")]
    Thread(#[source] io::Error),
}

/// Why statistics are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// A device failed under the forwarder; nothing is carried any more.
    #[error("the link failed and carries no more packets")]
    Broken,
    /// The kernel's own counters cannot be read.
    #[error("could not read the counters of the link's devices")]
    Counters(#[from] io::Error),
}

impl StartError {
    /// Whether a link is impossible here, as opposed to wrong: a test may skip.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::NotRoot { .. } | Self::NoTun(_))
    }

    pub(crate) fn needs(what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotRoot { what, source },
            io::ErrorKind::NotFound => Self::NoTun(source),
            _ => Self::Namespace(source),
        }
    }
}

impl Link {
    /// Starts a link with the same parameters each way. Chance follows `seed`, each way apart.
    ///
    /// # Errors
    /// When the parameters make no link, or this process may make none.
    pub fn start(params: &Params, seed: u64) -> Result<Self, StartError> {
        params.check()?;
        let (near, near_device) = Namespace::new(NEAR)?;
        let (far, far_device) = Namespace::new(FAR)?;
        let lines = Direction::BOTH.map(|direction| Line::new(params.clone(), seed, direction));
        let lines = Arc::new(Mutex::new(lines));
        let forwarder = Forwarder::start(near_device, far_device, Arc::clone(&lines)).map_err(StartError::Thread)?;
        Ok(Self { near, far, lines, forwarder })
    }

    /// Gives packets from now on other parameters. Those under way keep their fate.
    ///
    /// # Errors
    /// When the parameters make no link; nothing changes then.
    pub fn set(&self, direction: Direction, params: &Params) -> Result<(), ParamsError> {
        params.check()?;
        lock(&self.lines)[direction as usize].set(params.clone());
        Ok(())
    }

    /// What happened so far in one direction.
    ///
    /// # Errors
    /// When the link does not work any more.
    pub fn counts(&self, direction: Direction) -> Result<Counts, StatsError> {
        if self.forwarder.is_broken() {
            return Err(StatsError::Broken);
        }
        let mut counts = lock(&self.lines)[direction as usize].counts.clone();
        let (from, to) = match direction {
            Direction::Up => (&self.near, &self.far),
            Direction::Down => (&self.far, &self.near),
        };
        let ((not_sent, _), (_, not_taken)) = (from.kernel_drops()?, to.kernel_drops()?);
        counts.kernel_dropped = not_sent + not_taken;
        Ok(counts)
    }
}
