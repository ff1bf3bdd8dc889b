//! The stream as a log: made, found, and checked before anything is read from it or written to it.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, pull},
    context::{ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Config as StreamConfig, DiscardPolicy, Info, PeerInfo, PersistenceMode, RetentionPolicy, StorageType},
};
use futures_util::future::join_all;
use quip_core::FOLD_VERSION;
use quip_order::draw_generation;
use quip_protocol::limit;

use crate::{
    ClusterConfig, ClusterError,
    error::Trouble,
    link::Link,
    message::FORM,
    monitor::{self, Server},
};

/// A stream that is a log, seen through one connection.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    link: Link,
    context: Context,
    config: ClusterConfig,
    /// Of the stream, which is also its subject.
    pub(crate) name: String,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) generation: u64,
    first: u64,
    pub(crate) last: u64,
}

impl Log {
    pub(crate) fn new(link: Link, config: ClusterConfig) -> Self {
        let context = ContextBuilder::new().timeout(WITHIN).build(link.client.clone());
        let name = format!("{}_{PARTITION}", config.stream);
        Self { link, context, config, name }
    }

    /// Makes the stream if it is not there. Of several relays that make it at once, one draws its generation.
    pub(crate) async fn make(&self) -> Result<Found, Trouble> {
        self.check_servers(&[]).await?;
        match self.info().await {
            Err(Trouble::Doubtful(ClusterError::Gone(_))) => {}
            info => return self.judge(&info?).await,
        }
        match self.context.create_stream(self.wanted()).await {
            Ok(_) => tracing::info!(stream = self.name, "made the stream"),
            Err(error) => match error.kind() {
                // Another relay was faster.
                CreateStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                CreateStreamErrorKind::JetStream(_) => return Err(Trouble::Doubtful(self.unusable(&error))),
                _ => return Err(Trouble::Silent(error.to_string())),
            },
        }
        self.judge(&self.info().await?).await
    }

    /// Checks everything that this relay relies upon.
    pub(crate) async fn check(&self, generation: u64, position: u64) -> Result<Found, Trouble> {
        let found = self.judge(&self.info().await?).await?;
        let stream = || self.name.clone();
        if found.generation != generation {
            let (found, known) = (found.generation, generation);
            return Err(ClusterError::Generation { stream: stream(), found, known }.into());
        }
        // A leader that was just elected may not have applied all that was acknowledged.
        if found.last < position {
            return Err(Trouble::Doubtful(ClusterError::Behind { stream: stream(), last: found.last, position }));
        }
        if found.first > position + 1 {
            return Err(ClusterError::Purged { stream: stream(), first: found.first, position }.into());
        }
        Ok(found)
    }

    /// Reads what follows a position.
    pub(crate) async fn read(&self, position: u64) -> Result<pull::Stream, async_nats::Error> {
        let config = pull::Config {
            description: Some("quip-relay".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: position + 1 },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN,
            ..pull::Config::default()
        };
        let consumer = self.context.create_consumer_on_stream(config, &self.name).await?;
        let messages = consumer.stream().max_messages_per_batch(PULL).heartbeat(HEARTBEAT).expires(EXPIRES).messages();
        Ok(messages.await?)
    }

    async fn info(&self) -> Result<Info, Trouble> {
        match self.context.get_stream(&self.name).await {
            Ok(stream) => Ok(stream.cached_info().clone()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Err(Trouble::Doubtful(ClusterError::Gone(self.name.clone())))
                }
                GetStreamErrorKind::Request => Err(Trouble::Silent(error.to_string())),
                _ => Err(Trouble::Doubtful(self.unusable(&error))),
            },
        }
    }

    fn unusable(&self, error: &dyn std::error::Error) -> ClusterError {
        ClusterError::Stream { stream: self.name.clone(), why: error.to_string() }
    }

    async fn judge(&self, info: &Info) -> Result<Found, Trouble> {
        let generation = judge(&info.config, &self.wanted())?;
        let cluster = info.cluster.as_ref();
        let leader = cluster.and_then(|cluster| cluster.leader.clone());
        let followers = cluster.into_iter().flat_map(|cluster| &cluster.replicas).filter(|peer| !is_away(peer));
        let keepers: Vec<_> = leader.into_iter().chain(followers.map(|peer| peer.name.clone())).collect();
        self.check_servers(&keepers).await?;
        Ok(Found { generation, first: info.state.first_sequence, last: info.state.last_sequence })
    }

    /// Checks the server of the connection, and that those which keep the stream sync always.
    async fn check_servers(&self, keepers: &[String]) -> Result<(), Trouble> {
        let here = self.link.client.server_info();
        if !self.link.client.is_server_compatible(LEAST.0, LEAST.1, LEAST.2) {
            return Err(ClusterError::OldServer { name: here.server_name, version: here.version }.into());
        }
        if here.max_payload < PAYLOAD {
            return Err(ClusterError::SmallPayload(here.max_payload).into());
        }
        let keepers = if keepers.is_empty() { &[here.server_name] } else { keepers };
        let (mut servers, mut why) = (Vec::new(), "no monitoring port of it is configured".to_owned());
        let answers = join_all(self.config.monitors.iter().map(|url| monitor::ask(url))).await;
        for (url, answer) in self.config.monitors.iter().zip(answers) {
            match answer {
                Ok(server) => servers.push(server),
                Err(error) => why = format!("{url}: {error}"),
            }
        }
        // Also one that keeps nothing now: it may be about to.
        servers.iter().try_for_each(judge_server)?;
        match keepers.iter().find(|name| servers.iter().all(|server| server.name != **name)) {
            Some(name) => Err(Trouble::Doubtful(ClusterError::Unchecked { name: name.clone(), why })),
            None => Ok(()),
        }
    }

    /// The stream as it is made.
    fn wanted(&self) -> StreamConfig {
        let generation = draw_generation();
        let metadata = [
            (GENERATION, generation),
            (PARTITION_NUMBER, PARTITION),
            (PARTITIONS, PARTITION_COUNT),
            (FOLD, FOLD_VERSION),
            (MESSAGE_FORM, FORM.into()),
        ];
        StreamConfig {
            name: self.name.clone(),
            subjects: vec![self.name.clone()],
            description: Some("The log of a Quip cluster".to_owned()),
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            num_replicas: self.config.replicas,
            duplicate_window: DUPLICATES,
            deny_delete: true,
            metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_string())).into(),
            ..StreamConfig::default()
        }
    }
}

/// The generation of a stream that is a log for this relay.
fn judge(found: &StreamConfig, wanted: &StreamConfig) -> Result<u64, ClusterError> {
    let stream = || wanted.name.clone();
    let generation = number(&found.metadata, GENERATION).filter(|generation| (1..1 << 53).contains(generation));
    let generation = generation.ok_or_else(|| ClusterError::Foreign(stream()))?;
    for (key, what, known) in [
        (MESSAGE_FORM, "messages of form", FORM.into()),
        (FOLD, "fold version", FOLD_VERSION),
        (PARTITIONS, "a partition count of", PARTITION_COUNT),
        (PARTITION_NUMBER, "partition", PARTITION),
    ] {
        let found = found.metadata.get(key).cloned().unwrap_or_else(|| "none".to_owned());
        if found != known.to_string() {
            return Err(ClusterError::Version { stream: stream(), what, found, known });
        }
    }
    let settings: [(bool, String, &'static str); 11] = [
        (
            found.subjects == wanted.subjects,
            format!("the subjects {:?}", found.subjects),
            "its own name as its one subject",
        ),
        (found.retention == RetentionPolicy::Limits, format!("the retention {:?}", found.retention), "limits"),
        (found.storage == StorageType::File, format!("the storage {:?}", found.storage), "file"),
        (found.discard == DiscardPolicy::New, format!("the discard policy {:?}", found.discard), "new"),
        (found.max_age.is_zero(), format!("a maximum age of {:?}", found.max_age), "none"),
        (found.max_message_size <= 0, format!("a maximum message size of {}", found.max_message_size), "none"),
        (found.max_messages_per_subject <= 0, "a maximum of messages per subject".to_owned(), "none"),
        (found.deny_delete, "no protection against deletions".to_owned(), "deny_delete"),
        (!found.allow_rollup && !found.allow_message_ttl, "roll-ups or lifetimes of messages".to_owned(), "neither"),
        (
            found.mirror.is_none()
                && found.sources.is_none()
                && found.subject_transform.is_none()
                && !found.sealed
                && !found.no_ack,
            "a mirror, sources, a subject transform, a seal or no acknowledgements".to_owned(),
            "none of them",
        ),
        (found.persist_mode != Some(PersistenceMode::Async), "the persist mode async".to_owned(), "default"),
    ];
    if let Some((_, found, needed)) = settings.into_iter().find(|(right, ..)| !right) {
        return Err(ClusterError::Settings { stream: stream(), found, needed });
    }
    if found.num_replicas != wanted.num_replicas {
        let (found, configured) = (found.num_replicas, wanted.num_replicas);
        return Err(ClusterError::Replicas { stream: stream(), found, configured });
    }
    Ok(generation)
}

/// Whether a server takes no part in what the others acknowledge. When it comes back, the next check includes it.
fn is_away(peer: &PeerInfo) -> bool {
    let was_never_heard = peer.active.is_zero() && !peer.current;
    peer.offline || was_never_heard || peer.active > AWAY
}

fn number(metadata: &HashMap<String, String>, key: &str) -> Option<u64> {
    metadata.get(key)?.parse().ok()
}

fn judge_server(server: &Server) -> Result<(), ClusterError> {
    let mut parts = server.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version: [i64; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    if version < [LEAST.0, LEAST.1, LEAST.2] {
        return Err(ClusterError::OldServer { name: server.name.clone(), version: server.version.clone() });
    }
    if !server.syncs_always() {
        return Err(ClusterError::NotSynced(server.name.clone()));
    }
    Ok(())
}

/// The one partition.
const PARTITION: u64 = 0;
const PARTITION_COUNT: u64 = 1;

/// Keys of the stream's metadata, fixed for ever.
const GENERATION: &str = "quip-generation";
const PARTITION_NUMBER: &str = "quip-partition";
const PARTITIONS: &str = "quip-partitions";
const FOLD: &str = "quip-fold";
const MESSAGE_FORM: &str = "quip-form";

/// The oldest server.
const LEAST: (i64, i64, i64) = (2, 15, 0);
/// The least that a server must take in one message: the largest command and its header.
const PAYLOAD: usize = limit::FRAME;
/// A server that its leader has not heard of for longer is away; otherwise it says something every second.
const AWAY: Duration = Duration::from_secs(3);
/// How long a request to JetStream may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How long the stream remembers the ids of messages.
const DUPLICATES: Duration = Duration::from_secs(120);
/// After this time without a reader a server drops its consumer.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Messages that are asked for at once; up to half as many more may be on their way.
const PULL: usize = 256;
/// A consumer that is silent for twice as long is made again.
const HEARTBEAT: Duration = Duration::from_secs(1);
const EXPIRES: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
