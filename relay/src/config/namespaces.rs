//! `[[namespaces]]`: policy of rooms, by the part of their name before the colon.

use std::collections::BTreeMap;

use quip_protocol::RoomName;
use serde::Deserialize;
use toml::Spanned;

use super::complaint::{ConfigError, Source};

/// The policy of every room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces(BTreeMap<String, NamespacePolicy>);

/// The policy of the rooms of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespacePolicy {
    /// What a member may read.
    pub history: HistoryPolicy,
    /// Whether joins and leaves are events that all members see.
    pub joins_shown: bool,
}

/// What a member of a room may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryPolicy {
    /// Everything that is kept.
    #[default]
    All,
    /// Only what was posted while they were members.
    Joined,
}

impl Default for NamespacePolicy {
    fn default() -> Self {
        Self { history: HistoryPolicy::All, joins_shown: true }
    }
}

impl Namespaces {
    /// The policy of a room: its namespace's, or the default.
    pub fn policy(&self, room: &RoomName<'_>) -> NamespacePolicy {
        self.0.get(room.namespace()).copied().unwrap_or_default()
    }
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamespace {
    name: Spanned<String>,
    history: Option<HistoryPolicy>,
    joins_shown: Option<bool>,
}

/// Fills in the defaults. A name may be listed only once.
pub(super) fn resolve(source: &Source<'_>, said: Vec<RawNamespace>) -> Result<Namespaces, ConfigError> {
    let mut namespaces = BTreeMap::new();
    for RawNamespace { name, history, joins_shown } in said {
        let at = name.span();
        let name = name.into_inner();
        if RoomName::parse(&format!("{name}:x")).is_err() {
            let help = "1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit; no colon, no *";
            return Err(source.complain(at, "not the name of a namespace", help));
        }
        let default = NamespacePolicy::default();
        let policy = NamespacePolicy {
            history: history.unwrap_or_default(),
            joins_shown: joins_shown.unwrap_or(default.joins_shown),
        };
        if namespaces.insert(name, policy).is_some() {
            return Err(source.complain(at, "this namespace is listed twice", "keep one of them"));
        }
    }
    Ok(Namespaces(namespaces))
}
