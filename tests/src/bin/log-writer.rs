//! A log of commands to cut the power of: `log-writer write FOLDER FIRST` orders commands and prints the position of each once
//! it is durable; `log-writer check FOLDER LAST` opens what is left, checks that every command up to the last one is there, and
//! prints where the log ends.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use quip_core::{Action, Authority, By, Command};
use quip_order::{Batch, BatchLimit, EmbeddedConfig, LOG_BYTES_MIN, Next, Order, Positions, Submit, embedded};
use quip_protocol::ConversationId;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", folder, first] => write(&PathBuf::from(folder), first.parse()?),
        ["check", folder, last] => check(&PathBuf::from(folder), last.parse()?),
        _ => Err(anyhow::anyhow!("usage: log-writer write FOLDER FIRST | check FOLDER LAST")),
    }
}

fn open(folder: &Path) -> Result<(impl Submit, Box<dyn Order>)> {
    let config = EmbeddedConfig { log_bytes: LOG_BYTES_MIN, ..EmbeddedConfig::default() };
    let (submit, order) = embedded(folder, config)?;
    Ok((std::sync::Arc::into_inner(submit).context("nobody else submits")?, order))
}

/// The command at a position: a little more than a sector, so that a torn one shows.
fn command(position: u64) -> Command {
    let body = position.to_be_bytes().repeat(100).into();
    let action = Action::Post { kind: 1, body };
    Command { conversation: ConversationId::group([7; 15]), by: By::Relay, authority: Authority::default(), action }
}

fn write(folder: &Path, first: u64) -> Result<()> {
    let (submit, mut order) = open(folder)?;
    let last = order.start(&Positions::from_iter([first.saturating_sub(1)]))?;
    let mut batch = Batch::default();
    // What was there beyond it comes first.
    let mut next = first;
    while next <= last.of(0) {
        order.next_batch(BatchLimit::default(), &mut batch)?;
        next += batch.commands.len() as u64;
    }
    for position in next.. {
        submit.submit(command(position))?;
        while order.next_batch(BatchLimit::default(), &mut batch)? == Next::Full {
            order.checkpoint(&Positions::from_iter([position - 1]))?;
        }
        ensure!(batch.commands.iter().map(|ordered| ordered.position).eq([position]), "another position");
        let mut out = std::io::stdout();
        writeln!(out, "{position}")?;
        out.flush()?;
    }
    Ok(())
}

fn check(folder: &Path, last: u64) -> Result<()> {
    let (submit, mut order) = open(folder)?;
    // The log keeps at least so much of its end.
    let after = last.saturating_sub(50);
    let head = order.start(&Positions::from_iter([after]))?.of(0);
    ensure!(head >= last, "{last} was durable, and the log ends at {head}");
    submit.close();
    let (mut batch, mut next) = (Batch::default(), after + 1);
    while order.next_batch(BatchLimit::default(), &mut batch)? == Next::Batch {
        for ordered in &batch.commands {
            ensure!(ordered.position == next && ordered.command == command(next), "not the command {next}");
            next += 1;
        }
    }
    ensure!(next == head + 1, "the log says that it ends at {head}, and it ends at {}", next - 1);
    println!("{head}");
    Ok(())
}
