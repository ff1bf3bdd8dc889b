//! Which users' last-seen times are to be written, and when. Pure.
//!
//! A user is due when they come, then at intervals while they are here, so that a relay that is killed loses little, and
//! once more after they left. Nobody is due twice within one interval, however often they come and go.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use quip_core::Timestamp;
use quip_protocol::UserId;
use tokio::time::Instant;

/// Users who are here, and those whose last-seen time is not known to be stored.
#[derive(Debug)]
pub(super) struct Ledger {
    users: HashMap<UserId, Record>,
    /// Every user once, under [`Record::due`].
    due: BTreeSet<(Instant, UserId)>,
    gone: usize,
    config: LedgerConfig,
}

/// Settings of a [`Ledger`].
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerConfig {
    /// The interval after each time that a user is due.
    pub(super) every: Duration,
    /// Maximum users who left and are still remembered, until they are written and their interval is over. Further ones are
    /// forgotten: what was written while they were here stays.
    pub(super) left: usize,
}

#[derive(Debug)]
struct Record {
    here: bool,
    heard: Timestamp,
    written: Timestamp,
    due: Instant,
}

impl Ledger {
    /// An empty ledger.
    pub(super) fn new(config: LedgerConfig) -> Self {
        Self { users: HashMap::new(), due: BTreeSet::new(), gone: 0, config }
    }

    /// A user has a connection.
    pub(super) fn came(&mut self, user: &UserId, now: Instant) {
        if let Some(record) = self.users.get_mut(user) {
            self.gone -= usize::from(!record.here);
            record.here = true;
            return;
        }
        self.users.insert(user.clone(), Record { here: true, heard: 0, written: 0, due: now });
        self.due.insert((now, user.clone()));
    }

    /// A user's last connection is gone; they were heard last at `heard`. `time` is now.
    pub(super) fn left(&mut self, user: &UserId, heard: Timestamp, time: Timestamp) {
        let Some(record) = self.users.get_mut(user) else { return };
        record.heard = past(record.heard, time).max(heard);
        self.gone += usize::from(record.here);
        record.here = false;
        if self.gone > self.config.left {
            self.forget(user);
        }
    }

    /// When a user was last heard, as far as is known here; 0 = not.
    pub(super) fn heard(&self, user: &UserId) -> Timestamp {
        self.users.get(user).map_or(0, |record| record.heard)
    }

    /// At most `most` users who are due, with the time to write; `heard` tells it of those who are here. `time` is now: what is
    /// later was said by a clock that was wrong.
    pub(super) fn take(
        &mut self,
        now: Instant,
        time: Timestamp,
        most: usize,
        heard: impl Fn(&UserId) -> Timestamp,
    ) -> Vec<(UserId, Timestamp)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, user)) = self.due.first().filter(|(due, _)| *due <= now).cloned()
        {
            let Some(record) = self.users.get_mut(&user) else { break };
            record.written = past(record.written, time);
            if record.here {
                record.heard = past(record.heard, time).max(heard(&user));
            }
            if !record.here && record.heard <= record.written {
                self.forget(&user);
                continue;
            }
            let (heard, is_new) = (record.heard, record.heard > record.written);
            self.set_due(&user, now + self.config.every);
            if is_new {
                taken.push((user, heard));
            }
        }
        taken
    }

    /// It is stored that a user was last heard at `at`.
    pub(super) fn written(&mut self, user: &UserId, at: Timestamp) {
        if let Some(record) = self.users.get_mut(user) {
            record.written = at;
        }
    }

    /// What was taken of a user could not be submitted.
    pub(super) fn again(&mut self, user: &UserId, now: Instant) {
        self.set_due(user, now);
    }

    /// Everyone is due, for the last time.
    pub(super) fn close(&mut self, now: Instant) {
        let users: Vec<_> = self.users.keys().cloned().collect();
        users.iter().for_each(|user| self.set_due(user, now));
    }

    fn set_due(&mut self, user: &UserId, due: Instant) {
        let Some(record) = self.users.get_mut(user) else { return };
        self.due.remove(&(std::mem::replace(&mut record.due, due), user.clone()));
        self.due.insert((due, user.clone()));
    }

    fn forget(&mut self, user: &UserId) {
        let Some(record) = self.users.remove(user) else { return };
        self.due.remove(&(record.due, user.clone()));
        self.gone -= usize::from(!record.here);
    }
}

/// A time that is not later than `time`; otherwise 0.
pub(super) fn past(at: Timestamp, time: Timestamp) -> Timestamp {
    if at > time { 0 } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);
    /// Later than what is heard in most tests.
    const TIME: Timestamp = 1000;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::new(LedgerConfig { every: EVERY, left: 2 })
    }

    fn taken(ledger: &mut Ledger, now: Instant, heard: Timestamp) -> Vec<(String, Timestamp)> {
        let taken = ledger.take(now, TIME, 100, |_| heard);
        taken.into_iter().map(|(user, at)| (user.as_str().to_owned(), at)).collect()
    }

    #[test]
    fn one_who_is_here_is_due_at_once_and_then_once_in_a_while() {
        let (mut ledger, start) = (ledger(), Instant::now());
        ledger.came(&user("a"), start);
        assert_eq!(taken(&mut ledger, start, 10), [("a".to_owned(), 10)]);
        assert_eq!(taken(&mut ledger, start + EVERY - Duration::from_secs(1), 20), []);
        assert_eq!(taken(&mut ledger, start + EVERY, 30), [("a".to_owned(), 30)]);
    }

    #[test]
    fn one_who_comes_and_goes_is_due_no_more_often() {
        let (mut ledger, start) = (ledger(), Instant::now());
        let mut writes = 0;
        for second in 0..3000 {
            let now = start + Duration::from_secs(second);
            ledger.came(&user("a"), now);
            for (of, at) in ledger.take(now, u64::MAX, 100, |_| second * 1000 + 1) {
                writes += 1;
                ledger.written(&of, at);
            }
            ledger.left(&user("a"), second * 1000 + 2, u64::MAX);
            assert_eq!(ledger.heard(&user("a")), second * 1000 + 2, "known here until it is stored");
        }
        assert_eq!(writes, 10);
    }

    #[test]
    fn one_who_left_is_written_until_it_is_known_to_be_stored_and_then_forgotten() {
        let (mut ledger, start) = (ledger(), Instant::now());
        ledger.came(&user("a"), start);
        taken(&mut ledger, start, 10);
        ledger.written(&user("a"), 10);
        ledger.left(&user("a"), 15, TIME);
        assert_eq!(taken(&mut ledger, start + EVERY, 99), [("a".to_owned(), 15)], "not as of now");
        assert_eq!(taken(&mut ledger, start + EVERY * 2, 99), [("a".to_owned(), 15)], "it got lost");
        ledger.written(&user("a"), 15);
        assert_eq!(ledger.heard(&user("a")), 15);
        assert_eq!(taken(&mut ledger, start + EVERY * 3, 99), []);
        assert!(ledger.users.is_empty() && ledger.due.is_empty() && ledger.gone == 0);
    }

    #[test]
    fn what_could_not_be_passed_on_is_due_again_and_a_few_are_taken_at_once() {
        let (mut ledger, start) = (ledger(), Instant::now());
        ["a", "b", "c"].iter().for_each(|name| ledger.came(&user(name), start));
        assert_eq!(ledger.take(start, TIME, 2, |_| 5).len(), 2);
        ledger.again(&user("a"), start);
        let rest = taken(&mut ledger, start, 5);
        assert_eq!(rest, [("a".to_owned(), 5), ("c".to_owned(), 5)]);
        ledger.written(&user("b"), 7);
        ledger.close(start);
        let last = taken(&mut ledger, start, 7);
        assert_eq!(last, [("a".to_owned(), 7), ("c".to_owned(), 7)], "the rest is stored");
    }

    #[test]
    fn what_a_wrong_clock_said_is_replaced() {
        let (mut ledger, start) = (ledger(), Instant::now());
        ledger.came(&user("a"), start);
        assert_eq!(taken(&mut ledger, start, 900), [("a".to_owned(), 900)]);
        ledger.written(&user("a"), 900);
        let mut take = |at, time, heard| ledger.take(at, time, 9, |_| heard);
        assert_eq!(take(start + EVERY, 500, 490), [(user("a"), 490)], "900 has not come yet");
        ledger.written(&user("a"), 490);
        ledger.left(&user("a"), 495, 400);
        assert_eq!(ledger.heard(&user("a")), 495);
        ledger.left(&user("a"), 395, 400);
        assert_eq!(ledger.heard(&user("a")), 395);
    }

    #[test]
    fn those_who_left_are_bounded() {
        let (mut ledger, start) = (ledger(), Instant::now());
        for (index, name) in ["a", "b", "c"].iter().enumerate() {
            ledger.came(&user(name), start);
            ledger.left(&user(name), 1 + index as u64, TIME);
        }
        assert_eq!(ledger.users.len(), 2);
        assert_eq!((ledger.heard(&user("b")), ledger.heard(&user("c"))), (2, 0));
        // One who is back makes room.
        ledger.came(&user("a"), start);
        ledger.came(&user("c"), start);
        ledger.left(&user("c"), 9, TIME);
        assert_eq!((ledger.heard(&user("c")), ledger.gone, ledger.due.len()), (9, 2, 3));
    }
}
