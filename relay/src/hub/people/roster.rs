//! Who is reachable, from the connections that users have. Pure: time comes in, changes go out.
//!
//! A user's state is the best of their connections. A broken connection shows after a pause, so that a reconnect stays
//! unseen. A goodbye, or a connection that was silent for the idle timeout, shows at once.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use quip_core::Timestamp;
use quip_protocol::{UserId, session::presence};
use tokio::time::Instant;

use crate::hub::port::DisconnectReason;

/// Presence of all users that are, were a moment ago, or are watched here. `K` names a connection.
#[derive(Debug)]
pub(super) struct Roster<K> {
    users: HashMap<UserId, Entry<K>>,
    leaving: VecDeque<(Instant, UserId)>,
    config: RosterConfig,
}

/// Settings of a [`Roster`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RosterConfig {
    /// How long a broken connection is not shown.
    pub(in crate::hub) offline_after: Duration,
}

/// A change that others see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub) struct Shown<K> {
    /// Whose.
    pub(in crate::hub) user: UserId,
    /// To what.
    pub(in crate::hub) now: State,
    /// Who watches.
    pub(in crate::hub) watchers: Vec<K>,
}

/// What others see of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) struct State {
    /// One of [`presence`].
    pub(in crate::hub) state: u8,
    /// When the user was last heard while not online; 0 = online, never, or not known here.
    pub(in crate::hub) last_seen: Timestamp,
}

#[derive(Debug)]
struct Entry<K> {
    connections: Vec<(K, bool)>,
    watchers: Vec<(K, u32)>,
    shown: State,
    /// When a break is shown, and when the user was last heard before it.
    leaving: Option<(Instant, Timestamp)>,
}

impl<K> Default for Entry<K> {
    fn default() -> Self {
        let shown = State { state: presence::OFFLINE, last_seen: 0 };
        Self { connections: Vec::new(), watchers: Vec::new(), shown, leaving: None }
    }
}

impl<K: Copy + Eq + Hash> Roster<K> {
    /// An empty roster.
    pub(super) fn new(config: RosterConfig) -> Self {
        Self { users: HashMap::new(), leaving: VecDeque::new(), config }
    }

    /// The connections of a user.
    pub(super) fn connections(&self, user: &UserId) -> impl Iterator<Item = K> + '_ {
        self.users.get(user).into_iter().flat_map(|entry| entry.connections.iter().map(|(connection, _)| *connection))
    }

    /// What others see of a user.
    pub(super) fn state(&self, user: &UserId) -> State {
        self.users.get(user).map_or(Entry::<K>::default().shown, |entry| entry.shown)
    }

    /// A connection of a user was welcomed.
    pub(super) fn connected(&mut self, user: &UserId, connection: K) -> Option<Shown<K>> {
        let entry = self.users.entry(user.clone()).or_default();
        entry.connections.push((connection, true));
        entry.leaving = None;
        entry.show(user, 0)
    }

    /// A connection was silent for two keepalives, or was heard again. `at` is when it was last heard.
    pub(super) fn reachable(
        &mut self,
        user: &UserId,
        connection: K,
        reachable: bool,
        at: Timestamp,
    ) -> Option<Shown<K>> {
        let entry = self.users.get_mut(user)?;
        entry.connections.iter_mut().filter(|(key, _)| *key == connection).for_each(|(_, is)| *is = reachable);
        entry.show(user, at)
    }

    /// A connection ended. `at` is when it was last heard.
    pub(super) fn disconnected(
        &mut self,
        user: &UserId,
        connection: K,
        reason: DisconnectReason,
        at: Timestamp,
        now: Instant,
    ) -> Option<Shown<K>> {
        let entry = self.users.get_mut(user)?;
        entry.connections.retain(|(key, _)| *key != connection);
        if reason == DisconnectReason::Broken && entry.connections.is_empty() {
            let shown_at = now + self.config.offline_after;
            entry.leaving = Some((shown_at, at));
            self.leaving.push_back((shown_at, user.clone()));
            return None;
        }
        let shown = entry.show(user, at);
        self.forget(user);
        shown
    }

    /// Shows users who did not come back in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Shown<K>> {
        let mut shown = Vec::new();
        while let Some((at, user)) = self.leaving.pop_front_if(|(at, _)| *at <= now) {
            // A user who came back, or broke off again later, is not shown now.
            let Some(entry) = self.users.get_mut(&user) else { continue };
            let Some((_, last_seen)) = entry.leaving.take_if(|(leaving_at, _)| *leaving_at == at) else { continue };
            shown.extend(entry.show(&user, last_seen));
            self.forget(&user);
        }
        shown
    }

    /// `watcher` sees `user` from now on. This is counted, so that it may ask for it twice.
    pub(super) fn watch(&mut self, user: &UserId, watcher: K) {
        let entry = self.users.entry(user.clone()).or_default();
        match entry.watchers.iter_mut().find(|(key, _)| *key == watcher) {
            Some((_, times)) => *times += 1,
            None => entry.watchers.push((watcher, 1)),
        }
    }

    /// Takes one [`Roster::watch`] back.
    pub(super) fn unwatch(&mut self, user: &UserId, watcher: K) {
        let Some(entry) = self.users.get_mut(user) else { return };
        entry.watchers.iter_mut().filter(|(key, _)| *key == watcher).for_each(|(_, times)| *times -= 1);
        entry.watchers.retain(|(_, times)| *times > 0);
        self.forget(user);
    }

    /// Nobody is here, and nobody is watched.
    #[cfg(test)]
    pub(super) fn assert_nobody_watches(&self) {
        assert!(self.users.values().all(|entry| entry.connections.is_empty() && entry.watchers.is_empty()));
    }

    /// Forgets a user who has no connection and no watcher.
    fn forget(&mut self, user: &UserId) {
        if self.users.get(user).is_some_and(Entry::is_idle) {
            self.users.remove(user);
        }
    }
}

impl<K: Copy> Entry<K> {
    fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.watchers.is_empty() && self.leaving.is_none()
    }

    fn show(&mut self, user: &UserId, last_seen: Timestamp) -> Option<Shown<K>> {
        if self.leaving.is_some() {
            return None;
        }
        let state = match &self.connections[..] {
            [] => presence::OFFLINE,
            some if some.iter().any(|(_, reachable)| *reachable) => presence::ONLINE,
            _ => presence::UNREACHABLE,
        };
        let before = self.shown.state;
        self.shown = State { state, last_seen: if state == presence::ONLINE { 0 } else { last_seen } };
        let watchers = || self.watchers.iter().map(|(key, _)| *key).collect();
        (before != state).then(|| Shown { user: user.clone(), now: self.shown, watchers: watchers() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    fn roster() -> Roster<u32> {
        Roster::new(RosterConfig { offline_after: Duration::from_secs(3) })
    }

    fn shown(shown: Option<Shown<u32>>) -> Option<(u8, u64)> {
        shown.map(|shown| (shown.now.state, shown.now.last_seen))
    }

    #[test]
    fn the_best_connection_counts() {
        let mut roster = roster();
        assert_eq!(shown(roster.connected(&alice(), 1)), Some((presence::ONLINE, 0)));
        assert_eq!(shown(roster.connected(&alice(), 2)), None);
        assert_eq!(shown(roster.reachable(&alice(), 1, false, 50)), None);
        assert_eq!(shown(roster.reachable(&alice(), 2, false, 60)), Some((presence::UNREACHABLE, 60)));
        assert_eq!(shown(roster.reachable(&alice(), 1, true, 70)), Some((presence::ONLINE, 0)));
    }

    #[test]
    fn a_goodbye_shows_at_once_and_a_break_after_a_pause() {
        let (mut roster, start) = (roster(), Instant::now());
        roster.connected(&alice(), 1);
        assert_eq!(
            shown(roster.disconnected(&alice(), 1, DisconnectReason::Goodbye, 10, start)),
            Some((presence::OFFLINE, 10))
        );
        roster.connected(&alice(), 2);
        assert_eq!(shown(roster.disconnected(&alice(), 2, DisconnectReason::Broken, 20, start)), None);
        assert_eq!(roster.state(&alice()), State { state: presence::ONLINE, last_seen: 0 });
        assert_eq!(roster.expire(start + Duration::from_secs(2)), []);
        let expired = roster.expire(start + Duration::from_secs(3));
        assert_eq!((expired.len(), expired[0].now), (1, State { state: presence::OFFLINE, last_seen: 20 }));
    }

    #[test]
    fn a_quick_reconnect_stays_unseen() {
        let (mut roster, start) = (roster(), Instant::now());
        roster.connected(&alice(), 1);
        roster.disconnected(&alice(), 1, DisconnectReason::Broken, 10, start);
        assert_eq!(shown(roster.connected(&alice(), 2)), None);
        assert_eq!(roster.expire(start + Duration::from_secs(60)), []);
        assert_eq!(roster.state(&alice()).state, presence::ONLINE);
    }

    #[test]
    fn each_break_has_its_own_pause() {
        let (mut roster, start) = (roster(), Instant::now());
        roster.connected(&alice(), 1);
        roster.disconnected(&alice(), 1, DisconnectReason::Broken, 10, start);
        roster.connected(&alice(), 2);
        roster.disconnected(&alice(), 2, DisconnectReason::Broken, 20, start + Duration::from_secs(2));
        assert_eq!(roster.expire(start + Duration::from_secs(4)), []);
        assert_eq!(roster.expire(start + Duration::from_secs(5)).len(), 1);
    }

    #[test]
    fn watchers_are_named_until_they_unwatch_as_often() {
        let mut roster = roster();
        roster.watch(&alice(), 8);
        roster.watch(&alice(), 8);
        roster.unwatch(&alice(), 8);
        assert_eq!(roster.connected(&alice(), 1).unwrap().watchers, [8]);
        roster.unwatch(&alice(), 8);
        assert_eq!(roster.reachable(&alice(), 1, false, 5).unwrap().watchers, [0u32; 0]);
    }

    #[test]
    fn who_is_gone_and_not_watched_is_forgotten() {
        let (mut roster, now) = (roster(), Instant::now());
        roster.connected(&alice(), 1);
        roster.watch(&alice(), 8);
        roster.disconnected(&alice(), 1, DisconnectReason::Goodbye, 7, now);
        assert_eq!(roster.state(&alice()).last_seen, 7);
        roster.unwatch(&alice(), 8);
        assert!(roster.users.is_empty());
        roster.connected(&alice(), 1);
        roster.disconnected(&alice(), 1, DisconnectReason::Broken, 9, now);
        roster.expire(now + Duration::from_secs(3));
        assert!(roster.users.is_empty() && roster.leaving.is_empty());
    }
}
