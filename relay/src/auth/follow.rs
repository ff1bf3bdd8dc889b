//! A key set that changes: read once at the start, and from then on by a thread of its own. Whoever verifies tokens
//! only ever loads a pointer.

use std::{
    io, iter,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use thiserror::Error;

use super::{
    fetch::{self, FetchError},
    jwks::{self, Document, DocumentError},
    key::VerifyingKey,
};
use crate::config::JwksConfig;

/// Why there are no new keys. The text says what to do.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The document cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not one to trust.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Why key sets cannot be followed. The text says what to do.
#[derive(Debug, Error)]
pub enum FollowError {
    /// None can be had, and there is no other key.
    #[error("no keys from {place}: {error}")]
    NoKey {
        /// Where the first set should be.
        place: String,
        /// What is wrong with it.
        error: JwksError,
    },
    /// The system gives no thread.
    #[error("no thread to follow a key set: {0}")]
    Thread(#[from] io::Error),
}

/// What is known of a key set at one moment.
#[derive(Default)]
pub(super) struct Known {
    /// Empty until the set was read for the first time.
    pub(super) keys: Vec<VerifyingKey>,
    /// Names that tokens had, which were looked for at the last reading and are not there.
    absent: Vec<String>,
}

impl Known {
    /// True when a key of this name is not here, and yet could be in the set. Of a token without a name that cannot be
    /// told; it is worth waiting only for the first reading.
    pub(super) fn may_lack(&self, kid: Option<&str>) -> bool {
        match kid {
            Some(kid) => kid.len() <= LONGEST_NAME && !self.absent.iter().any(|absent| absent == kid),
            None => self.keys.is_empty(),
        }
    }
}

/// A key set that a thread keeps up to date.
pub(super) struct Followed {
    known: Arc<ArcSwap<Known>>,
    asked: SyncSender<String>,
}

/// Reads every set once, all at the same time, and leaves each to a thread of its own. A set that cannot be had now is
/// tried again later, unless all are so and no other key is there: a relay that could let nobody in does not start.
///
/// # Errors
/// With what is wrong with the first set.
pub(super) fn follow(sets: &[JwksConfig], other_keys: bool) -> Result<Vec<Followed>, FollowError> {
    let started: Vec<_> = sets.iter().map(Follower::start).collect::<Result<_, _>>()?;
    let (followed, first): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let read: Vec<_> = first.iter().map(|first| first.recv().expect("a follower reports its first reading")).collect();
    let nothing = !other_keys && read.iter().all(Result::is_err);
    match sets.iter().zip(read).find_map(|(set, read)| Some((set, read.err()?))) {
        Some((set, error)) if nothing => Err(FollowError::NoKey { place: set.place.to_string(), error }),
        _ => Ok(followed),
    }
}

/// What one reading of a key set found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetReport {
    /// The algorithm and name of each key that verifies tokens, for people; never empty.
    pub keys: Vec<String>,
    /// Keys that are for something else.
    pub skipped: usize,
}

/// Reads a set once, without following it.
///
/// # Errors
/// When a relay could not use it.
pub fn look_at(set: &JwksConfig) -> Result<KeySetReport, JwksError> {
    let Document { keys, skipped } = read(set)?;
    let described = |key: &VerifyingKey| match &key.kid {
        Some(kid) => format!("{:?} {kid:?}", key.algorithm),
        None => format!("{:?} without a name", key.algorithm),
    };
    Ok(KeySetReport { keys: keys.iter().map(described).collect(), skipped })
}

fn read(set: &JwksConfig) -> Result<Document, JwksError> {
    Ok(jwks::parse(&fetch::fetch(set)?, set.keys)?)
}

impl Followed {
    /// What is known now. Costs a pointer, and never waits.
    pub(super) fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Has a key looked for, soon. When too many are looked for already, the set is read all the same.
    pub(super) fn look_for(&self, kid: &str) {
        if kid.len() <= LONGEST_NAME {
            let _ = self.asked.try_send(kid.to_owned());
        }
    }
}

/// The thread's side.
struct Follower {
    set: JwksConfig,
    known: Arc<ArcSwap<Known>>,
    asked: Receiver<String>,
    schedule: Schedule,
}

impl Follower {
    /// Starts the thread, which reports its first reading.
    fn start(set: &JwksConfig) -> Result<(Followed, Receiver<Result<(), JwksError>>), FollowError> {
        let known = Arc::new(ArcSwap::default());
        let (asked, asks) = sync_channel(MOST_ASKED);
        let (first, report) = sync_channel(1);
        let schedule = Schedule::new(set, Instant::now());
        let mut follower = Self { set: set.clone(), known: Arc::clone(&known), asked: asks, schedule };
        thread::Builder::new().name("key-set".to_owned()).spawn(move || {
            let _ = first.send(follower.read(&[]));
            follower.run();
        })?;
        Ok((Followed { known, asked }, report))
    }

    /// Reads again and again, until nobody verifies with these keys any more.
    fn run(&mut self) {
        loop {
            let wanted = match self.asked.recv_timeout(self.schedule.next().saturating_duration_since(Instant::now())) {
                Ok(kid) => {
                    thread::sleep(self.schedule.earliest().saturating_duration_since(Instant::now()));
                    iter::once(kid).chain(self.asked.try_iter().take(MOST_ASKED)).collect()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let _ = self.read(&wanted);
        }
    }

    /// Reads once. What was known stays when that fails.
    fn read(&mut self, wanted: &[String]) -> Result<(), JwksError> {
        let read = read(&self.set);
        self.schedule.done(read.is_ok(), Instant::now());
        match read {
            Ok(document) => self.publish(document, wanted),
            Err(error) => {
                let place = &self.set.place;
                let (known, again) = (self.known.load().keys.len(), self.schedule.pause());
                tracing::warn!(%place, %error, known, ?again, "no new keys; those that are known stay good");
                return Err(error);
            }
        }
        Ok(())
    }

    fn publish(&self, document: Document, wanted: &[String]) {
        let Document { keys, skipped } = document;
        let names = |keys: &[VerifyingKey]| keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>();
        let kids = names(&keys);
        if kids != names(&self.known.load().keys) {
            tracing::info!(place = %self.set.place, ?kids, skipped, "the keys that verify tokens");
        }
        let mut absent = wanted.to_vec();
        absent.retain(|kid| !kids.iter().flatten().any(|there| there == kid));
        self.known.store(Arc::new(Known { keys, absent }));
    }
}

/// When a set is read. Pure.
struct Schedule {
    refresh: Duration,
    refetch_after: Duration,
    last: Instant,
    /// Readings that failed since one did not.
    failures: u32,
}

impl Schedule {
    fn new(set: &JwksConfig, now: Instant) -> Self {
        Self { refresh: set.refresh, refetch_after: set.refetch_after, last: now, failures: 0 }
    }

    /// Something was read, or could not be.
    fn done(&mut self, well: bool, now: Instant) {
        self.last = now;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
    }

    /// The pause before the next reading, when nobody asks: after failures shorter, and doubled with each.
    fn pause(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => self.refresh,
            Some(doubled) => self.refetch_after.saturating_mul(2_u32.saturating_pow(doubled)).min(self.refresh),
        }
    }

    /// When it is read next.
    fn next(&self) -> Instant {
        self.last + self.pause()
    }

    /// Before this it is not read, whoever asks.
    fn earliest(&self) -> Instant {
        self.last + self.refetch_after
    }
}

/// Names that are looked for at once, each from a token that nobody has verified.
const MOST_ASKED: usize = 64;

/// Bytes of a key's name that is looked for.
const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JwksPlace;

    fn schedule(start: Instant) -> Schedule {
        Schedule::new(&JwksConfig::new(JwksPlace::File("keys".into())), start)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_set_is_read_at_its_pace_and_not_sooner_than_its_limit_allows() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        schedule.done(true, start + seconds(3));
        assert_eq!(schedule.next(), start + seconds(303));
        assert_eq!(schedule.earliest(), start + seconds(13));
    }

    #[test]
    fn failures_are_tried_again_sooner_and_then_ever_later() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            schedule.done(false, start);
            pauses.push(schedule.next().duration_since(start).as_secs());
            assert_eq!(schedule.earliest(), start + seconds(10), "and asking never comes sooner");
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        (0..100).for_each(|_| schedule.done(false, start));
        assert_eq!(schedule.pause(), seconds(300));
        schedule.done(true, start);
        assert_eq!(schedule.pause(), seconds(300));
        schedule.done(false, start);
        assert_eq!(schedule.pause(), seconds(10), "a reading that went well forgets the failures");
    }

    #[test]
    fn asking_never_waits_and_is_bounded() {
        let (asked, asks) = sync_channel(MOST_ASKED);
        let followed = Followed { known: Arc::default(), asked };
        (0..2 * MOST_ASKED).for_each(|index| followed.look_for(&index.to_string()));
        assert_eq!(asks.try_iter().count(), MOST_ASKED);
        followed.look_for(&"x".repeat(LONGEST_NAME + 1));
        assert_eq!(asks.try_iter().count(), 0);
    }

    #[test]
    fn what_was_looked_for_and_is_not_there_is_known_to_be_absent() {
        let known = Known { keys: Vec::new(), absent: vec!["gone".to_owned()] };
        assert!(!known.may_lack(Some("gone")));
        assert!(known.may_lack(Some("new")));
        assert!(known.may_lack(None), "nothing was read yet");
    }
}
