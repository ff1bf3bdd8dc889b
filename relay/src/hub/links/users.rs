//! Users. Limits on a user hold for all of their connections together.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use quip_core::{Action, By, Command};
use quip_protocol::{ConversationId, DeviceId, UserId};
use slotmap::SlotMap;
use tokio::time::Instant;

use super::{
    Links,
    rate::{Cost, Rate},
    read_queue::{ReadFor, ReadQueue},
};
use crate::{
    config::Config,
    hub::{
        keys::{ConnectionKey, StreamKey},
        reads::Query,
    },
};

slotmap::new_key_type! {
    /// A user who is here, or was lately.
    pub struct UserKey;
}

/// Users with a connection, and those whose limits still count something.
pub(super) struct Users {
    users: SlotMap<UserKey, User>,
    by_id: HashMap<UserId, UserKey>,
    /// Candidates to be forgotten. Some may have come back.
    gone: Vec<UserKey>,
    /// Those with read marks that wait.
    marking: Vec<UserKey>,
    /// Additions to groups that are being decided, with whom each is to add.
    additions: HashMap<Sender, UserId>,
    config: Arc<Config>,
}

/// Who sent a command: conversation, user, device and number.
type Sender = (ConversationId, UserId, DeviceId, u64);

struct User {
    id: UserId,
    connections: usize,
    /// Among those without a connection.
    is_gone: bool,
    /// Of everything that reads or orders.
    rate: Rate,
    /// Of signals that they send.
    signals: Rate,
    /// Of conversations that they create.
    created: Rate,
    /// Of groups that others add them to: all others, and each.
    added: Rate,
    added_by: HashMap<UserId, Rate>,
    reads: ReadQueue<Query>,
    /// Streams with a read mark to submit, which may be gone by now.
    marked: VecDeque<StreamKey>,
    /// Among those with marks that wait.
    is_marking: bool,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Users {
    /// Nobody.
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            users: SlotMap::with_key(),
            by_id: HashMap::new(),
            gone: Vec::new(),
            marking: Vec::new(),
            additions: HashMap::new(),
            config,
        }
    }

    /// A user has another connection.
    pub(super) fn came(&mut self, id: &UserId, now: Instant) -> UserKey {
        let key = self.entry(id, now);
        self.users.get_mut(key).into_iter().for_each(|user| user.connections += 1);
        key
    }

    /// A user has a connection less.
    pub(super) fn left(&mut self, key: UserKey) {
        self.users.get_mut(key).into_iter().for_each(|user| user.connections -= 1);
        self.may_be_gone(key);
    }

    /// True when a user has as many connections as they may have.
    pub(super) fn is_full(&self, id: &UserId) -> bool {
        let user = self.by_id.get(id).and_then(|key| self.users.get(*key));
        user.is_some_and(|user| user.connections >= self.config.limits.connections_per_user)
    }

    fn charge(&mut self, key: UserKey, cost: Cost, now: Instant) -> Result<(), Duration> {
        self.users.get_mut(key).map_or(Ok(()), |user| user.rate.take_units(cost.tenths(), now))
    }

    fn owe(&mut self, key: UserKey, cost: Cost, now: Instant) {
        self.users.get_mut(key).into_iter().for_each(|user| user.rate.owe(cost.tenths(), now));
    }

    fn refund(&mut self, key: UserKey, cost: Cost) {
        self.users.get_mut(key).into_iter().for_each(|user| user.rate.refund(cost.tenths()));
    }

    fn may_create(&self, key: UserKey, now: Instant) -> Result<(), Duration> {
        self.users.get(key).map_or(Ok(()), |user| user.created.has(1, now))
    }

    fn charge_creation(&mut self, key: UserKey, now: Instant) {
        self.users.get_mut(key).into_iter().for_each(|user| user.created.owe(1, now));
    }

    /// An addition counts from here on, unless it turns out to be none.
    fn reserve_addition(&mut self, sender: Sender, target: &UserId, now: Instant) -> bool {
        if self.additions.contains_key(&sender) {
            return true;
        }
        let has_room = |rate: &Rate| rate.has(1, now).is_ok();
        let user = self.by_id.get(target).and_then(|key| self.users.get(*key));
        let may = user.is_none_or(|user| has_room(&user.added) && user.added_by.get(&sender.1).is_none_or(has_room));
        if may {
            self.was_added(target, &sender.1, now);
            self.additions.insert(sender, target.clone());
        }
        may
    }

    /// The addition is decided, or was not ordered. Gives whom it was to add.
    fn settle_addition(&mut self, sender: &Sender, is_done: bool) -> Option<UserId> {
        let target = self.additions.remove(sender)?;
        let user = self.by_id.get(&target).and_then(|key| self.users.get_mut(*key));
        if let Some(user) = user.filter(|_| !is_done) {
            user.added.refund(1);
            user.added_by.get_mut(&sender.1).into_iter().for_each(|rate| rate.refund(1));
        }
        Some(target)
    }

    fn was_added(&mut self, id: &UserId, by: &UserId, now: Instant) {
        let each = self.config.limits.added_by_one_per_hour;
        let key = self.entry(id, now);
        let Some(user) = self.users.get_mut(key) else { return };
        user.added.owe(1, now);
        user.added_by.retain(|_, rate| !rate.is_whole(now));
        user.added_by.entry(by.clone()).or_insert_with(|| Rate::per(HOUR, each, now)).owe(1, now);
    }

    /// Whether a user may send a signal now.
    pub(super) fn take_signal(&mut self, key: UserKey, now: Instant) -> bool {
        self.users.get_mut(key).is_some_and(|user| user.signals.take(now).is_ok())
    }

    fn queue_mark(&mut self, key: UserKey, stream: StreamKey) {
        if let Some(user) = self.users.get_mut(key) {
            user.marked.push_back(stream);
            self.wait_to_mark(key);
        }
    }

    fn queued_marks(&mut self) -> Vec<(UserKey, usize)> {
        let keys = std::mem::take(&mut self.marking);
        let marks = |key: UserKey| {
            let user = self.users.get_mut(key)?;
            user.is_marking = false;
            Some((key, user.marked.len()))
        };
        keys.into_iter().filter_map(marks).collect()
    }

    fn next_mark(&mut self, key: UserKey, now: Instant) -> Option<StreamKey> {
        let user = self.users.get_mut(key)?;
        if user.rate.has(Cost::Mark.tenths(), now).is_ok() {
            return user.marked.pop_front();
        }
        self.wait_to_mark(key);
        None
    }

    fn wait_to_mark(&mut self, key: UserKey) {
        let Some(user) = self.users.get_mut(key) else { return };
        if !std::mem::replace(&mut user.is_marking, true) {
            self.marking.push(key);
        }
    }

    fn begin_read(&mut self, key: UserKey, at: ConnectionKey, purpose: ReadFor, query: Query) -> Option<Query> {
        self.users.get_mut(key)?.reads.begin(at, purpose, query, self.config.limits.reads_per_user)
    }

    fn next_read(&mut self, key: UserKey) -> Option<(ReadFor, Query)> {
        self.users.get_mut(key)?.reads.done()
    }

    /// A stream no longer wants what waits for it.
    pub(super) fn forget_reads(&mut self, key: UserKey, at: ConnectionKey, stream: StreamKey) {
        self.users.get_mut(key).into_iter().for_each(|user| user.reads.forget(at, stream));
    }

    /// No stream of a connection wants what waits for it.
    pub(super) fn forget_all_reads(&mut self, key: UserKey, at: ConnectionKey) {
        self.users.get_mut(key).into_iter().for_each(|user| user.reads.forget_streams(at));
    }

    /// They are as if they had never been here.
    fn forget(&mut self, now: Instant) {
        let Self { users, by_id, .. } = self;
        self.gone.retain(|key| {
            let Some(user) = users.get_mut(*key) else { return false };
            user.is_gone = user.connections == 0;
            if user.is_gone && user.is_idle(now) {
                by_id.remove(&user.id);
                users.remove(*key);
                return false;
            }
            user.is_gone
        });
    }

    fn may_be_gone(&mut self, key: UserKey) {
        let Some(user) = self.users.get_mut(key) else { return };
        if user.connections == 0 && !std::mem::replace(&mut user.is_gone, true) {
            self.gone.push(key);
        }
    }

    fn entry(&mut self, id: &UserId, now: Instant) -> UserKey {
        if let Some(key) = self.by_id.get(id) {
            return *key;
        }
        let limits = &self.config.limits;
        let user = User {
            id: id.clone(),
            connections: 0,
            is_gone: false,
            rate: Rate::in_tenths(limits.message_rate(), now),
            signals: Rate::new(limits.signal_rate(), now),
            created: Rate::per(HOUR, limits.created_per_hour, now),
            added: Rate::per(HOUR, limits.added_per_hour, now),
            added_by: HashMap::new(),
            reads: ReadQueue::default(),
            marked: VecDeque::new(),
            is_marking: false,
        };
        let key = self.users.insert(user);
        self.by_id.insert(id.clone(), key);
        self.may_be_gone(key);
        key
    }

    /// Nobody is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.by_id.is_empty()
            && self.gone.is_empty()
            && self.marking.is_empty()
            && self.additions.is_empty()
    }
}

impl Links {
    /// A stream wants something from the store. Gives the query back if it may begin, with the user that it counts for;
    /// otherwise it waits its turn.
    pub(in crate::hub) fn begin_read(&mut self, purpose: ReadFor, query: Query) -> Option<(UserKey, Query)> {
        let (at, user) = self.user_of(purpose.stream())?;
        Some((user, self.users.begin_read(user, at, purpose, query)?))
    }

    /// A read of a user is done. Gives the next one, which begins now.
    pub(in crate::hub) fn next_read(&mut self, user: UserKey) -> Option<(ReadFor, Query)> {
        self.users.next_read(user)
    }

    /// A read of a user that was to begin does not.
    pub(in crate::hub) fn cancel_read(&mut self, user: UserKey) {
        let next = self.users.next_read(user);
        debug_assert!(next.is_none(), "nothing waits while another read may begin");
    }

    /// Takes what something on a stream costs its user, or says how long to wait.
    pub(in crate::hub) fn charge(&mut self, key: StreamKey, cost: Cost, now: Instant) -> Result<(), Duration> {
        self.user_of(key).map_or(Ok(()), |(_, user)| self.users.charge(user, cost, now))
    }

    /// Whether the user of a stream may create a conversation now, or how long to wait.
    pub(in crate::hub) fn may_create(&self, key: StreamKey, now: Instant) -> Result<(), Duration> {
        self.user_of(key).map_or(Ok(()), |(_, user)| self.users.may_create(user, now))
    }

    /// The user of a stream creates a conversation.
    pub(in crate::hub) fn charge_creation(&mut self, key: StreamKey, now: Instant) {
        self.user_of(key).into_iter().for_each(|(_, user)| self.users.charge_creation(user, now));
    }

    /// Whether a command that is ordered now may add the user that it names to a group. If so, it counts until
    /// [`Links::settle_addition`] says that it did not.
    pub(in crate::hub) fn reserve_addition(&mut self, command: &Command, now: Instant) -> bool {
        match (sender(command.conversation, &command.by), &command.action) {
            (Some(sender), Action::Add { user }) => self.users.reserve_addition(sender, user, now),
            _ => true,
        }
    }

    /// An addition was not ordered.
    pub(in crate::hub) fn cancel_addition(&mut self, id: ConversationId, by: &By) {
        sender(id, by).into_iter().for_each(|sender| _ = self.users.settle_addition(&sender, false));
    }

    /// A command is decided. `added` is the user whom it added to a group.
    pub(in crate::hub) fn settle_addition(
        &mut self,
        id: ConversationId,
        by: &By,
        added: Option<&UserId>,
        now: Instant,
    ) {
        if added.is_none() && self.users.additions.is_empty() {
            return;
        }
        let Some(sender) = sender(id, by) else { return };
        let reserved = self.users.settle_addition(&sender, added.is_some());
        // Another relay of the cluster ordered it.
        if let (None, Some(added)) = (reserved, added) {
            self.users.was_added(added, &sender.1, now);
        }
    }

    /// A stream has a read mark to submit in the next tick.
    pub(in crate::hub) fn queue_mark(&mut self, key: StreamKey) {
        if let Some((_, user)) = self.user_of(key) {
            self.users.queue_mark(user, key);
        }
    }

    /// The users with read marks that wait, and how many each has. [`Links::next_mark`] is to be asked for these.
    pub(in crate::hub) fn queued_marks(&mut self) -> Vec<(UserKey, usize)> {
        self.users.queued_marks()
    }

    /// A stream of a user whose mark is to be submitted. When the rate has no room, the others wait for the next tick.
    pub(in crate::hub) fn next_mark(&mut self, user: UserKey, now: Instant) -> Option<StreamKey> {
        self.users.next_mark(user, now)
    }

    /// A mark goes on its way. One of a stream that closes does not wait for room, and its user owes for it.
    pub(in crate::hub) fn charge_mark(&mut self, user: UserKey, now: Instant) {
        self.users.owe(user, Cost::Mark, now);
    }

    /// A mark was not submitted.
    pub(in crate::hub) fn refund_mark(&mut self, user: UserKey) {
        self.users.refund(user, Cost::Mark);
    }

    /// Forgets users who are gone and owe nothing.
    pub(in crate::hub) fn forget_users(&mut self, now: Instant) {
        self.users.forget(now);
    }

    /// The connection and the user of a stream.
    pub(in crate::hub) fn user_of(&self, key: StreamKey) -> Option<(ConnectionKey, UserKey)> {
        let at = self.streams.get(key)?.connection;
        Some((at, self.connections.get(at)?.user?))
    }
}

fn sender(id: ConversationId, by: &By) -> Option<Sender> {
    match by {
        By::Device { user, device, n } => Some((id, user.clone(), *device, *n)),
        By::Relay => None,
    }
}

impl User {
    fn is_idle(&self, now: Instant) -> bool {
        let mut rates =
            [&self.rate, &self.signals, &self.created, &self.added].into_iter().chain(self.added_by.values());
        self.reads.is_idle() && self.marked.is_empty() && rates.all(|rate| rate.is_whole(now))
    }
}

#[cfg(test)]
mod tests {
    use slotmap::Key;

    use super::*;

    fn users(change: impl FnOnce(&mut Config)) -> (Users, Instant) {
        let mut config = Config::development(None, None);
        (config.limits.messages_per_second, config.limits.messages_burst) = (10, 2);
        change(&mut config);
        (Users::new(Arc::new(config)), Instant::now())
    }

    fn id(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn all_connections_of_a_user_have_one_rate() {
        let (mut users, now) = users(|_| {});
        let (ann, ben) = (users.came(&id("ann"), now), users.came(&id("ben"), now));
        assert_eq!(users.came(&id("ann"), now), ann);
        assert!((0..2).all(|_| users.charge(ann, Cost::Command, now).is_ok()));
        assert_eq!(users.charge(ann, Cost::Request, now), Err(Duration::from_millis(100)));
        assert_eq!(users.charge(ben, Cost::Request, now), Ok(()));
    }

    #[test]
    fn connections_are_counted() {
        let (mut users, now) = users(|config| config.limits.connections_per_user = 2);
        let ann = users.came(&id("ann"), now);
        assert!(!users.is_full(&id("ann")));
        users.came(&id("ann"), now);
        assert!(users.is_full(&id("ann")) && !users.is_full(&id("ben")));
        users.left(ann);
        assert!(!users.is_full(&id("ann")));
    }

    #[test]
    fn who_owes_nothing_is_forgotten_and_who_does_is_not() {
        let (mut users, now) = users(|_| {});
        let (ann, ben) = (users.came(&id("ann"), now), users.came(&id("ben"), now));
        users.forget(now);
        assert_eq!(users.users.len(), 2, "they are here");
        users.left(ann);
        users.left(ben);
        assert_eq!(users.charge(ben, Cost::Command, now), Ok(()));
        users.forget(now);
        assert_eq!((users.by_id.get(&id("ann")), users.by_id.get(&id("ben"))), (None, Some(&ben)));
        assert_eq!(users.came(&id("ben"), now), ben, "leaving and coming back does not help");
        users.left(ben);
        users.forget(now + Duration::from_millis(100));
        assert!(users.is_empty());
    }

    #[test]
    fn reads_that_are_under_way_and_marks_that_wait_are_not_forgotten() {
        let (mut users, now) = users(|config| config.limits.reads_per_user = 1);
        let (ann, at, stream) = (users.came(&id("ann"), now), ConnectionKey::null(), StreamKey::null());
        let query = || Query::Warm(Box::new(quip_core::Command::seen(id("ann"), 1)));
        assert!(users.begin_read(ann, at, ReadFor::Stream(stream), query()).is_some());
        assert!(users.begin_read(ann, at, ReadFor::Stream(stream), query()).is_none());
        users.left(ann);
        users.forget_all_reads(ann, at);
        users.forget(now);
        assert!(!users.is_empty());
        assert!(users.next_read(ann).is_none());
        users.queue_mark(ann, stream);
        users.forget(now);
        assert!(!users.is_empty());
        assert_eq!(users.queued_marks(), [(ann, 1)]);
        assert_eq!((users.next_mark(ann, now), users.next_mark(ann, now)), (Some(stream), None));
        users.forget(now);
        assert!(users.is_empty());
    }

    #[test]
    fn marks_wait_until_the_rate_has_room() {
        let (mut users, now) = users(|_| {});
        let (ann, stream) = (users.came(&id("ann"), now), StreamKey::null());
        (0..3).for_each(|_| users.queue_mark(ann, stream));
        let mut submitted = |now: Instant| {
            let mut count = 0;
            for (user, marks) in users.queued_marks() {
                for _ in 0..marks {
                    let Some(stream) = users.next_mark(user, now) else { break };
                    users.owe(user, Cost::Mark, now);
                    if count == 0 {
                        // As one that the order did not take.
                        users.queue_mark(user, stream);
                    }
                    count += 1;
                }
            }
            count
        };
        let later = [0, 0, 100, 200, 300, 400].map(|milliseconds| now + Duration::from_millis(milliseconds));
        assert_eq!(later.map(&mut submitted), [2, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn those_who_were_added_to_many_groups_are_not_added_to_more() {
        let (mut users, now) = users(|config| {
            (config.limits.added_per_hour, config.limits.added_by_one_per_hour) = (3, 2);
        });
        let [ann, ben, cat] = ["ann", "ben", "cat"].map(id);
        let by = |who: &UserId, n: u64| (ConversationId([7; 16]), who.clone(), DeviceId([1; 16]), n);
        for n in 0..100 {
            assert!(users.reserve_addition(by(&ben, n), &ann, now));
            assert_eq!(users.settle_addition(&by(&ben, n), false), Some(ann.clone()), "what is none costs nothing");
        }
        let at_once = [0, 1, 1, 2, 3].map(|n| users.reserve_addition(by(&ben, n), &ann, now));
        assert_eq!(at_once, [true, true, true, false, false], "those that are being decided count, each once");
        assert!(users.reserve_addition(by(&cat, 0), &ann, now));
        assert!(!users.reserve_addition(by(&cat, 1), &ann, now), "all may do it three times");
        assert!(users.reserve_addition(by(&ben, 4), &cat, now));
        for sender in [by(&ben, 0), by(&ben, 1), by(&ben, 4), by(&cat, 0)] {
            assert!(users.settle_addition(&sender, true).is_some() && users.settle_addition(&sender, true).is_none());
        }
        assert!(users.reserve_addition(by(&ben, 5), &ann, now + HOUR / 2));
        users.settle_addition(&by(&ben, 5), true);
        users.forget(now + HOUR * 2);
        assert!(users.is_empty());
    }
}
