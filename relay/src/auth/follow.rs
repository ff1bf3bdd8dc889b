//! A key set that changes. It is fetched once at the start and then by its own thread. Verifying a token only loads a
//! pointer.

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

/// Why a key set could not be updated. The text says what to do.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The document could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The document is not acceptable.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Why key sets cannot be followed. The text says what to do.
#[derive(Debug, Error)]
pub enum FollowError {
    /// No key set could be fetched, and there is no other key.
    #[error("no keys from {place}: {error}")]
    NoKey {
        /// The place of the first set.
        place: String,
        /// What is wrong with it.
        error: JwksError,
    },
    /// A thread could not be started.
    #[error("could not start a thread for a key set: {0}")]
    Thread(#[from] io::Error),
}

/// What is known of a key set at one moment.
#[derive(Default)]
pub(super) struct Known {
    /// Empty until the first successful fetch.
    pub(super) keys: Vec<VerifyingKey>,
    /// Names from tokens that were looked up in the last fetch and are not in the set.
    absent: Vec<String>,
}

impl Known {
    /// True if a key of this name is unknown and could be in the set. A token without a name could be signed with any key, so
    /// it waits only for the first fetch.
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

/// Fetches all sets at the same time and starts a thread for each. A set that could not be fetched is tried again later,
/// unless none could be fetched and there is no other key: a relay that cannot accept any token does not start.
///
/// # Errors
/// With the error of the first set.
pub(super) fn follow(sets: &[JwksConfig], other_keys: bool) -> Result<Vec<Followed>, FollowError> {
    let started: Vec<_> = sets.iter().map(Follower::start).collect::<Result<_, _>>()?;
    let (followed, first): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let read: Vec<_> = first.iter().map(|first| first.recv().expect("a follower reports its first fetch")).collect();
    let nothing = !other_keys && read.iter().all(Result::is_err);
    match sets.iter().zip(read).find_map(|(set, read)| Some((set, read.err()?))) {
        Some((set, error)) if nothing => Err(FollowError::NoKey { place: set.place.to_string(), error }),
        _ => Ok(followed),
    }
}

/// The result of one fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetReport {
    /// The algorithm and name of each key that verifies tokens, for people; never empty.
    pub keys: Vec<String>,
    /// Keys that do not verify tokens.
    pub skipped: usize,
}

/// Fetches a set once.
///
/// # Errors
/// If a relay could not use it.
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
    /// What is known now. Never blocks.
    pub(super) fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Requests a fetch for a key. With too many requests queued, this one is dropped; the set is fetched anyway.
    pub(super) fn look_for(&self, kid: &str) {
        if kid.len() <= LONGEST_NAME {
            let _ = self.asked.try_send(kid.to_owned());
        }
    }
}

/// The state of the thread.
struct Follower {
    set: JwksConfig,
    known: Arc<ArcSwap<Known>>,
    asked: Receiver<String>,
    schedule: Schedule,
}

impl Follower {
    /// Starts the thread, which reports its first fetch.
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

    /// Fetches until the last user of these keys is dropped.
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

    /// Fetches once. On failure the known keys are kept.
    fn read(&mut self, wanted: &[String]) -> Result<(), JwksError> {
        let read = read(&self.set);
        self.schedule.done(read.is_ok(), Instant::now());
        match read {
            Ok(document) => self.publish(document, wanted),
            Err(error) => {
                let place = &self.set.place;
                let (known, again) = (self.known.load().keys.len(), self.schedule.pause());
                tracing::warn!(%place, %error, known, ?again, "could not update a key set; keeping the known keys");
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
            tracing::info!(place = %self.set.place, ?kids, skipped, "key set updated");
        }
        let mut absent = wanted.to_vec();
        absent.retain(|kid| !kids.iter().flatten().any(|there| there == kid));
        self.known.store(Arc::new(Known { keys, absent }));
    }
}

/// When a set is fetched. Pure.
struct Schedule {
    refresh: Duration,
    refetch_after: Duration,
    last: Instant,
    /// Failed fetches since the last successful one.
    failures: u32,
}

impl Schedule {
    fn new(set: &JwksConfig, now: Instant) -> Self {
        Self { refresh: set.refresh, refetch_after: set.refetch_after, last: now, failures: 0 }
    }

    /// A fetch ended.
    fn done(&mut self, well: bool, now: Instant) {
        self.last = now;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
    }

    /// The pause before the next regular fetch: short after a failure, doubled with each further one.
    fn pause(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => self.refresh,
            Some(doubled) => self.refetch_after.saturating_mul(2_u32.saturating_pow(doubled)).min(self.refresh),
        }
    }

    /// The time of the next regular fetch.
    fn next(&self) -> Instant {
        self.last + self.pause()
    }

    /// The earliest time of the next fetch, also of a requested one.
    fn earliest(&self) -> Instant {
        self.last + self.refetch_after
    }
}

/// Maximum queued names; they come from tokens that are not verified.
const MOST_ASKED: usize = 64;

/// Maximum bytes of a name that is looked up.
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
            assert_eq!(schedule.earliest(), start + seconds(10), "a requested fetch never comes sooner");
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        (0..100).for_each(|_| schedule.done(false, start));
        assert_eq!(schedule.pause(), seconds(300));
        schedule.done(true, start);
        assert_eq!(schedule.pause(), seconds(300));
        schedule.done(false, start);
        assert_eq!(schedule.pause(), seconds(10), "a successful fetch resets the failures");
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
        assert!(known.may_lack(None), "nothing was fetched yet");
    }
}
