//! Users: who is here, who watches whom, when each was last seen, and who is to be notified of what.

mod last_seen;
mod notifications;
mod roster;

use std::time::Duration;

use quip_core::{Command, NewEvent, Timestamp};
use quip_protocol::{
    ConversationId, Kind, UserId,
    event::kind,
    session::{Presence, presence},
};
use quip_store::ReadError;
use tokio::time::Instant;

pub(super) use notifications::Notification;
pub(super) use roster::{Shown, State};

use super::{
    keys::ConnectionKey,
    port::DisconnectReason,
    reads::{GroupPage, Place},
};
use crate::config::Config;
use last_seen::{Ledger, LedgerConfig};
use notifications::{Notifications, NotificationsConfig};
use roster::{Roster, RosterConfig};

/// Users who are here or were a moment ago, and those who are watched.
pub(super) struct People {
    roster: Roster<ConnectionKey>,
    last_seen: Ledger,
    notifications: Notifications,
    /// Members of larger groups are not notified.
    notified_members: usize,
}

/// Users who left whose last-seen time may wait to be written.
const LEFT: usize = 100_000;
/// Users whose last-seen time is written in one tick, so that many who come or go together do not fill the order's queue.
const SEEN_PER_TICK: usize = 64;

impl People {
    /// Nobody. [`People::tick`] will be called after each `tick`.
    pub(super) fn new(config: &Config, tick: Duration) -> Self {
        let (presence, limits) = (&config.presence, &config.limits);
        let members = limits.changed_members_per_second;
        Self {
            roster: Roster::new(RosterConfig { offline_after: presence.offline_after }),
            last_seen: Ledger::new(LedgerConfig { every: presence.last_seen_every, left: LEFT }),
            notifications: Notifications::new(NotificationsConfig {
                interval: limits.changed_interval,
                members_per_tick: (members as f64 * tick.as_secs_f64()).ceil() as usize,
                // Each group costs at least one look: more of them would wait for longer than a second.
                groups: members,
            }),
            notified_members: limits.changed_group_members,
        }
    }

    /// The connections of a user.
    pub(super) fn connections(&self, user: &UserId) -> Vec<ConnectionKey> {
        self.roster.connections(user).collect()
    }

    /// A user has a new connection.
    pub(super) fn came(&mut self, user: &UserId, at: ConnectionKey, now: Instant) -> Option<Shown<ConnectionKey>> {
        self.last_seen.came(user, now);
        self.roster.connected(user, at)
    }

    /// A user's connection is gone; its client was last heard at `heard`. `time` is now on the wall clock.
    pub(super) fn left(
        &mut self,
        user: &UserId,
        at: ConnectionKey,
        reason: DisconnectReason,
        heard: Timestamp,
        now: Instant,
        time: Timestamp,
    ) -> Option<Shown<ConnectionKey>> {
        let shown = self.roster.disconnected(user, at, reason, heard, now);
        if self.roster.connections(user).next().is_none() {
            self.last_seen.left(user, heard, time);
        }
        shown
    }

    /// A user became reachable on a connection, or ceased to be.
    pub(super) fn reachable(
        &mut self,
        user: &UserId,
        at: ConnectionKey,
        reachable: bool,
        heard: Timestamp,
    ) -> Option<Shown<ConnectionKey>> {
        self.roster.reachable(user, at, reachable, heard)
    }

    /// Shows users who did not come back in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Shown<ConnectionKey>> {
        self.roster.expire(now)
    }

    /// What others see of a user, of whom the store says that they were last seen at `stored`. What is later than `time`, now,
    /// was said by a clock that was wrong.
    pub(super) fn state(&self, user: &UserId, stored: Timestamp, time: Timestamp) -> State {
        let mut now = self.roster.state(user);
        if now.state == presence::OFFLINE {
            let known = [now.last_seen, stored, self.last_seen.heard(user)];
            now.last_seen = known.map(|at| last_seen::past(at, time)).into_iter().max().unwrap_or(0);
        }
        now
    }

    /// A connection sees a user from now on. Gives what it sees first.
    pub(super) fn watch(&mut self, user: &UserId, at: ConnectionKey, stored: Timestamp, time: Timestamp) -> State {
        self.roster.watch(user, at);
        self.state(user, stored, time)
    }

    /// Takes back one [`People::watch`] of each user.
    pub(super) fn unwatch(&mut self, users: &[UserId], at: ConnectionKey) {
        users.iter().for_each(|user| self.roster.unwatch(user, at));
    }

    /// Commands that write down when users were last seen, of some who are due. `heard` tells it of a connection, `time` is now.
    pub(super) fn due(
        &mut self,
        now: Instant,
        time: Timestamp,
        heard: impl Fn(ConnectionKey) -> Timestamp,
    ) -> Vec<Command> {
        let roster = &self.roster;
        let heard = |user: &UserId| roster.connections(user).map(&heard).max().unwrap_or(0);
        let due = self.last_seen.take(now, time, SEEN_PER_TICK, heard);
        due.into_iter().map(|(user, at)| Command::seen(user, at)).collect()
    }

    /// When a user was last seen could not be submitted: they are due again.
    pub(super) fn due_again(&mut self, user: &UserId, at: Instant) {
        self.last_seen.again(user, at);
    }

    /// It is stored that a user was last seen at `at`.
    pub(super) fn written(&mut self, user: &UserId, at: Timestamp) {
        self.last_seen.written(user, at);
    }

    /// Everyone is due, for the last time.
    pub(super) fn all_due(&mut self, now: Instant) {
        self.last_seen.close(now);
    }

    /// A conversation has a new event. The members of a group are notified of a message.
    pub(super) fn event(&mut self, id: ConversationId, event: &NewEvent, now: Instant) {
        if id.kind() == Some(Kind::Group) && kind::counts(event.kind) {
            self.notifications.message(id, event, now);
        }
    }

    /// An event of a conversation was deleted.
    pub(super) fn deleted(&mut self, id: ConversationId, seq: u64) {
        self.notifications.deleted(id, seq);
    }

    /// Who is a member of a conversation changed.
    pub(super) fn members_changed(&mut self, id: ConversationId) {
        self.notifications.membership(id);
    }

    /// A new tick: the members of more groups may be looked at.
    pub(super) fn tick(&mut self) {
        self.notifications.tick();
    }

    /// The groups whose members are to be read now, for [`People::notify`] or [`People::put_off`], and how many members
    /// a group may have at most.
    pub(super) fn next_groups(&mut self, now: Instant) -> Option<(Vec<Place>, usize)> {
        let places = self.notifications.next(now);
        (!places.is_empty()).then_some((places, self.notified_members))
    }

    /// The members of groups cannot be read in this tick.
    pub(super) fn put_off(&mut self) {
        self.notifications.put_off();
    }

    /// Nobody is here, and nobody is watched.
    #[cfg(test)]
    pub(super) fn assert_nobody_watches(&self) {
        self.roster.assert_nobody_watches();
    }

    /// Members of groups were read: who is notified of what.
    pub(super) fn notify(&mut self, pages: Vec<Result<GroupPage, ReadError>>, now: Instant) -> Vec<Notification> {
        self.notifications.read(pages, now)
    }
}

impl State {
    /// The message that shows it.
    pub(super) fn message(self, user: &UserId) -> Presence<'_> {
        Presence { user: user.as_str(), state: self.state, last_seen: self.last_seen }
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    const TIME: Timestamp = 1000;

    fn people() -> (People, Instant, [ConnectionKey; 2]) {
        let mut keys = SlotMap::<ConnectionKey, ()>::with_key();
        (
            People::new(&Config::development(None, None), Duration::from_millis(100)),
            Instant::now(),
            [(); 2].map(|()| keys.insert(())),
        )
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn the_latest_of_what_is_known_says_when_a_user_was_last_seen() {
        let (mut people, now, [at, watcher]) = people();
        let ann = user("ann");
        assert_eq!(people.watch(&ann, watcher, 30, TIME).last_seen, 30, "the store knows it");
        assert_eq!(people.state(&ann, TIME + 1, TIME).last_seen, 0, "the store has a time that is still to come");
        let shown = people.came(&ann, at, now).unwrap();
        assert_eq!((shown.watchers, shown.now.last_seen), (vec![watcher], 0));
        people.left(&ann, at, DisconnectReason::Goodbye, 40, now, TIME);
        people.unwatch(std::slice::from_ref(&ann), watcher);
        assert_eq!(people.state(&ann, 30, TIME).last_seen, 40, "it is not stored yet");
        assert_eq!(people.state(&ann, 50, TIME).last_seen, 50, "another relay heard them later");
    }

    #[test]
    fn users_are_due_a_few_at_a_time_and_again_when_the_order_is_full() {
        let (mut people, now, [at, _]) = people();
        let names: Vec<_> = (0..100).map(|index| user(&format!("user{index}"))).collect();
        names.iter().for_each(|name| _ = people.came(name, at, now));
        let first = people.due(now, TIME, |_| 9);
        assert_eq!((first.len(), people.due(now, TIME, |_| 9).len()), (SEEN_PER_TICK, 100 - SEEN_PER_TICK));
        assert!(people.due(now, TIME, |_| 9).is_empty());
        people.due_again(&names[0], now);
        assert_eq!(people.due(now, TIME, |_| 9), [Command::seen(names[0].clone(), 9)]);
    }

    #[test]
    fn only_messages_in_groups_are_notified() {
        let (mut people, now, _) = people();
        people.tick();
        let later = now + Duration::from_secs(10);
        let row = quip_core::EventRecord {
            user: user("ann"),
            device: quip_protocol::DeviceId([1; 16]),
            n: 1,
            frame: bytes::Bytes::new(),
        };
        let event = NewEvent { seq: 1, number: 1, at: 0, kind: kind::TEXT, record: row };
        people.event(ConversationId::direct(&user("ann"), &user("bob")), &event, now);
        assert_eq!(people.next_groups(later), None);
        let other = NewEvent { kind: kind::TITLE, ..event.clone() };
        people.event(ConversationId::group([1; 15]), &other, now);
        assert_eq!(people.next_groups(later), None);
        people.event(ConversationId::group([1; 15]), &event, now);
        let (places, most) = people.next_groups(later).unwrap();
        assert_eq!((places, most), (vec![(ConversationId::group([1; 15]), None)], 1000));
    }
}
