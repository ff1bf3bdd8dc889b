//! `quip`: chat over a Quip relay, for people. [`ending::HELP`] lists the exit statuses.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "`out` is the only way there")]
#![allow(clippy::disallowed_methods, reason = "a program runs on the clock of the machine")]

use std::process::ExitCode;

use quip_client::Client;

mod advice;
mod args;
mod chat;
mod connect;
mod contact;
mod ending;
mod fate;
mod group;
mod history;
mod lines;
mod list;
mod login;
mod out;
mod people;
mod send;
mod show;
mod signals;
mod state;
mod stop;
mod tail;
mod target;

use advice::Advice;
use args::{Cli, Command, Common};
use login::{Login, Relay};
use signals::Signals;
use state::Places;
use stop::{Stop, Stopping, Watch};

fn main() -> ExitCode {
    let cli = Cli::read();
    log();
    ending::report(run(cli))
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let signals = Signals::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(execute(&cli.common, cli.command, signals));
    // A thread that blocks on standard input cannot be stopped, so do not wait for it.
    runtime.shutdown_background();
    result
}

async fn execute(common: &Common, command: Command, signals: Signals) -> anyhow::Result<()> {
    // The login comes first: without a data folder, its error is the more helpful one.
    let login = Login::find(common)?;
    let relay = Relay::find(common)?;
    let advice = Advice::new(&relay, &login);
    let result = connected(common, &relay, login, command, signals).await;
    result.map_err(|error| advice.add(error))
}

async fn connected(
    common: &Common,
    relay: &Relay,
    login: Login,
    command: Command,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let (client, places) = tokio::select! {
        biased;
        signal = signals.first() => return Err(unread(&command, Stop::Signal(signal).into())),
        connected = connect::connect(common, relay, login, command.follows()) => {
            connected.map_err(|error| unread(&command, error))?
        }
    };
    let watch = Watch {
        patience: common.wait.or(command.patience()),
        says: !matches!(command, Command::Chat(_)),
        winds_up: matches!(command, Command::Send(_) | Command::Chat(_)),
        is_read: !matches!(command, Command::Send(_)),
    };
    stop::supervise(&client, watch, signals, |stopping| perform(common, &client, command, &places, stopping)).await
}

/// What became of the lines of a command that had no relay.
fn unread(command: &Command, error: anyhow::Error) -> anyhow::Error {
    match command {
        Command::Send(args) if args.is_stream() => error.context("0 lines stored; standard input was not read"),
        _ => error,
    }
}

async fn perform(
    common: &Common,
    client: &Client,
    command: Command,
    places: &Places,
    stopping: Stopping,
) -> anyhow::Result<()> {
    match command {
        Command::Chat(args) => chat::run(common, client, &args, stopping).await,
        Command::Send(args) => send::run(common, client, &args, stopping).await,
        Command::Tail(args) => tail::run(common, client, &args, places).await,
        Command::History(args) => history::run(common, client, &args).await,
        Command::List => list::run(common, client).await,
        Command::Group { action } => group::run(common, client, action).await,
    }
}

/// Logs of the library are off unless RUST_LOG asks for them.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
