//! `quip`: chat over a Quip relay, for people. Exits with 0 on success, 1 on failure and 2 on a wrong command line.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "`out` is the only way there")]
#![allow(clippy::disallowed_methods, reason = "a program runs on the clock of the machine")]

use std::process::ExitCode;

use clap::Parser;

mod args;
mod chat;
mod connect;
mod group;
mod history;
mod list;
mod login;
mod out;
mod people;
mod send;
mod show;
mod tail;
mod target;

use args::{Cli, Command, Common};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::note(format!("error: {}", show::failure(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(execute(&cli.common, cli.command));
    // A thread that blocks on standard input cannot be stopped, so do not wait for it.
    runtime.shutdown_background();
    result
}

async fn execute(common: &Common, command: Command) -> anyhow::Result<()> {
    let client = connect::connect(common).await?;
    let result = match command {
        Command::Chat(args) => chat::run(common, &client, &args).await,
        Command::Send(args) => send::run(common, &client, &args).await,
        Command::Tail(args) => tail::run(common, &client, &args).await,
        Command::History(args) => history::run(common, &client, &args).await,
        Command::List => list::run(common, &client).await,
        Command::Group { action } => group::run(common, &client, action).await,
    };
    // Also after an error: a connection that is not closed counts as one, and its user as online, until its idle timeout.
    client.close().await;
    result
}

/// Logs of the library are off unless RUST_LOG asks for them.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
