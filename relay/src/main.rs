//! `quip-relay`: the relay's binary. It exits with 0 when all went well, 1 when something failed, and 2 when the command
//! line or the config file is wrong.

use std::{io::Write, path::Path, process::ExitCode};

use clap::Parser;
use quip_relay::{
    config::{AuthConfig, Config, ConfigError, EXAMPLE, KeySource},
    logging,
    serve::{self, Started},
};

mod cli;

use cli::{Cli, Command};

/// What one thread of the relay allocates, others free: glibc's allocator does that under a lock, and tidies up meanwhile.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let ended = run(Cli::parse().command());
    if let Err(error) = &ended {
        logging::say(&format!("error: {error:#}\n"));
    }
    logging::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ConfigError>() => ExitCode::from(2),
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve(args.load()?),
        Command::Check { config } => print(&cli::check(&config)?),
        Command::Config => print(EXAMPLE),
        Command::Restore { config, data } => print(&cli::restore(config.as_deref(), data.as_ref())?),
        Command::Token(args) => print(&format!("{}\n", cli::token(&args)?)),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    logging::init(&config.log)?;
    let development = matches!(&config.auth, AuthConfig::Token(token) if token.keys == KeySource::Development);
    let banner = |started: &Started| {
        let banner = banner(started, development);
        // Nobody reading it is no reason not to serve, so nothing waits for this thread.
        let _ = std::thread::Builder::new().name("banner".to_owned()).spawn(move || print(&banner));
    };
    // The text names its causes.
    serve::serve(config, banner).map_err(|error| anyhow::anyhow!("{error}"))
}

/// What a person who has just started a relay wants to know, and what to type next.
fn banner(started: &Started, development: bool) -> String {
    let Started { listen, fingerprint, data } = started;
    let data = data.display();
    let mut text = format!(
        "quip-relay {} listens on {listen} (UDP)\n  certificate  SHA-256 {fingerprint}\n  data         {data}\n",
        env!("CARGO_PKG_VERSION"),
    );
    if development {
        // The folder has the address at which the relay can be reached.
        let folder = if started.data == Path::new(DEFAULT_DATA) {
            String::new()
        } else {
            format!(" --data {}", quoted(&data.to_string()))
        };
        text += &format!(
            "Now chat, in another terminal, and in a third one as bob:\n  \
             cargo run --release -p quip-cli -- chat lobby:main --as alice{folder}\n"
        );
    }
    text
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Prints to standard output; a reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::ErrorKind;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What the `quip` command assumes where nothing else is said.
const DEFAULT_DATA: &str = "quip-data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_in_the_banner_can_be_used() {
        let command = |listen: &str, data: &str| {
            let listen = listen.parse().expect("an address");
            let started = Started { listen, fingerprint: "ab".repeat(32), data: data.into() };
            banner(&started, true).lines().last().expect("a command").trim().to_owned()
        };
        let plain = "cargo run --release -p quip-cli -- chat lobby:main --as alice";
        for listen in ["127.0.0.1:4433", "0.0.0.0:5555", "[::]:4433", "[::1]:5555"] {
            assert_eq!(command(listen, "quip-data"), plain);
            assert_eq!(command(listen, "/srv/chat.1"), format!("{plain} --data /srv/chat.1"));
        }
        assert_eq!(command("0.0.0.0:1", "it's here"), format!(r"{plain} --data 'it'\''s here'"));
    }
}
