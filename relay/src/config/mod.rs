//! The relay's configuration: one TOML file, in two layers.
//!
//! What the file says is read into `Raw…` structs, every key optional. What it means is [`Config`], complete and
//! without contradictions. Each section has both in its own file, with its defaults and checks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use quip_jetstream::ClusterConfig;
use quip_protocol::limit;
use serde::Deserialize;
use toml::Spanned;

mod auth;
mod cluster;
mod complaint;
pub(crate) mod jwks;
mod limits;
mod namespaces;
mod section;
mod sections;
mod units;

#[cfg(test)]
mod tests;

pub use auth::{AuthConfig, KeyConfig, KeyMaterial, KeySource, Secret, TlsConfig, TokenConfig};
pub use complaint::{Complaint, ConfigError};
pub use jwks::{JwksConfig, JwksPlace};
pub use limits::{Limits, MessageRate};
pub use namespaces::{HistoryPolicy, NamespacePolicy, Namespaces};
pub use sections::{LogConfig, LogFormat, PresenceConfig, StoreConfig};
pub use units::parse_period;

use auth::{RawAuth, RawTls};
use cluster::RawCluster;
use complaint::Source;
use limits::RawLimits;
use namespaces::RawNamespace;
use sections::{RawLog, RawPresence, RawStore};

/// The config file with every key, its default and its meaning.
pub const EXAMPLE: &str = include_str!("../../../quip.example.toml");

/// Everything that an operator can set, complete and without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The UDP address to listen on.
    pub listen: SocketAddr,
    /// The folder of keys, certificate and store.
    pub data: PathBuf,
    /// The name that clients show.
    pub name: String,
    /// Other relays of the same log that clients may use, as `host:port`.
    pub relays: Vec<String>,
    /// Pass several packets to the kernel at once. Saves CPU when one client receives much; costs 12 KB per connection.
    pub segmentation_offload: bool,
    /// The certificate.
    pub tls: TlsConfig,
    /// Who may connect.
    pub auth: AuthConfig,
    /// The limits.
    pub limits: Limits,
    /// When a client counts as gone.
    pub presence: PresenceConfig,
    /// The embedded store.
    pub store: StoreConfig,
    /// The log that this relay shares with others; `None` = it has its own.
    pub cluster: Option<ClusterConfig>,
    /// The log.
    pub log: LogConfig,
    /// Standing policy of rooms.
    pub namespaces: Namespaces,
}

/// Options of the command line; they take precedence over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of `data`.
    pub data: Option<PathBuf>,
    /// Instead of `listen`.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads a config file.
    ///
    /// # Errors
    /// If it cannot be read or is invalid; the text names the place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, Overrides::default())
    }

    /// Reads a config file; options of the command line take precedence.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(path, &text, overrides)
    }

    /// Reads the text of a config file. `path` is for complaints, and relative paths in it start at its folder.
    ///
    /// # Errors
    /// If the text is invalid.
    pub fn parse(path: &Path, text: &str, overrides: Overrides) -> Result<Self, ConfigError> {
        let source = Source::new(path, text);
        let raw: RawConfig = toml::from_str(text).map_err(|error| source.refused(&error))?;
        raw.resolve(&source, overrides)
    }

    /// The configuration without a file: the defaults, and on loopback no rate limit.
    pub fn development(data: Option<PathBuf>, listen: Option<SocketAddr>) -> Self {
        let listen = listen.unwrap_or(DEFAULT_LISTEN);
        let limits = if listen.ip().is_loopback() { Limits::development() } else { Limits::default() };
        Self {
            listen,
            data: data.unwrap_or_else(|| DEFAULT_DATA.into()),
            name: DEFAULT_NAME.to_owned(),
            relays: Vec::new(),
            segmentation_offload: false,
            tls: TlsConfig::SelfSigned,
            auth: AuthConfig::Token(TokenConfig::default()),
            limits,
            presence: PresenceConfig::default(),
            store: StoreConfig::default(),
            cluster: None,
            log: LogConfig::default(),
            namespaces: Namespaces::default(),
        }
    }
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    listen: Option<Spanned<String>>,
    data: Option<String>,
    name: Option<Spanned<String>>,
    relays: Option<Vec<Spanned<String>>>,
    segmentation_offload: Option<bool>,
    #[serde(default)]
    tls: RawTls,
    #[serde(default)]
    auth: RawAuth,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    presence: RawPresence,
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    cluster: RawCluster,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    namespaces: Vec<RawNamespace>,
}

impl RawConfig {
    fn resolve(self, source: &Source<'_>, overrides: Overrides) -> Result<Config, ConfigError> {
        let said = self.listen.map(|listen| address(source, &listen)).transpose()?;
        let listen = overrides.listen.or(said).unwrap_or(DEFAULT_LISTEN);
        let data = self.data.as_deref().unwrap_or(DEFAULT_DATA);
        Ok(Config {
            listen,
            data: overrides.data.unwrap_or_else(|| source.resolve(data)),
            name: self.name.map_or_else(|| Ok(DEFAULT_NAME.to_owned()), |name| relay_name(source, name))?,
            relays: other_relays(source, self.relays.unwrap_or_default())?,
            segmentation_offload: self.segmentation_offload.unwrap_or(false),
            tls: self.tls.resolve(source)?,
            auth: self.auth.resolve(source, listen)?,
            limits: self.limits.resolve(source)?,
            presence: self.presence.resolve(source)?,
            store: self.store.resolve(source)?,
            cluster: self.cluster.resolve(source)?,
            log: self.log.resolve(source)?,
            namespaces: namespaces::resolve(source, self.namespaces)?,
        })
    }
}

fn address(source: &Source<'_>, listen: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    listen.get_ref().parse().map_err(|_| {
        source.complain(listen.span(), "listen is not an address", "write ip:port, such as \"0.0.0.0:4433\"")
    })
}

fn relay_name(source: &Source<'_>, name: Spanned<String>) -> Result<String, ConfigError> {
    let text = name.get_ref();
    if !(1..=limit::TEXT).contains(&text.len()) || text.chars().any(char::is_control) {
        let help = format!("1 to {} bytes without control characters", limit::TEXT);
        return Err(source.complain(name.span(), "not a name for a relay", help));
    }
    Ok(name.into_inner())
}

fn other_relays(source: &Source<'_>, relays: Vec<Spanned<String>>) -> Result<Vec<String>, ConfigError> {
    if let Some(extra) = relays.get(limit::RELAYS) {
        let message = format!("more than {} other relays", limit::RELAYS);
        return Err(source.complain(extra.span(), message, "name those that clients should try first"));
    }
    for relay in &relays {
        if !is_host_and_port(relay.get_ref()) {
            let help = "write host:port, such as \"chat2.example.org:4433\"";
            return Err(source.complain(relay.span(), "not the address of a relay", help));
        }
    }
    Ok(relays.into_iter().map(Spanned::into_inner).collect())
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=LONGEST_HOST).contains(&host.len()) && host.chars().all(plain),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Reachable from this machine only.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4433);

/// In the folder of the config file, or in the current one without a file.
const DEFAULT_DATA: &str = "quip-data";

const DEFAULT_NAME: &str = "relay";

/// The longest name that DNS can hold.
const LONGEST_HOST: usize = 253;
