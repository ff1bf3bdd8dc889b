//! The connection to the servers.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;

use crate::{ClusterConfig, ClusterError};

/// One connection, which finds a server again by itself.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    seen: watch::Receiver<Seen>,
}

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    up: bool,
    losses: u64,
    over: bool,
    /// What the client said last.
    error: Option<String>,
}

/// One stay at one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay(u64);

impl Link {
    /// Connects; tries again until the time for a start is over.
    pub(crate) async fn open(config: &ClusterConfig) -> Result<Self, ClusterError> {
        let started = Instant::now();
        loop {
            let (seen, watched) = watch::channel(Seen { up: true, ..Seen::default() });
            match options(config, seen).await?.connect(config.servers.as_slice()).await {
                Ok(client) => return Ok(Self { client, seen: watched }),
                Err(error) => match error.kind() {
                    ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                        return Err(ClusterError::Credentials(error.to_string()));
                    }
                    _ if started.elapsed() > config.patience => {
                        return Err(ClusterError::Unreachable(error.to_string()));
                    }
                    _ => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    }

    /// Waits until it is connected.
    pub(crate) async fn connected(&self) -> Result<Stay, ClusterError> {
        let mut watched = self.seen.clone();
        match watched.wait_for(|seen| seen.up || seen.over).await.as_deref() {
            Ok(seen) if !seen.over => Ok(Stay(seen.losses)),
            _ => Err(ClusterError::Ended),
        }
    }

    /// Why it is not connected, as far as is known.
    pub(crate) fn trouble(&self) -> String {
        self.seen.borrow().error.clone().unwrap_or_else(|| "disconnected".to_owned())
    }

    /// Waits until this stay is over.
    pub(crate) async fn lost(&self, stay: Stay) {
        // An error says that the client is no more, so that the stay is over too.
        let _ = self.seen.clone().wait_for(|seen| Stay(seen.losses) != stay || seen.over).await;
    }
}

async fn options(config: &ClusterConfig, seen: watch::Sender<Seen>) -> Result<ConnectOptions, ClusterError> {
    let mut options = ConnectOptions::new()
        .name("quip-relay")
        .connection_timeout(Duration::from_secs(3))
        .ping_interval(Duration::from_secs(5))
        .client_capacity(QUEUED)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| PAUSE.min(Duration::from_millis(20) * attempts as u32))
        .event_callback(move |event| {
            seen.send_if_modified(|seen| note(seen, &event));
            async {}
        });
    if let Some(ca) = &config.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(path) = &config.credentials {
        let unusable = |error| ClusterError::Credentials(format!("{}: {error}", path.display()));
        options = options.credentials_file(path).await.map_err(unusable)?;
    }
    Ok(options)
}

fn note(seen: &mut Seen, event: &Event) -> bool {
    let before = seen.clone();
    match event {
        Event::Connected => (seen.up, seen.error) = (true, None),
        Event::Disconnected => (seen.up, seen.losses) = (false, seen.losses + 1),
        Event::Closed => seen.over = true,
        Event::ClientError(error) => seen.error = Some(error.to_string()),
        Event::ServerError(error) => seen.error = Some(error.to_string()),
        _ => {}
    }
    *seen != before
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Messages on their way to the socket: everything that may be published and has no answer, twice.
const QUEUED: usize = 4096;
