//! `[presence]`, `[store]` and `[log]`.

use std::time::Duration;

use quip_order::LOG_BYTES_MIN;
use serde::Deserialize;
use toml::Spanned;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    complaint::{ConfigError, Source},
    section::{checked, contradiction, section},
    units::{Count, Size},
};

section! {
    /// How the relay notices that a client is gone. Presence uses QUIC keepalives; there is no separate heartbeat.
    RawPresence => PresenceConfig {
        /// How often clients should send a QUIC keepalive. Each costs a phone some battery.
        keepalive: Duration [Period] = Duration::from_secs(10), Duration::from_millis(100)..=Duration::from_secs(60);
        /// Silence after which the relay closes a connection.
        idle_timeout: Duration [Period] = Duration::from_secs(30), Duration::from_millis(200)..=Duration::from_secs(600);
        /// How often every connection is checked. A user shows as offline up to twice this after the timeout.
        sweep: Duration [Period] = Duration::from_secs(2), Duration::from_millis(10)..=Duration::from_secs(60);
        /// Grace period after a user's last connection broke, so that others do not see a quick reconnect.
        offline_after: Duration [Period] = Duration::from_secs(3), Duration::ZERO..=Duration::from_secs(60);
        /// Minimum time between two writes of a user's last-seen time. It is written when they connect, while they are
        /// connected and after they disconnect. After a kill the stored time may be too early by this much.
        last_seen_every: Duration [Period] = Duration::from_secs(300), Duration::from_millis(100)..=Duration::from_secs(86_400);
    }
}

impl RawPresence {
    /// Fills in the defaults and checks them: unreachable shows after two keepalives, before the timeout.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<PresenceConfig, ConfigError> {
        let presence = self.within_ranges(source)?;
        if presence.keepalive * 2 > presence.idle_timeout {
            let message = "idle_timeout must be at least twice keepalive".to_owned();
            return Err(contradiction(source, self.idle_timeout.as_ref(), self.keepalive.as_ref(), message));
        }
        if presence.sweep > presence.keepalive {
            let message = "sweep must not be longer than keepalive".to_owned();
            return Err(contradiction(source, self.sweep.as_ref(), self.keepalive.as_ref(), message));
        }
        Ok(presence)
    }
}

section! {
    /// The embedded store.
    RawStore => StoreConfig {
        /// Size of the store's block cache.
        cache_bytes: usize [Size] = 64 << 20, 1 << 20..=1 << 40;
        /// Size of the memtable, at which a checkpoint writes it to disk. Up to three times as much memory is used for a
        /// while.
        memtable_bytes: usize [Size] = 32 << 20, 1 << 20..=1 << 30;
        /// Size of the log, which makes commits durable before the store writes them to disk. A start replays what is not yet
        /// in a checkpoint. Applies to a new log only.
        log_bytes: usize [Size] = 64 << 20, LOG_BYTES_MIN as usize..=1 << 30;
        /// Number of threads that write tables and compact them. With two, one keeps a core busy while the other compacts.
        worker_threads: usize [Count] = 3, 1..=64;
        /// Number of threads that read for clients, and for commands that need records not in memory.
        readers: usize [Count] = 2, 1..=64;
        /// Maximum queued reads; beyond it, clients get `BUSY` and retry.
        reads_waiting: usize [Count] = 4096, 1..=1 << 20;
        /// Maximum records (conversations, memberships, send numbers, read marks) cached by the sequencer; up to twice as many
        /// for a while. 3 KB for a device with 64 outcomes, 200 bytes for any other.
        cached_records: usize [Count] = 32_768, 16..=1 << 24;
        /// How long the send numbers of a device in a conversation are kept after their last use. A device that comes back later
        /// cannot learn what became of commands that it had sent then.
        send_numbers_kept: Duration [Period] = Duration::from_secs(90 * DAY), Duration::from_secs(DAY)..=Duration::from_secs(3650 * DAY);
        /// A commit that takes longer ends the process: the disk is full or gone.
        commit_timeout: Duration [Period] = Duration::from_secs(10), Duration::from_secs(1)..=Duration::from_secs(600);
    }
}

/// In seconds.
const DAY: u64 = 86_400;

impl RawStore {
    /// Fills in the defaults and checks each value.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<StoreConfig, ConfigError> {
        self.within_ranges(source)
    }
}

/// The relay's log, on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The format of a line.
    pub format: LogFormat,
    /// A filter such as `info` or `warn,quip_relay=debug`; `RUST_LOG` in the environment wins.
    pub level: String,
    /// Maximum lines per second of one kind, which are those of one place in the code. Further ones are counted. 0 = no limit.
    pub lines_per_second: usize,
    /// Maximum bytes of lines that wait to be written. Further ones are lost, and counted.
    pub waiting_bytes: usize,
}

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        let level = "info,fjall=warn,lsm_tree=warn,async_nats=warn".to_owned();
        Self { format: LogFormat::Text, level, lines_per_second: 20, waiting_bytes: 1 << 20 }
    }
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    format: Option<LogFormat>,
    level: Option<Spanned<String>>,
    lines_per_second: Option<Spanned<Count>>,
    waiting_bytes: Option<Spanned<Size>>,
}

impl RawLog {
    /// Fills in the defaults and checks each value.
    pub(super) fn resolve(self, source: &Source<'_>) -> Result<LogConfig, ConfigError> {
        let default = LogConfig::default();
        let (rate, room) = (self.lines_per_second.as_ref(), self.waiting_bytes.as_ref());
        let mut log = LogConfig {
            format: self.format.unwrap_or(default.format),
            level: default.level,
            lines_per_second: checked(source, "lines_per_second", rate, default.lines_per_second, 0..=1_000_000)?,
            waiting_bytes: checked(source, "waiting_bytes", room, default.waiting_bytes, 4 << 10..=1 << 30)?,
        };
        if let Some(level) = self.level {
            if !is_filter(level.get_ref()) {
                let help = "use error, warn, info, debug, trace, or pairs such as \"warn,quip_relay=debug\"";
                return Err(source.complain(level.span(), "level is not a log filter", help));
            }
            log.level = level.into_inner();
        }
        Ok(log)
    }
}

/// A bare word that is not a level would be read as a module name and turn off everything else.
fn is_filter(text: &str) -> bool {
    let bare_words_are_levels =
        text.split(',').all(|part| part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok());
    bare_words_are_levels && EnvFilter::try_new(text).is_ok()
}
