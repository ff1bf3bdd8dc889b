//! From an address to `Welcome`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use quinn::{ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, RecvStream, SendStream};
use quip_protocol::{
    DeviceId, InstanceId, Items, ToClient, UserId, frame, grease,
    session::{Hello, Welcome},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Allowance, Broken, Limits, Link, buffer::Buffer, tls::Tls, transport};
use crate::{Config, ConnectError, ConnectionLost, Platform, TokenError, TokenSource, config::Timing};

/// Makes connections.
pub(crate) struct Dialer {
    configured: Vec<String>,
    /// Relays that a `Welcome` named.
    told: Vec<String>,
    /// Which relay comes next.
    at: usize,
    tls: Tls,
    pub(crate) token: Arc<dyn TokenSource>,
    pub(crate) timing: Timing,
    /// As configured; a relay may want keepalives more often.
    keepalive: Duration,
    pub(crate) platform: Arc<dyn Platform>,
    device: DeviceId,
    instance: InstanceId,
    name: String,
    streams: u64,
}

/// A connection past `Welcome`.
pub(crate) struct Session {
    /// The relay, as it is configured or was told.
    pub(crate) address: String,
    pub(crate) link: Arc<Link>,
    pub(crate) endpoint: Endpoint,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) buffer: Buffer,
    pub(crate) greeting: Greeting,
    /// Silence after which this side sends a PING.
    pub(crate) keepalive: Duration,
}

/// What `Welcome` said.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) user: UserId,
    pub(crate) relay: String,
    pub(crate) relays: Vec<String>,
    /// When to get a new token.
    pub(crate) refresh: Option<Instant>,
    /// When the token expires.
    pub(crate) ends: Option<Instant>,
    keepalive: Duration,
    time: u64,
    limits: Limits,
    unanswered_bytes: u64,
    rate: u64,
    burst: u64,
}

impl Dialer {
    pub(crate) fn new(config: &Config, device: DeviceId) -> Result<Self, ConnectError> {
        if config.relays.is_empty() {
            return Err(ConnectError::NoRelay);
        }
        Ok(Self {
            configured: config.relays.clone(),
            told: Vec::new(),
            at: 0,
            tls: Tls::new(&config.trust, &*config.platform).map_err(ConnectError::Trust)?,
            token: config.token.clone(),
            timing: config.timing,
            keepalive: config.timing.keepalive,
            platform: config.platform.clone(),
            device,
            instance: InstanceId(config.platform.random()),
            name: config.name.clone(),
            streams: config.streams,
        })
    }

    /// How many relays are known.
    pub(crate) fn relays(&self) -> usize {
        self.configured.len() + self.told.len()
    }

    /// Tries one relay, and the next one next time.
    pub(crate) fn dial(&mut self) -> impl Future<Output = Result<Session, ConnectionLost>> + Send + use<> {
        let relay = self.configured.iter().chain(&self.told).nth(self.at % self.relays()).cloned().unwrap_or_default();
        self.at = (self.at + 1) % self.relays();
        let attempt = Attempt {
            relay,
            tls: self.tls.clone(),
            token: self.token.clone(),
            timing: self.timing,
            platform: self.platform.clone(),
            device: self.device,
            instance: self.instance,
            name: self.name.clone(),
            streams: self.streams,
        };
        async move { attempt.run().await }
    }

    /// Learns from a session. The next relay to try is the one after its own.
    pub(crate) fn learn(&mut self, session: &Session) {
        self.timing.keepalive = self.keepalive.min(session.greeting.keepalive);
        let new = |relay: &&String| !self.configured.contains(relay);
        self.told = session.greeting.relays.iter().filter(new).cloned().collect();
        let here = self.configured.iter().chain(&self.told).position(|relay| *relay == session.address);
        self.at = here.map_or(0, |here| here + 1);
    }
}

struct Attempt {
    relay: String,
    tls: Tls,
    token: Arc<dyn TokenSource>,
    timing: Timing,
    platform: Arc<dyn Platform>,
    device: DeviceId,
    instance: InstanceId,
    name: String,
    streams: u64,
}

impl Attempt {
    async fn run(self) -> Result<Session, ConnectionLost> {
        let limit = self.timing.attempt;
        let token = token(&*self.token, limit).await?;
        let addresses = self.resolve().await?;
        self.tls.forget();
        timeout(limit, self.race(&addresses, &token)).await.unwrap_or(Err(ConnectionLost::Timeout(limit)))
    }

    /// Tries the addresses one after the other, but without waiting for long for any of them (as RFC 8305 does): a name often
    /// stands for one over IPv6 that leads nowhere and one over IPv4 that does.
    async fn race(&self, addresses: &[SocketAddr], token: &str) -> Result<Session, ConnectionLost> {
        let attempts = addresses.iter().zip(0..).map(|(address, nth)| async move {
            sleep(STAGGER * nth).await;
            self.greet(*address, token).await
        });
        first_answer(attempts, self.no_address("it has no address")).await
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectionLost> {
        let addresses = timeout(self.timing.attempt, tokio::net::lookup_host(&self.relay))
            .await
            .map_err(|_| self.no_address("the resolver does not answer"))?
            .map_err(|error| self.no_address(&error.to_string()))?;
        Ok(addresses.collect())
    }

    async fn greet(&self, address: SocketAddr, token: &str) -> Result<Session, ConnectionLost> {
        let endpoint =
            endpoint(&self.platform, address).map_err(|error| ConnectionLost::Transport(error.to_string().into()))?;
        let mut config = ClientConfig::new(self.tls.config());
        let platform = self.platform.clone();
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&platform.random::<20>())));
        config.transport_config(transport::config(self.streams, self.timing.keepalive, self.timing.idle));
        let connection = endpoint
            .connect_with(config, address, host(&self.relay))
            .map_err(|error| self.no_address(&error.to_string()))?
            .await
            .map_err(|error| self.tls.lost(error))?;
        // Whatever fails from here on closes the connection, because nobody holds it any more.
        let (mut send, recv) = connection.open_bi().await?;
        send.set_priority(SESSION).ok();
        let [grease, extension] = [self.platform.random::<8>(), self.platform.random::<8>()];
        let hello = Hello {
            token,
            device: self.device,
            instance: self.instance,
            client: &self.name,
            streams: self.streams,
            features: Items::encode([grease::number(u64::from_le_bytes(extension))]),
        };
        let mut out = Vec::new();
        frame::encode_extended(&hello, &[grease::extension(&extension)], &mut out);
        grease::frame(u64::from_le_bytes(grease), &mut out);
        let written = send.write_all(&out).await;
        let mut reading = Reading { recv, buffer: Buffer::default() };
        let greeting = match reading.greeting().await {
            Ok(greeting) => greeting,
            Err(error) => return Err(closed(&connection, error, written)),
        };
        let Greeting { limits, unanswered_bytes, rate, burst, .. } = greeting;
        let allowance = Allowance::new(unanswered_bytes, rate, burst, Instant::now());
        let link = Arc::new(Link::new(connection, limits, allowance));
        Ok(Session {
            address: self.relay.clone(),
            link,
            endpoint,
            send,
            recv: reading.recv,
            buffer: reading.buffer,
            greeting,
            keepalive: self.timing.keepalive,
        })
    }

    fn no_address(&self, error: &str) -> ConnectionLost {
        ConnectionLost::Address { relay: self.relay.clone(), error: error.into() }
    }
}

/// A token. A source that does not answer in time fails.
pub(super) async fn token(source: &dyn TokenSource, limit: Duration) -> Result<String, TokenError> {
    let silent = |_| Err(TokenError::temporary(format!("its source did not answer within {limit:?}")));
    timeout(limit, source.token()).await.unwrap_or_else(silent)
}

/// The first answer of any kind: an address that never answers holds up nobody. Without one, the last error, or this.
async fn first_answer<T>(
    attempts: impl Iterator<Item = impl Future<Output = Result<T, ConnectionLost>>>,
    mut lost: ConnectionLost,
) -> Result<T, ConnectionLost> {
    let mut attempts: FuturesUnordered<_> = attempts.collect();
    while let Some(result) = attempts.next().await {
        match result {
            Err(error) if !error.is_answer() => lost = error,
            answer => return answer,
        }
    }
    Err(lost)
}

struct Reading {
    recv: RecvStream,
    buffer: Buffer,
}

impl Reading {
    async fn greeting(&mut self) -> Result<Greeting, ConnectionLost> {
        let mut greeting = None;
        while greeting.is_none() {
            match self.recv.read_chunk(CHUNK, true).await {
                Ok(Some(chunk)) => self.buffer.push(chunk.bytes),
                Ok(None) => return Err(Broken::unexpected("the session stream ended before Welcome").into()),
                Err(error) => return Err(ConnectionLost::Transport(error.to_string().into())),
            }
            self.buffer.drain(|message| match message {
                ToClient::Welcome(welcome) => {
                    greeting = Some(read(&welcome)?);
                    Ok::<_, Broken>(false)
                }
                _ => Err(Broken::unexpected("the session does not begin with Welcome")),
            })?;
        }
        greeting.ok_or_else(|| Broken::unexpected("no Welcome").into())
    }
}

fn read(welcome: &Welcome<'_>) -> Result<Greeting, Broken> {
    let user = UserId::parse(welcome.user).map_err(|_| Broken::unexpected("Welcome names no user"))?;
    Ok(Greeting {
        user,
        relay: welcome.relay.to_owned(),
        relays: welcome.relays.iter().map(str::to_owned).collect(),
        refresh: refresh_after(welcome.time, welcome.expires).map(|wait| Instant::now() + wait),
        ends: ends_after(welcome.time, welcome.expires).map(|wait| Instant::now() + wait),
        keepalive: Duration::from_millis(welcome.keepalive).max(KEEPALIVE),
        time: welcome.time,
        limits: Limits {
            generation: welcome.generation,
            message: usize::try_from(welcome.message).unwrap_or(usize::MAX),
            unanswered: welcome.unanswered.clamp(1, quip_protocol::limit::UNANSWERED) as usize,
        },
        unanswered_bytes: welcome.unanswered_bytes,
        rate: welcome.rate,
        burst: welcome.burst,
    })
}

impl Greeting {
    /// The relay gave the token until `expires`.
    pub(crate) fn refreshed(&mut self, expires: u64, since: Instant) {
        let now = self.time + since.elapsed().as_millis() as u64;
        self.refresh = refresh_after(now, expires).map(|wait| Instant::now() + wait);
        self.ends = ends_after(now, expires).map(|wait| Instant::now() + wait);
    }
}

/// How long a token is valid; `None` if it is for ever.
fn ends_after(now: u64, expires: u64) -> Option<Duration> {
    (expires != 0).then(|| Duration::from_millis(expires.saturating_sub(now)).min(LONG))
}

/// Three quarters into the token's life by the relay's clock, and at least five seconds before its end.
fn refresh_after(now: u64, expires: u64) -> Option<Duration> {
    let left = ends_after(now, expires)?;
    Some((left * 3 / 4).min(left.saturating_sub(MARGIN)).max(Duration::from_secs(1)))
}

/// The relay's reason, when it closed the connection, rather than what followed from that.
fn closed(
    connection: &quinn::Connection,
    error: ConnectionLost,
    written: Result<(), quinn::WriteError>,
) -> ConnectionLost {
    match (connection.close_reason(), written) {
        (Some(reason), _) | (None, Err(quinn::WriteError::ConnectionLost(reason))) => reason.into(),
        _ => error,
    }
}

fn endpoint(platform: &Arc<dyn Platform>, remote: SocketAddr) -> std::io::Result<Endpoint> {
    let reset = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &platform.random::<32>());
    let mut config = EndpointConfig::new(Arc::new(reset));
    let ids = platform.clone();
    config.cid_generator(move || Box::new(Ids(ids.clone()))).rng_seed(Some(platform.random()));
    Endpoint::new_with_abstract_socket(config, None, platform.socket(remote)?, platform.runtime())
}

/// Connection ids as the platform draws them.
struct Ids(Arc<dyn Platform>);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.random::<CID>())
    }

    fn cid_len(&self) -> usize {
        CID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Bytes of a connection id.
const CID: usize = 8;

/// The name in `name:port`, without the brackets of an IPv6 address.
fn host(relay: &str) -> &str {
    let host = relay.rsplit_once(':').map_or(relay, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Bytes read from a stream at once.
pub(super) const CHUNK: usize = 16 * 1024;
/// The session stream goes before conversations, and those before requests.
const SESSION: i32 = 2;
/// The head start of an address before the next one.
const STAGGER: Duration = Duration::from_millis(200);
/// A relay cannot ask for more keepalives than this.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A new token is asked for at least so long before the old one ends.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest timer, for tokens that live for years.
const LONG: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Untrusted;

    #[test]
    fn the_host_is_what_precedes_the_port() {
        assert_eq!(host("chat.example:4433"), "chat.example");
        assert_eq!(host("127.0.0.1:4433"), "127.0.0.1");
        assert_eq!(host("[::1]:4433"), "::1");
    }

    #[tokio::test]
    async fn an_answer_of_any_kind_ends_the_race_and_silence_does_not() {
        async fn attempt(result: Option<Result<u8, ConnectionLost>>) -> Result<u8, ConnectionLost> {
            match result {
                Some(result) => result,
                None => std::future::pending().await,
            }
        }
        let race = |attempts: Vec<_>| first_answer(attempts.into_iter().map(attempt), ConnectionLost::Timeout(LONG));
        let unreachable = || Some(Err(ConnectionLost::Transport("no route".into())));
        assert_eq!(race(vec![None, unreachable(), Some(Ok(3))]).await.unwrap(), 3);
        let untrusted = race(vec![None, unreachable(), Some(Err(Untrusted::Authority.into()))]).await;
        assert!(matches!(untrusted, Err(ConnectionLost::Untrusted(Untrusted::Authority))), "{untrusted:?}");
        let nobody = race(vec![unreachable(), unreachable()]).await;
        assert!(matches!(nobody, Err(ConnectionLost::Transport(_))), "{nobody:?}");
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let wait = |left: u64| refresh_after(1_000_000, 1_000_000 + left);
        assert_eq!(wait(400_000), Some(Duration::from_secs(300)));
        assert_eq!(wait(12_000), Some(Duration::from_secs(7)));
        assert_eq!(wait(100), Some(Duration::from_secs(1)));
        assert_eq!(refresh_after(1_000_000, 0), None);
        assert_eq!(refresh_after(1_000_000, u64::MAX), Some(LONG * 3 / 4));
    }
}
