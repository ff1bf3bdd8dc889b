//! `quip-bench`: measures a relay and, for comparison, its floors: a forwarder without a protocol (`bare`) and the group
//! commit of this machine (`commit`).
//!
//! Latency is measured open-loop: every message has an intended send time, and latency runs from that time to receipt, so that
//! a stall anywhere counts in full.

mod bare;
mod check;
mod commit;
mod crowd;
mod framing;
mod guard;
mod link;
mod load;
mod machine;
mod memory_limit;
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
use scenario::{
    compare, fanout, history, hol, idle, ingest, latency, many, migrate, reconnect, replay, start, strangers, tail,
};

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
    /// The floor of the network: a QUIC forwarder without a protocol or a store.
    #[command(subcommand)]
    Bare(bare::Topology),
    /// The floor of the disk: a durable batch in the embedded store, and plain fdatasync.
    Commit(commit::Args),
    /// Latency of durable one-to-one delivery, open-loop, with `bare` and `commit` interleaved.
    Latency(latency::Args),
    /// The slowest messages of a long run, with the activity of the store and the disk at that time.
    Tail(tail::Args),
    /// Accepted durable messages per second, closed-loop, with `bare` interleaved.
    Ingest(ingest::Args),
    /// Cost of a delivery in a room with one sender and many members, with `bare` interleaved.
    Fanout(fanout::Args),
    /// Thousands of small conversations with the message pattern of an IRC channel.
    Many(many::Args),
    /// Memory and CPU of idle connections.
    Idle(idle::Args),
    /// A reconnect storm: the time until all clients are back and caught up.
    Reconnect(reconnect::Args),
    /// Latency beside strangers whose logins are refused, at a relay whose log nobody reads.
    Strangers(strangers::Args),
    /// A client that changes its port or address while sending: the gap in delivery.
    Migrate(migrate::Args),
    /// Latency of a page of history, cached and cold, and of an empty page.
    History(history::Args),
    /// Time to start with a store of many messages, after an orderly end and after a kill under full load, and peak memory.
    Start(start::Args),
    /// Latency of quiet conversations beside a bulk catch-up over a lossy link; needs root.
    Hol(hol::Args),
    /// The same load on other systems, side by side.
    ///
    /// Wire bytes are counted for the whole network namespace. To exclude other traffic, run it with
    /// `unshare -n sh -c 'ip link set lo up && quip-bench compare'`.
    Compare(compare::Args),
    /// IRC logs replayed by real clients on a running relay, with every delivery checked.
    Replay(replay::Args),
    /// An emulated network link between two namespaces, for a program or to measure it; needs root.
    Link(link::Args),
    /// The forwarder process that `bare` starts.
    #[command(hide = true)]
    BareServer {
        #[arg(value_enum)]
        library: bare::Library,
    },
}

impl Scenario {
    /// The default number of runs, which end within a minute with the scenario's other defaults.
    fn runs(&self) -> u32 {
        match self {
            // One run takes most of a minute.
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
    if !matches!(cli.scenario, Scenario::BareServer { .. }) {
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
        Scenario::Start(args) => start::run(&args, &cli.output)?,
        Scenario::Reconnect(args) => reconnect::run(&args, &cli.output)?,
        Scenario::Strangers(args) => strangers::run(&args, &cli.output)?,
        Scenario::Migrate(args) => migrate::run(&args, &cli.output)?,
        Scenario::Hol(args) => hol::run(&args, &cli.output)?,
        Scenario::Compare(args) => return compare::run(&args, &cli.output),
        Scenario::Replay(args) => return replay::run(&args, &cli.output),
        Scenario::Link(args) => return link::run(&args, &cli.output),
        Scenario::BareServer { library } => return bare::server::run(library).map(|()| ExitCode::SUCCESS),
    };
    report.print(&cli.output)?;
    report.plot(&cli.output)?;
    if !report.is_sound() {
        eprintln!("messages were lost, duplicated or reordered: see the report");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
