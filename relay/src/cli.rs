//! The command line of `quip-relay`.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use quip_relay::{
    auth::{Authenticator, MintKey, TokenRequest, look_at, mint},
    config::{self, AuthConfig, Config, ConfigError, JwksConfig, KeySource, Overrides, TlsConfig, TokenConfig},
    identity::Certificate,
    restore::{self, Restored},
};

/// Quip: a chat relay over QUIC. Without a subcommand it serves.
#[derive(Debug, Parser)]
#[command(name = "quip-relay", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the relay (also without naming a subcommand).
    Serve(ServeArgs),
    /// Check a config file with its keys and certificate.
    Check {
        /// The file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a config file with every key, its default and what it means.
    Config,
    /// Give a data folder that was copied back from a backup a new identity, so that clients notice it. Run it once, before
    /// the relay is started on the copy.
    Restore {
        /// The config file of the relay.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The data folder of the relay [default: quip-data, or what the config file says].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Create a token for a user. By default it grants joining, posting and creating in every room.
    Token(TokenArgs),
}

/// Where to serve.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The config file. Without one the relay runs on its defaults, for development.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of keys, certificate and store [default: quip-data, or what the config file says].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The UDP address [default: 127.0.0.1:4433, or what the config file says].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
}

/// The content of the token.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user id, 1 to 64 bytes.
    #[arg(long, value_name = "ID")]
    user: String,
    /// How long it is valid: 90s, 15m, 1h, 30d.
    #[arg(long, value_name = "PERIOD", default_value = "1h", value_parser = period)]
    ttl: Duration,
    /// Rooms to join: "*", "lobby:*", "lobby:main". May be repeated; "" = none.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    join: Vec<String>,
    /// Rooms to post in.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    post: Vec<String>,
    /// Rooms that may be created.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    create: Vec<String>,
    /// Rooms to moderate.
    #[arg(long, value_name = "PATTERN")]
    moderate: Vec<String>,
    /// The config file of the relay.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder of the relay [default: quip-data, or what the config file says].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Cli {
    /// The subcommand.
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl ServeArgs {
    /// The configuration that these arguments ask for.
    pub(crate) fn load(self) -> Result<Config, ConfigError> {
        match self.config {
            Some(path) => Config::load_with(&path, Overrides { data: self.data, listen: self.listen }),
            None => Ok(Config::development(self.data, self.listen)),
        }
    }
}

/// Reads everything that a start would read, without writing anything or locking the data folder.
pub(crate) fn check(path: &Path) -> anyhow::Result<String> {
    let config = Config::load(path)?;
    let mut report = format!("{} is good\n", path.display());
    writeln!(report, "  listen  {}", config.listen)?;
    writeln!(report, "  data    {}", config.data.display())?;
    let (tls, warnings) = check_tls(&config)?;
    writeln!(report, "  tls     {tls}")?;
    writeln!(report, "  auth    {}", check_auth(&config)?)?;
    if let Some(cluster) = &config.cluster {
        let (stream, servers) = (&cluster.stream, cluster.servers.join(", "));
        writeln!(report, "  cluster {stream} at {servers}, experimental (not contacted)")?;
    }
    if let AuthConfig::Token(token) = &config.auth {
        for set in &token.jwks {
            writeln!(report, "  keys    {}", check_key_set(set)?)?;
        }
    }
    for warning in warnings {
        writeln!(report, "warning: {warning}")?;
    }
    Ok(report)
}

/// What the certificate is, and what clients object to.
fn check_tls(config: &Config) -> anyhow::Result<(String, Vec<String>)> {
    let will_be_made = config.tls == TlsConfig::SelfSigned && !Certificate::kept(&config.data);
    if will_be_made {
        return Ok(("self-signed, created at the first start".to_owned(), Vec::new()));
    }
    let certificate = Certificate::read(&config.data, &config.tls)?;
    let what = certificate.describe().map_or_else(|_| String::new(), |what| format!(", {what}"));
    Ok((format!("SHA-256 {}{what}", certificate.fingerprint()), certificate.warnings(SystemTime::now())))
}

fn check_auth(config: &Config) -> anyhow::Result<String> {
    match &config.auth {
        AuthConfig::None => Ok("none, tokens are not checked".to_owned()),
        AuthConfig::Token(TokenConfig { keys: KeySource::Development, .. }) => {
            quip_relay::identity::SigningKey::read(&config.data)?;
            Ok("tokens of `quip-relay token`, signed with the data folder's own key".to_owned())
        }
        AuthConfig::Token(token @ TokenConfig { keys: KeySource::Listed(keys), .. }) => {
            let fixed = TokenConfig { jwks: Vec::new(), ..token.clone() };
            Authenticator::open(&AuthConfig::Token(fixed), &config.data)?;
            let sets = if token.jwks.is_empty() {
                String::new()
            } else {
                ", ".to_owned() + &count(token.jwks.len(), "key set")
            };
            Ok(format!("tokens, {}{sets}", count(keys.len(), "key")))
        }
    }
}

/// A relay with other keys would start without this set, but a check must report that it is missing.
fn check_key_set(set: &JwksConfig) -> anyhow::Result<String> {
    let found = look_at(set).with_context(|| format!("no keys from {}", set.place))?;
    let skipped = if found.skipped == 0 { String::new() } else { format!("; {} skipped", count(found.skipped, "key")) };
    Ok(format!("{}: {}{skipped}", set.place, found.keys.join(", ")))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The configuration of a relay, or the defaults, for a verb that does not serve.
fn config_of(file: Option<&Path>, data: Option<&PathBuf>) -> Result<Config, ConfigError> {
    match file {
        Some(path) => Config::load_with(path, Overrides { data: data.cloned(), listen: None }),
        None => Ok(Config::development(data.cloned(), None)),
    }
}

/// Restores a data folder, and says what comes next.
pub(crate) fn restore(file: Option<&Path>, data: Option<&PathBuf>) -> anyhow::Result<String> {
    let Restored { data, renewal } = restore::restore(&config_of(file, data)?)?;
    Ok(format!(
        "{} is restored: its log has the new generation {:x} (it was {:x})\n\
         Start the relay now. Clients that were there before discard what they have and read the restored log; what was \
         accepted after the backup is lost. Restore the folder again only after it was copied back again.\n",
        data.display(),
        renewal.to,
        renewal.from,
    ))
}

/// Creates the token.
pub(crate) fn token(args: &TokenArgs) -> anyhow::Result<String> {
    let config = config_of(args.config.as_deref(), args.data.as_ref())?;
    let AuthConfig::Token(auth) = &config.auth else {
        anyhow::bail!("this relay has auth mode \"none\": the token is the user id itself");
    };
    let [join, post, create, moderate] =
        [&args.join, &args.post, &args.create, &args.moderate].map(|patterns| not_empty(patterns));
    let request = TokenRequest {
        user: &args.user,
        ttl: args.ttl,
        audience: &auth.audience,
        issuer: auth.issuer.as_deref(),
        join: &join,
        post: &post,
        create: &create,
        moderate: &moderate,
    };
    let key = MintKey::accepted_by(&auth.keys, &config.data)?;
    mint(&key, &request, SystemTime::now()).context("could not create a token")
}

fn not_empty(patterns: &[String]) -> Vec<String> {
    patterns.iter().filter(|pattern| !pattern.is_empty()).cloned().collect()
}

fn period(text: &str) -> Result<Duration, &'static str> {
    config::parse_period(text).ok_or("write a period such as 90s, 15m, 1h or 30d")
}
