//! The command line of `replay`.

use std::{path::PathBuf, time::Duration};

use quip_client::RoomName;

use crate::transport::{Fingerprint, decode_pin};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Raw #ubuntu IRC logs, played one after the other.
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// The room.
    #[arg(long, value_name = "NS:NAME", default_value = "lobby:ubuntu", value_parser = room)]
    pub(super) room: String,
    /// How many times faster than real time.
    #[arg(long, value_name = "FACTOR", default_value_t = 600.0, value_parser = speed)]
    pub(super) speed: f64,
    /// Members that stay for the whole run; the first one also reads the store back at the end.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) observers: u16,
    /// Stop after this many messages.
    #[arg(long, value_name = "N")]
    pub(super) limit_lines: Option<usize>,
    /// How long a user tries to connect and to join, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) connect_timeout: Duration,
    /// How long to wait for outstanding deliveries at the end of a file, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) drain_timeout: Duration,
    /// Threads that run the clients.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) threads: u8,
    /// The running relay; several are tried in turn [default: the address in DATA/listen, else 127.0.0.1:4433].
    #[arg(long, value_name = "HOST:PORT", value_parser = relay)]
    pub(super) relay: Vec<String>,
    /// The relay's data folder, whose key signs the users' tokens.
    #[arg(long, value_name = "DIR", default_value = "quip-data")]
    pub(super) data: PathBuf,
    /// Trust the relay whose certificate has this SHA-256 [default: the one in DATA/fingerprint].
    #[arg(long, value_name = "HEX", value_parser = fingerprint, conflicts_with = "ca")]
    pub(super) fingerprint: Option<Fingerprint>,
    /// Trust relays whose certificate one of these authorities signed.
    #[arg(long, value_name = "FILE.pem")]
    pub(super) ca: Option<PathBuf>,
}

fn room(text: &str) -> Result<String, String> {
    match RoomName::parse(text) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn speed(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(speed) if speed >= SLOWEST && speed.is_finite() => Ok(speed),
        _ => Err("expected a factor of at least 0.01, such as 600"),
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MOST_SECONDS).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds, at most a day"),
    }
}

fn relay(text: &str) -> Result<String, &'static str> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    good.then(|| text.to_owned()).ok_or("expected host:port, such as 127.0.0.1:4433")
}

/// 64 hex digits, with or without colons between bytes.
fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    decode_pin(&text.trim().replace(':', "")).map_err(|error| error.to_string())
}

/// A day of log then takes a hundred days.
const SLOWEST: f64 = 0.01;
const MOST_SECONDS: f64 = 24.0 * 60.0 * 60.0;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn senseless_values_are_refused() {
        for bad in [
            ["--speed", "0"],
            ["--speed", "inf"],
            ["--observers", "0"],
            ["--room", "Lobby"],
            ["--drain-timeout", "-1"],
            ["--relay", "localhost"],
            ["--fingerprint", "ab"],
        ] {
            assert!(Cli::try_parse_from(["replay", "x.log", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_fingerprint_may_have_colons() {
        let colons = ["AB"; 32].join(":");
        let cli = Cli::try_parse_from(["replay", "x.log", "--fingerprint", &colons]).unwrap();
        assert_eq!(cli.args.fingerprint, Some([0xab; 32]));
    }
}
