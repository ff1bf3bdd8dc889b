//! `quip-bench`: measures a relay, and beside it the floor it stands on: a forwarder without a
//! protocol (`bare`) and this machine's own group commit (`commit`).
//!
//! Loads that ask for latency are open-loop: every message has an intended send time, and latency
//! runs from that time to receipt, so a stall anywhere is counted in full.

mod bare;
mod check;
mod commit;
mod crowd;
mod framing;
mod guard;
mod link;
mod load;
mod machine;
mod meter;
mod peer;
mod plot;
mod proc;
mod progress;
mod relay;
mod report;
mod room;
mod saturate;
mod scenario;
mod slices;
mod stats;
mod table;
mod token;
mod transport;
mod void;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use scenario::{compare, fanout, history, hol, idle, ingest, latency, many, migrate, reconnect, replay, tail};

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
    /// The slowest messages of a long durable run, beside what the relay's store and the disk did then.
    Tail(tail::Args),
    /// Accepted durable messages a second, closed-loop, beside `bare`.
    Ingest(ingest::Args),
    /// One room with one sender and many members: what each delivery costs, beside `bare`.
    Fanout(fanout::Args),
    /// Thousands of small conversations between people who talk as in a chat channel.
    Many(many::Args),
    /// Memory and CPU of connections on which nothing happens.
    Idle(idle::Args),
    /// Many clients that are lost at once: until all are back and caught up, and nothing lost.
    Reconnect(reconnect::Args),
    /// A client that changes its port or address while it talks: the gap, and nothing lost.
    Migrate(migrate::Args),
    /// A page of history, cached and cold, beside an empty page.
    History(history::Args),
    /// What quiet conversations feel of a bulk catch-up beside them over a lossy link; needs root.
    Hol(hol::Args),
    /// The same load on what people would use instead, side by side.
    ///
    /// Wire bytes are counted for the whole network namespace: with
    /// `unshare -n sh -c 'ip link set lo up && quip-bench compare'` nobody else is in it.
    Compare(compare::Args),
    /// Real IRC logs on real clients of a relay that runs already, with every delivery checked.
    Replay(replay::Args),
    /// A bad network between two namespaces, to run a program behind it or to measure it; needs root.
    Link(link::Args),
    /// The forwarder that `bare` starts as a process of its own.
    #[command(hide = true)]
    BareServer,
}

impl Scenario {
    /// Runs that end within a minute with the scenario's other defaults, where nobody says how many there shall be.
    fn runs(&self) -> u32 {
        match self {
            // One run has the better part of a minute.
            Self::Tail(_) | Self::Hol(_) | Self::Compare(_) => 1,
            Self::Latency(_) | Self::Idle(_) => 3,
            Self::Ingest(_) | Self::History(_) | Self::Commit(_) => 4,
            _ => report::RUNS,
        }
    }
}

fn main() -> Result<ExitCode> {
    let mut cli = Cli::parse();
    cli.output.runs.get_or_insert(cli.scenario.runs());
    if !matches!(cli.scenario, Scenario::BareServer) {
        guard::install()?;
    }
    check::plant(cli.output.plant);
    let report = match cli.scenario {
        Scenario::Bare(topology) => bare::run(&topology, &cli.output)?,
        Scenario::Commit(args) => commit::run(&args, &cli.output)?,
        Scenario::Latency(args) => latency::run(&args, &cli.output)?,
        Scenario::Tail(args) => tail::run(&args, &cli.output)?,
        Scenario::Ingest(args) => ingest::run(&args, &cli.output)?,
        Scenario::Fanout(args) => fanout::run(&args, &cli.output)?,
        Scenario::Many(args) => many::run(&args, &cli.output)?,
        Scenario::Idle(args) => idle::run(&args, &cli.output)?,
        Scenario::History(args) => history::run(&args, &cli.output)?,
        Scenario::Reconnect(args) => reconnect::run(&args, &cli.output)?,
        Scenario::Migrate(args) => migrate::run(&args, &cli.output)?,
        Scenario::Hol(args) => hol::run(&args, &cli.output)?,
        Scenario::Compare(args) => return compare::run(&args, &cli.output),
        Scenario::Replay(args) => return replay::run(&args, &cli.output),
        Scenario::Link(args) => return link::run(&args, &cli.output),
        Scenario::BareServer => return bare::server::run().map(|()| ExitCode::SUCCESS),
    };
    report.print(&cli.output)?;
    report.plot(&cli.output)?;
    if !report.is_sound() {
        eprintln!("messages were lost, came twice or out of order: see the report");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
