//! The thread that publishes what was submitted and reads what the stream has.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Subscriber, header::NATS_MESSAGE_ID, jetstream};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use quip_order::{Clock, JUMP, Ordered};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    ClusterConfig, ClusterError, Shared,
    error::Trouble,
    link::{Link, Stay},
    log::{Found, Log},
    message::{self, Arrival, Place, Unreadable},
    unknown::{self, Unknown},
};

/// Asks the engine to begin behind a position.
pub(crate) struct Begin {
    pub(crate) after: u64,
    /// Takes the last position of the stream.
    pub(crate) head: mpsc::Sender<Result<u64, ClusterError>>,
}

/// What the engine is given when it starts.
pub(crate) struct Start {
    pub(crate) config: ClusterConfig,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    /// Takes the generation of the stream.
    pub(crate) opened: mpsc::Sender<Result<u64, ClusterError>>,
    pub(crate) begin: tokio::sync::oneshot::Receiver<Begin>,
}

/// Runs until the order is closed or cannot go on.
pub(crate) async fn run(start: Start) -> Result<(), ClusterError> {
    let Start { config, clock, shared, opened, begin } = start;
    let patience = config.patience;
    let opening = async {
        let link = Link::open(&config).await?;
        let log = Log::new(link.clone(), config);
        let found = insist(patience, || log.make()).await?;
        Ok((link, log, found.generation))
    };
    let (link, log, generation) = match opening.await {
        Ok(opening) => opening,
        Err(error) => {
            // Opening the order reports the reason.
            let _ = opened.send(Err(error));
            return Ok(());
        }
    };
    let is_wanted = opened.send(Ok(generation)).is_ok();
    let Ok(Begin { after, head }) = begin.await else { return Ok(()) };
    if !is_wanted {
        return Ok(());
    }
    let checked = insist(patience.min(BEGIN_WITHIN), || log.check(generation, after)).await;
    let found = match checked {
        Ok(found) => found,
        Err(error) => {
            let _ = head.send(Err(error));
            return Ok(());
        }
    };
    tracing::info!(stream = log.name, after, head = found.last, "following the stream");
    let _ = head.send(Ok(found.last));

    let inbox = link.client.new_inbox();
    let answers = link.client.subscribe(format!("{inbox}.*")).await;
    let answers = answers.map_err(|error| ClusterError::Unreachable(error.to_string()))?;
    let closed = shared.clone();
    let engine = Engine {
        link,
        log,
        generation,
        patience,
        shared,
        place: Place::after(after),
        incarnation: format!("{:016x}-", rand::random::<u64>()),
        count: 0,
        unknown: BTreeMap::new(),
        unknown_bytes: 0,
        due: found.last,
        inbox: format!("{inbox}."),
        answers,
        clock,
        complaints: Rarely::default(),
        wrong_times: Rarely::default(),
        has_complained: false,
    };
    tokio::select! {
        ended = engine.run() => ended,
        () = async { closed.intake.closed().await; sleep(CLOSE_WITHIN).await } => {
            tracing::warn!("some commands were not published in {CLOSE_WITHIN:?}; clients ask again");
            Ok(())
        }
    }
}

/// Looks until all is well, as at a start: what is doubtful is believed after `patience`, and so is silence.
async fn insist<F>(patience: Duration, mut look: impl FnMut() -> F) -> Result<Found, ClusterError>
where
    F: Future<Output = Result<Found, Trouble>>,
{
    let started = Instant::now();
    loop {
        let error = match look().await {
            Ok(found) => return Ok(found),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Doubtful(error)) => error,
            Err(Trouble::Silent(why)) => ClusterError::Unreachable(why),
        };
        if started.elapsed() > patience {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// For how long the log has looked wrong while servers answered.
#[derive(Debug, Default)]
struct Doubt(Option<Instant>);

impl Doubt {
    /// The trouble as an error if it must stop a relay that is at work; otherwise why to look again.
    fn weigh(&mut self, trouble: Trouble, patience: Duration) -> Result<String, ClusterError> {
        match trouble {
            Trouble::Final(error) => Err(error),
            Trouble::Silent(why) => {
                self.0 = None;
                Ok(why)
            }
            // The log is not wrong, only the monitoring port is silent.
            Trouble::Doubtful(error @ ClusterError::Unchecked { .. }) => Ok(error.to_string()),
            Trouble::Doubtful(error) => {
                let since = *self.0.get_or_insert_with(Instant::now);
                if since.elapsed() > patience { Err(error) } else { Ok(error.to_string()) }
            }
        }
    }
}

/// Publishes and reads, over any number of connections.
struct Engine {
    link: Link,
    log: Log,
    generation: u64,
    patience: Duration,
    shared: Arc<Shared>,
    place: Place,
    /// Of this order, and the beginning of the ids of its messages.
    incarnation: String,
    /// Commands that were published.
    count: u64,
    /// Those of which it is not known whether the stream has them, by their count.
    unknown: BTreeMap<u64, Unknown>,
    unknown_bytes: usize,
    /// What is handed out before the end: the stream as it was at the start, and what it acknowledged since.
    due: u64,
    /// The beginning of the subjects that acknowledgements come to.
    inbox: String,
    answers: Subscriber,
    clock: Clock,
    complaints: Rarely,
    /// Lines about servers whose clock is ahead.
    wrong_times: Rarely,
    /// So that the end of the trouble is said too.
    has_complained: bool,
}

/// How a session at one server ended.
enum Ended {
    /// The order is closed, and what it took is in the stream and was read.
    Drained,
    /// Begin again.
    Lost(String),
}

impl Engine {
    async fn run(mut self) -> Result<(), ClusterError> {
        let mut doubt = Doubt::default();
        loop {
            let Ok(stay) = timeout(SAY_EVERY, self.link.connected()).await else {
                tracing::warn!(stream = self.log.name, why = self.link.trouble(), "still not connected; trying again");
                continue;
            };
            let stay = stay?;
            let why = match self.log.check(self.generation, self.place.position).await {
                Ok(found) => {
                    doubt = Doubt::default();
                    match self.session(stay, found).await? {
                        Ended::Drained => return Ok(()),
                        Ended::Lost(why) => why,
                    }
                }
                Err(trouble) => {
                    let is_silent = matches!(trouble, Trouble::Silent(_));
                    let why = doubt.weigh(trouble, self.patience)?;
                    if is_silent {
                        // Another server may answer.
                        let _ = self.link.client.force_reconnect().await;
                    }
                    why
                }
            };
            self.shared.intake.set_stalled(true);
            if self.complaints.may() {
                tracing::warn!(stream = self.log.name, why, "the stream cannot be used; trying again");
                self.has_complained = true;
            }
            sleep(PAUSE).await;
        }
    }

    async fn session(&mut self, stay: Stay, found: Found) -> Result<Ended, ClusterError> {
        let (generation, position) = (self.generation, self.place.position);
        self.place = Place::after(position);
        let mut messages = match self.log.read(position).await {
            Ok(messages) => messages,
            Err(error) => return Ok(Ended::Lost(error.to_string())),
        };
        self.shared.intake.set_stalled(false);
        if std::mem::take(&mut self.has_complained) {
            let (behind, unknown) = (found.last - position, self.unknown.len());
            tracing::info!(stream = self.log.name, position, behind, unknown, "using the stream again");
        }
        let mut checks = Checks::start(self.log.clone(), generation, position, self.patience);
        let now = Instant::now();
        self.unknown.values_mut().for_each(|unknown| unknown.reconnected(now));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        loop {
            self.publish_new().await;
            if self.is_drained() {
                return Ok(Ended::Drained);
            }
            let full = shared.outlet.is_full();
            tokio::select! {
                () = self.link.lost(stay) => return Ok(Ended::Lost("disconnected".to_owned())),
                message = messages.next(), if !full => {
                    if let Some(lost) = self.arrived(message, &mut messages)? {
                        return Ok(Ended::Lost(lost));
                    }
                }
                () = shared.outlet.has_room.notified(), if full => {}
                answer = self.answers.next() => match answer {
                    Some(answer) => self.answered(&answer),
                    None => return Ok(Ended::Lost("the connection was closed".to_owned())),
                },
                () = shared.intake.filled.notified() => {}
                _ = ticks.tick(), if !self.unknown.is_empty() => self.publish_again().await,
                error = checks.failed() => return Err(error),
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.unknown.is_empty() && self.place.position >= self.due && self.shared.intake.is_drained()
    }

    /// Publishes what was submitted, as far as the window goes.
    async fn publish_new(&mut self) {
        while self.unknown.len() < WINDOW && self.unknown_bytes < WINDOW_BYTES {
            let Some(command) = self.shared.intake.take() else { return };
            self.count += 1;
            let message = message::encode(&command, (self.clock)());
            self.unknown_bytes += message.len();
            let unknown = Unknown::new(&command, message.clone(), Instant::now());
            self.unknown.insert(self.count, unknown);
            if !self.publish(self.count, 0, message).await {
                return;
            }
        }
    }

    /// Publishes what has no answer for too long, in its order and with its id.
    async fn publish_again(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .unknown
            .iter()
            .filter(|(_, unknown)| unknown.is_due(now))
            .map(|(&n, unknown)| (n, unknown.renewed, unknown.message.clone()))
            .collect();
        if due.is_empty() {
            return;
        }
        tracing::debug!(messages = due.len(), "publishing again");
        for (n, renewed, message) in due {
            if let Some(unknown) = self.unknown.get_mut(&n) {
                unknown.published(now);
            }
            if !self.publish(n, renewed, message).await {
                return;
            }
        }
    }

    /// False when the way to the server is full.
    async fn publish(&self, n: u64, renewed: u32, message: Bytes) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, message::id(&self.incarnation, n, renewed));
        let reply = format!("{}{n}", self.inbox);
        let publish = self.link.client.publish_with_reply_and_headers(self.log.name.clone(), reply, headers, message);
        matches!(timeout(QUEUE_WITHIN, publish).await, Ok(Ok(())))
    }

    /// Takes an answer to what was published.
    fn answered(&mut self, answer: &async_nats::Message) {
        let n = answer.subject.strip_prefix(&self.inbox).and_then(|n| n.parse().ok());
        let Some(n) = n else { return };
        let refusal = match unknown::position(answer.status, &answer.payload) {
            Ok(position) => {
                self.due = self.due.max(position);
                return self.known(n);
            }
            Err(refusal) => refusal,
        };
        if let Some(unknown) = self.unknown.get_mut(&n) {
            unknown.refused(refusal.code, Instant::now());
        }
        if self.complaints.may() {
            tracing::warn!(stream = self.log.name, refusal = refusal.why, "the stream takes no message; trying again");
        }
    }

    /// The stream has this one.
    fn known(&mut self, n: u64) {
        if let Some(unknown) = self.unknown.remove(&n) {
            self.unknown_bytes -= unknown.message.len();
            self.shared.intake.give_back(unknown.conversation, unknown.weight);
        }
    }

    /// Takes a message, and those behind it that have arrived too. Says why another consumer is needed.
    fn arrived(
        &mut self,
        first: Pulled,
        messages: &mut jetstream::consumer::pull::Stream,
    ) -> Result<Option<String>, ClusterError> {
        let mut taken = Vec::new();
        let (mut next, mut lost) = (Some(first), None);
        while let Some(message) = next.take() {
            lost = match message {
                Some(Ok(message)) => self.take(&message, &mut taken)?,
                Some(Err(error)) => Some(error.to_string()),
                None => Some("the consumer has ended".to_owned()),
            };
            if lost.is_none() && taken.len() < AT_ONCE {
                next = messages.next().now_or_never();
            }
        }
        if !taken.is_empty() {
            self.shared.outlet.push(&mut taken);
        }
        Ok(lost)
    }

    fn take(&mut self, message: &jetstream::Message, into: &mut Vec<Ordered>) -> Result<Option<String>, ClusterError> {
        let info = match message.info() {
            Ok(info) => info,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let position = info.stream_sequence;
        let stream = || self.log.name.clone();
        match self.place.take(position, info.consumer_sequence) {
            Arrival::Next => {}
            Arrival::Again => return Ok(None),
            Arrival::Lost => return Ok(Some("messages were lost on the way".to_owned())),
            Arrival::Gap => return Err(ClusterError::Gap { stream: stream(), missing: self.place.position + 1 }),
        }
        let (sent, command) = message::decode(&message.payload).map_err(|unreadable| match unreadable {
            Unreadable::Empty => ClusterError::Stranger { stream: stream(), position },
            Unreadable::Form(form) => ClusterError::Form { stream: stream(), position, form },
            Unreadable::Command(source) => ClusterError::Command { stream: stream(), position, source },
        })?;
        let published = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        if published > (self.clock)() + JUMP.as_millis() as u64 && self.wrong_times.may() {
            tracing::warn!(
                stream = self.log.name,
                "the clock of a NATS server is more than {JUMP:?} ahead of this relay's; messages get the time at which they were \
                 sent and {JUMP:?}; check the clocks"
            );
        }
        into.push(Ordered { position, at: message::ordered_at(published, sent), command });
        if let Some(n) = self.own(message) {
            self.known(n);
        }
        Ok(None)
    }

    /// The count of a message that this order published.
    fn own(&self, message: &jetstream::Message) -> Option<u64> {
        let id = message.headers.as_ref()?.get(NATS_MESSAGE_ID)?;
        message::count(id.as_str(), &self.incarnation)
    }
}

type Pulled = Option<Result<jetstream::Message, jetstream::consumer::pull::MessagesError>>;

/// Checks again now and then whether the log is what it was: servers and settings change without a disconnection.
struct Checks(JoinHandle<ClusterError>);

impl Checks {
    fn start(log: Log, generation: u64, position: u64, patience: Duration) -> Self {
        Self(tokio::spawn(async move {
            let every = CHECK_EVERY.min(patience * 2);
            let (mut doubt, mut pause) = (Doubt::default(), every);
            loop {
                sleep(pause).await;
                pause = match log.check(generation, position).await.map_err(|trouble| doubt.weigh(trouble, patience)) {
                    Ok(_) => {
                        doubt = Doubt::default();
                        every
                    }
                    Err(Ok(_)) => every / 8,
                    Err(Err(error)) => return error,
                };
            }
        }))
    }

    async fn failed(&mut self) -> ClusterError {
        (&mut self.0).await.unwrap_or(ClusterError::Ended)
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets something be said once in a while.
#[derive(Debug, Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    fn may(&mut self) -> bool {
        let may = self.0.is_none_or(|last| last.elapsed() > SAY_EVERY);
        if may {
            self.0 = Some(Instant::now());
        }
        may
    }
}

/// What may be published and have no answer.
const WINDOW: usize = 1024;
const WINDOW_BYTES: usize = 1 << 20;
/// Messages that are handed on together at most.
const AT_ONCE: usize = 256;
/// How long a message may wait for room on its way to the socket.
const QUEUE_WITHIN: Duration = Duration::from_secs(1);
/// How often to look for what is due.
const TICK: Duration = Duration::from_millis(50);
/// How long the stream may look wrong when a relay begins to read. Its servers were found before, and the relay's watchdog waits.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at servers or stream.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two checks of a session, unless patience is short.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Between two lines about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How long the end waits for what was taken.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
