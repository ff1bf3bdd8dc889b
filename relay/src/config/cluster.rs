//! `[cluster]`: the log in NATS JetStream, shared by several relays. Experimental.

use std::{ops::Range, time::Duration};

use quip_jetstream::ClusterConfig;
use serde::Deserialize;
use toml::Spanned;

use super::{
    complaint::{ConfigError, Source},
    is_host_and_port,
    section::checked,
    units::{Count, Period},
};

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    servers: Option<Spanned<Vec<Spanned<String>>>>,
    monitors: Option<Spanned<Vec<Spanned<String>>>>,
    stream: Option<Spanned<String>>,
    replicas: Option<Spanned<Count>>,
    credentials: Option<Spanned<String>>,
    ca: Option<Spanned<String>>,
    patience: Option<Spanned<Period>>,
}

impl RawCluster {
    /// Fills in the defaults and checks each value. Without any key the relay has its own log.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<Option<ClusterConfig>, ConfigError> {
        let (servers, monitors) = match (&self.servers, &self.monitors) {
            (Some(servers), Some(monitors)) => (servers, monitors),
            (Some(servers), None) => {
                let help = "name the monitoring port of each NATS server, where the relay checks its sync_interval";
                return Err(source.complain(servers.span(), "servers without monitors", help));
            }
            (None, _) => match self.said() {
                Some(at) => return Err(source.complain(at, "a cluster without servers", "name the NATS servers")),
                None => return Ok(None),
            },
        };
        let path = |path: &Option<Spanned<String>>| path.as_ref().map(|path| source.resolve(path.get_ref()));
        Ok(Some(ClusterConfig {
            servers: urls(source, "servers", servers, &["nats://", "tls://"])?,
            monitors: urls(source, "monitors", monitors, &["http://"])?,
            stream: self.stream.as_ref().map_or_else(|| Ok(DEFAULT_STREAM.to_owned()), |name| stream(source, name))?,
            replicas: replicas(source, self.replicas.as_ref())?,
            credentials: path(&self.credentials),
            ca: path(&self.ca),
            patience: checked(source, "patience", self.patience.as_ref(), DEFAULT_PATIENCE, PATIENCE)?,
        }))
    }

    /// Where the first key is, other than `servers`.
    fn said(&self) -> Option<Range<usize>> {
        let texts = [&self.stream, &self.credentials, &self.ca];
        let spans = texts.into_iter().flatten().map(Spanned::span);
        let spans = spans.chain(self.monitors.as_ref().map(Spanned::span));
        let spans = spans.chain(self.replicas.as_ref().map(Spanned::span));
        spans.chain(self.patience.as_ref().map(Spanned::span)).min_by_key(|span| span.start)
    }
}

fn urls(
    source: &Source<'_>,
    key: &str,
    list: &Spanned<Vec<Spanned<String>>>,
    schemes: &[&str],
) -> Result<Vec<String>, ConfigError> {
    let urls = list.get_ref();
    if urls.is_empty() || urls.len() > MOST_SERVERS {
        let help = format!("1 to {MOST_SERVERS}");
        return Err(source.complain(list.span(), format!("not a list of {key}"), help));
    }
    let fits = |url: &str| schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(is_host_and_port));
    if let Some(url) = urls.iter().find(|url| !fits(url.get_ref())) {
        let help = format!("write {}host:port", schemes.join("host:port or "));
        return Err(source.complain(url.span(), format!("not an address for {key}"), help));
    }
    Ok(urls.iter().map(|url| url.get_ref().clone()).collect())
}

fn stream(source: &Source<'_>, name: &Spanned<String>) -> Result<String, ConfigError> {
    let text = name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !(1..=LONGEST_STREAM).contains(&text.len()) || !text.chars().all(plain) {
        let help = format!("1 to {LONGEST_STREAM} letters, digits, - and _");
        return Err(source.complain(name.span(), "not a name for a stream", help));
    }
    Ok(text.clone())
}

fn replicas(source: &Source<'_>, said: Option<&Spanned<Count>>) -> Result<usize, ConfigError> {
    let replicas = checked(source, "replicas", said, DEFAULT_REPLICAS, 1..=5)?;
    match said {
        Some(said) if replicas % 2 == 0 => Err(source.complain(said.span(), "replicas is even", "use 1, 3 or 5")),
        _ => Ok(replicas),
    }
}

const DEFAULT_STREAM: &str = "QUIP";
const DEFAULT_REPLICAS: usize = 3;
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const MOST_SERVERS: usize = 16;
const LONGEST_STREAM: usize = 32;
