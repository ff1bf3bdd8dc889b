//! `quip-bench`: measures a relay, and beside it the floor it stands on: a forwarder without a
//! protocol (`bare`) and this machine's own group commit (`commit`).
//!
//! Loads that ask for latency are open-loop: every message has an intended send time, and latency
//! runs from that time to receipt, so a stall anywhere is counted in full.

mod bare;
mod commit;
mod load;
mod machine;
mod meter;
mod proc;
mod report;
mod saturate;
mod stats;
mod transport;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// The forwarder that `bare` starts as a process of its own.
    #[command(hide = true)]
    BareServer,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let report = match cli.scenario {
        Scenario::Bare(topology) => bare::run(&topology, &cli.output)?,
        Scenario::Commit(args) => commit::run(&args, &cli.output)?,
        Scenario::BareServer => return bare::server::run(),
    };
    report.print(&cli.output)
}
