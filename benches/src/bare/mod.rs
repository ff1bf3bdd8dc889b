//! The bare forwarder: clients, one server process, frames over QUIC streams, nothing else.
//!
//! It has no protocol, no store and no second look at a message, so its latency is what the QUIC
//! library, the kernel and the scheduler cost on this machine.

mod clients;
mod fanout;
mod handshakes;
mod ingest;
mod pairs;
pub(crate) mod server;
mod wire;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use tokio::runtime::{Builder, Runtime};

pub(crate) use fanout::{measure as measure_fanout, run_once as run_fanout};
pub(crate) use handshakes::Handshakes;
pub(crate) use ingest::{measure as measure_ingest, run_once as run_ingest};
pub(crate) use pairs::{measure as measure_pairs, run_once as run_pairs};

use crate::{
    report::{Options, Report},
    transport::{Fingerprint, decode_pin},
};

/// Who sends to whom.
#[derive(Subcommand)]
pub(crate) enum Topology {
    /// Each sender to one receiver, open-loop: latency.
    Pairs(pairs::Args),
    /// Many senders, the server answers each message itself, closed-loop: throughput.
    Ingest(ingest::Args),
}

pub(crate) fn run(topology: &Topology, options: &Options) -> Result<Report> {
    match topology {
        Topology::Pairs(args) => pairs::run(args, options),
        Topology::Ingest(args) => ingest::run(args, options),
    }
}

/// The generator's runtime: one thread, so that it leaves the other processors to the server.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The QUIC library of the forwarder. The one of its clients is always quinn.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Library {
    Quinn,
    S2n,
}

impl Library {
    /// As on the command line of the forwarder.
    fn name(self) -> &'static str {
        match self {
            Self::Quinn => "quinn",
            Self::S2n => "s2n",
        }
    }
}

/// A running forwarder process; it ends with this value, or with the process that started it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) pin: Fingerprint,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(Library::Quinn)
    }

    pub(crate) fn start_with(library: Library) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let mut child = Command::new(program)
            .args(["bare-server", library.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare forwarder")?;
        let stdout = child.stdout.take().context("the bare forwarder has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some((address, pin)) = line.trim().split_once(' ') else {
            child.kill()?;
            bail!("expected the address of the bare forwarder, got {line:?}");
        };
        let (address, pin) = (address.parse()?, decode_pin(pin)?);
        Ok(Self { child, address, pin })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
