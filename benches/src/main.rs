//! `quip-bench`: measures a relay, and beside it the floor it stands on: a forwarder without a
//! protocol (`bare`) and this machine's own group commit (`commit`).
//!
//! Loads that ask for latency are open-loop: every message has an intended send time, and latency
//! runs from that time to receipt, so a stall anywhere is counted in full.

mod bare;
mod commit;
mod guard;
mod link;
mod load;
mod machine;
mod meter;
mod proc;
mod relay;
mod report;
mod saturate;
mod scenario;
mod stats;
mod transport;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use scenario::{history, hol, idle, ingest, latency};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmark harness for the Quip relay.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    output: report::Options,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// The floor of the network: a forwarder over QUIC streams, without protocol or store.
    #[command(subcommand)]
    Bare(bare::Topology),
    /// The floor of the disk: one durable batch in the embedded store, and plain fdatasync.
    Commit(commit::Args),
    /// Durable delivery one to one, open-loop, beside `bare` and `commit` of the same minutes.
    Latency(latency::Args),
    /// Accepted durable messages a second, closed-loop, beside `bare`.
    Ingest(ingest::Args),
    /// Memory and CPU of connections on which nothing happens.
    Idle(idle::Args),
    /// A page of history, cached and cold, beside an empty page.
    History(history::Args),
    /// What quiet conversations feel of a bulk catch-up beside them over a lossy link; needs root.
    Hol(hol::Args),
    /// A bad network between two namespaces, to run a program behind it or to measure it; needs root.
    Link(link::Args),
    /// The forwarder that `bare` starts as a process of its own.
    #[command(hide = true)]
    BareServer,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if !matches!(cli.scenario, Scenario::BareServer) {
        guard::install()?;
    }
    let report = match cli.scenario {
        Scenario::Bare(topology) => bare::run(&topology, &cli.output)?,
        Scenario::Commit(args) => commit::run(&args, &cli.output)?,
        Scenario::Latency(args) => latency::run(&args, &cli.output)?,
        Scenario::Ingest(args) => ingest::run(&args, &cli.output)?,
        Scenario::Idle(args) => idle::run(&args, &cli.output)?,
        Scenario::History(args) => history::run(&args, &cli.output)?,
        Scenario::Hol(args) => hol::run(&args, &cli.output)?,
        Scenario::Link(args) => return link::run(&args, &cli.output),
        Scenario::BareServer => return bare::server::run().map(|()| ExitCode::SUCCESS),
    };
    report.print(&cli.output)?;
    Ok(ExitCode::SUCCESS)
}
