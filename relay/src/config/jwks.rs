//! `[[auth.jwks]]`: key sets that a login server publishes and rotates.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use toml::Spanned;
use ureq::http::Uri;

use super::{
    complaint::{ConfigError, Source},
    section::{checked, contradiction},
    units::{Count, Period, Size},
};

/// A JSON Web Key Set (RFC 7517) that the relay fetches periodically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksConfig {
    /// Where it is.
    pub place: JwksPlace,
    /// How often it is fetched.
    pub refresh: Duration,
    /// Minimum time between two fetches, also when a token names an unknown key.
    pub refetch_after: Duration,
    /// Maximum duration of a fetch from a URL, from connecting to the last byte.
    pub timeout: Duration,
    /// Maximum bytes of the document; a larger one is refused.
    pub document_bytes: usize,
    /// Maximum keys in the document, usable or not; with more it is refused. A token without a `kid` is tried against every
    /// key of its algorithm.
    pub keys: usize,
}

/// Where a key set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// A file that another program replaces.
    File(PathBuf),
    /// A web server: https, or http on a loopback host.
    Url {
        /// Its address.
        url: Uri,
        /// The authorities that its certificate is checked against, PEM; `None` = those of the system.
        ca: Option<PathBuf>,
    },
}

impl JwksConfig {
    /// A key set with the default limits.
    pub fn new(place: JwksPlace) -> Self {
        Self {
            place,
            refresh: Duration::from_secs(300),
            refetch_after: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            document_bytes: 64 << 10,
            keys: 16,
        }
    }
}

impl std::fmt::Display for JwksPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { url, .. } => url.fmt(f),
        }
    }
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJwks {
    file: Option<Spanned<String>>,
    url: Option<Spanned<String>>,
    ca: Option<Spanned<String>>,
    refresh: Option<Spanned<Period>>,
    refetch_after: Option<Spanned<Period>>,
    timeout: Option<Spanned<Period>>,
    document_bytes: Option<Spanned<Size>>,
    keys: Option<Spanned<Count>>,
}

/// Checks all key sets.
pub(super) fn resolve(source: &Source<'_>, sets: Vec<Spanned<RawJwks>>) -> Result<Vec<JwksConfig>, ConfigError> {
    if let Some(extra) = sets.get(MOST_SETS) {
        return Err(source.complain(extra.span(), format!("more than {MOST_SETS} key sets"), "remove those not used"));
    }
    sets.into_iter().map(|set| one(source, set)).collect()
}

fn one(source: &Source<'_>, set: Spanned<RawJwks>) -> Result<JwksConfig, ConfigError> {
    let whole = set.span();
    let raw = set.into_inner();
    let default = JwksConfig::new(place(source, &raw, whole)?);
    let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
    let set = JwksConfig {
        refresh: checked(source, "refresh", raw.refresh.as_ref(), default.refresh, second..=86_400 * second)?,
        refetch_after: checked(
            source,
            "refetch_after",
            raw.refetch_after.as_ref(),
            default.refetch_after,
            100 * ms..=3600 * second,
        )?,
        timeout: checked(source, "timeout", raw.timeout.as_ref(), default.timeout, 100 * ms..=60 * second)?,
        document_bytes: checked(
            source,
            "document_bytes",
            raw.document_bytes.as_ref(),
            default.document_bytes,
            1 << 10..=1 << 20,
        )?,
        keys: checked(source, "keys", raw.keys.as_ref(), default.keys, 1..=64)?,
        place: default.place,
    };
    if set.refetch_after > set.refresh {
        let message = "refetch_after must not be longer than refresh".to_owned();
        return Err(contradiction(source, raw.refetch_after.as_ref(), raw.refresh.as_ref(), message));
    }
    Ok(set)
}

fn place(source: &Source<'_>, raw: &RawJwks, whole: std::ops::Range<usize>) -> Result<JwksPlace, ConfigError> {
    match (&raw.file, &raw.url) {
        (None, None) => Err(source.complain(whole, "a key set without file or url", "name one of them")),
        (Some(_), Some(url)) => Err(source.complain(url.span(), "file and url in one key set", "keep one of them")),
        (Some(file), None) => match raw.ca.as_ref().map(|ca| ("ca", ca.span())).or(raw.timeout_span()) {
            Some((key, at)) => Err(source.complain(at, format!("{key} is only for a url"), "remove it")),
            None => Ok(JwksPlace::File(source.resolve(file.get_ref()))),
        },
        (None, Some(url)) => {
            let ca = raw.ca.as_ref().map(|ca| source.resolve(ca.get_ref()));
            Ok(JwksPlace::Url { url: checked_url(source, url)?, ca })
        }
    }
}

impl RawJwks {
    fn timeout_span(&self) -> Option<(&'static str, std::ops::Range<usize>)> {
        self.timeout.as_ref().map(|timeout| ("timeout", timeout.span()))
    }
}

/// Plain http is allowed on this machine only: someone who can change the answer on the way can impersonate every user.
fn checked_url(source: &Source<'_>, url: &Spanned<String>) -> Result<Uri, ConfigError> {
    let refuse = |message: &str, help: &str| Err(source.complain(url.span(), message, help));
    let example = "write https://host/path";
    let Ok(uri) = url.get_ref().parse::<Uri>() else { return refuse("url is not a URL", example) };
    let Some(authority) = uri.authority() else { return refuse("url names no host", example) };
    if authority.as_str().contains('@') {
        return refuse("a user or password in url would appear in logs", "remove it: keys are public");
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(authority.host()) => Ok(uri),
        Some("http") => refuse("plain http over a network", "use https; http is for this machine's own addresses"),
        _ => refuse("url is neither https nor http", example),
    }
}

/// True for the names and addresses that never leave this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Each has its own thread, and a token without a `kid` is tried against all of them.
const MOST_SETS: usize = 4;
