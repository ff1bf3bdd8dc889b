//! Notifications of new messages in groups, for members who are here and do not have them open. Pure.
//!
//! The messages of one interval make one notification, of the newest. A group's members are read page by page, a
//! few groups at a time, so that the members of a group are never in memory together and a quiet group costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use quip_core::NewEvent;
use quip_protocol::{ConversationId, UserId};
use quip_store::ReadError;
use tokio::time::Instant;

use crate::hub::{
    about::About,
    reads::{GroupPage, Place},
};

/// Limits of [`Notifications`].
#[derive(Debug, Clone, Copy)]
pub(super) struct NotificationsConfig {
    /// From a group's first message to its notification, which covers what came in between.
    pub(super) interval: Duration,
    /// Maximum members looked at in one tick. With more, notifications come later.
    pub(super) members_per_tick: usize,
    /// Maximum queued groups; further ones are not notified.
    pub(super) groups: usize,
}

/// Groups with members still to be notified.
#[derive(Debug)]
pub(super) struct Notifications {
    config: NotificationsConfig,
    groups: HashMap<ConversationId, Group>,
    /// Groups that are not begun, in the order in which they are due.
    waiting: VecDeque<(Instant, ConversationId)>,
    /// Groups with members left to notify.
    begun: VecDeque<ConversationId>,
    /// How many of them, from the first one on, are with a reader.
    asked: usize,
    /// Members that may still be looked at in this tick.
    left: usize,
}

#[derive(Debug)]
struct Group {
    /// The newest message.
    about: About,
    /// The last member that was notified.
    after: Option<UserId>,
    begun: bool,
    /// There was a message since it was begun.
    again: bool,
    /// The members changed since they were asked for.
    outdated: bool,
}

/// What some members of a group are notified of.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Notification {
    pub(in crate::hub) id: ConversationId,
    pub(in crate::hub) title: String,
    pub(in crate::hub) about: About,
    /// Users with their roles.
    pub(in crate::hub) members: Vec<(UserId, u8)>,
}

/// Groups that one read looks at.
const GROUPS_A_READ: usize = 32;

impl Notifications {
    /// No groups.
    pub(super) fn new(config: NotificationsConfig) -> Self {
        Self { config, groups: HashMap::new(), waiting: VecDeque::new(), begun: VecDeque::new(), asked: 0, left: 0 }
    }

    /// A group has a new message.
    pub(super) fn message(&mut self, id: ConversationId, event: &NewEvent, now: Instant) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.about = About::new(event);
            group.again |= group.begun;
        } else if self.groups.len() < self.config.groups {
            let about = About::new(event);
            self.groups.insert(id, Group { about, after: None, begun: false, again: false, outdated: false });
            self.waiting.push_back((now + self.config.interval, id));
        }
    }

    /// An event of a group was deleted.
    pub(super) fn deleted(&mut self, id: ConversationId, seq: u64) {
        if let Some(group) = self.groups.get_mut(&id).filter(|group| group.about.seq == seq) {
            group.about.delete();
        }
    }

    /// Somebody came to a group or went: members that are being read may be those from before.
    pub(super) fn membership(&mut self, id: ConversationId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.outdated = true;
        }
    }

    /// A new tick: members may be looked at again.
    pub(super) fn tick(&mut self) {
        self.left = self.config.members_per_tick;
    }

    /// The groups whose members are to be read now, for [`Self::read`] or [`Self::put_off`].
    pub(super) fn next(&mut self, now: Instant) -> Vec<Place> {
        if self.asked > 0 || self.left == 0 {
            return Vec::new();
        }
        while self.begun.len() < GROUPS_A_READ
            && let Some((_, id)) = self.waiting.pop_front_if(|(due, _)| *due <= now)
        {
            self.begun.push_back(id);
        }
        self.asked = self.begun.len();
        let place = |id: &ConversationId| {
            let group = self.groups.get_mut(id)?;
            (group.begun, group.outdated) = (true, false);
            Some((*id, group.after.clone()))
        };
        self.begun.iter().filter_map(place).collect()
    }

    /// The readers are busy: not in this tick.
    pub(super) fn put_off(&mut self) {
        (self.asked, self.left) = (0, 0);
    }

    /// Members were read, of the first groups that were asked for.
    pub(super) fn read(&mut self, pages: Vec<Result<GroupPage, ReadError>>, now: Instant) -> Vec<Notification> {
        debug_assert!(pages.len() <= self.asked, "what was not asked for");
        self.asked = 0;
        let mut told = Vec::new();
        for page in pages {
            let Some(id) = self.begun.pop_front() else { break };
            match page {
                Ok(page) => told.extend(self.page(id, page, now)),
                Err(error) => {
                    tracing::error!(%error, "could not notify the members of a group");
                    self.done(id, now);
                }
            }
        }
        told
    }

    fn page(&mut self, id: ConversationId, page: GroupPage, now: Instant) -> Option<Notification> {
        let GroupPage { title, members: page } = page;
        self.left = self.left.saturating_sub(page.members.len().max(1));
        let group = self.groups.get_mut(&id)?;
        if group.outdated {
            self.begun.push_back(id);
            return None;
        }
        let about = group.about.clone();
        // Who came behind it does not see it.
        let see = page.members.into_iter().filter(|(_, row)| row.from <= about.seq);
        let members = see.map(|(user, row)| (user, row.role)).collect();
        if page.next.is_some() {
            group.after = page.next;
            self.begun.push_back(id);
        } else {
            self.done(id, now);
        }
        Some(Notification { id, title, about, members })
    }

    /// Everyone was notified of what was known at their turn.
    fn done(&mut self, id: ConversationId, now: Instant) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.again {
            (group.after, group.begun, group.again) = (None, false, false);
            self.waiting.push_back((now + self.config.interval, id));
        } else {
            self.groups.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use quip_core::{EventRecord, MemberRecord, MemberState, Parting};
    use quip_protocol::{DeviceId, event::kind};
    use quip_store::Members;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MANY: NotificationsConfig = NotificationsConfig { interval: SECOND, members_per_tick: 1000, groups: 1000 };

    fn group(number: u8) -> ConversationId {
        ConversationId::group([number; 15])
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn message(seq: u64) -> NewEvent {
        let (device, frame) = (DeviceId([1; 16]), bytes::Bytes::new());
        let record = EventRecord { user: user("ann"), device, n: 1, frame };
        NewEvent { seq, number: seq, at: 0, kind: kind::TEXT, record }
    }

    fn page(names: &[&str], next: Option<&str>) -> Result<GroupPage, ReadError> {
        let row = MemberRecord {
            state: MemberState::Member,
            role: 2,
            from: 1,
            to: u64::MAX,
            number: 0,
            at: 0,
            parting: Parting::default(),
            earlier: Vec::new(),
        };
        let members = names.iter().map(|name| (user(name), row.clone())).collect();
        Ok(GroupPage { title: "Tea".to_owned(), members: Members { members, next: next.map(user) } })
    }

    fn notifications(config: NotificationsConfig) -> (Notifications, Instant) {
        let mut notifications = Notifications::new(config);
        notifications.tick();
        (notifications, Instant::now())
    }

    /// A short form of notifications.
    fn short(told: Vec<Notification>) -> Vec<(u64, Vec<String>)> {
        let names = |told: &Notification| told.members.iter().map(|(user, _)| user.to_string()).collect();
        told.iter().map(|told| (told.about.seq, names(told))).collect()
    }

    #[test]
    fn messages_of_one_interval_make_one_notification() {
        let (mut notifications, start) = notifications(MANY);
        notifications.message(group(1), &message(7), start);
        notifications.message(group(1), &message(9), start + SECOND / 2);
        assert_eq!(notifications.next(start + SECOND / 2), []);
        assert_eq!(notifications.next(start + SECOND), [(group(1), None)]);
        assert_eq!(notifications.next(start + SECOND), [], "one read at a time");
        let told = notifications.read(vec![page(&["ann", "bob"], None)], start + SECOND);
        assert_eq!(told[0].members, [(user("ann"), 2), (user("bob"), 2)]);
        assert_eq!((told[0].id, &*told[0].title, &told[0].about), (group(1), "Tea", &About::new(&message(9))));
        assert_eq!(notifications.next(start + 9 * SECOND), []);
        assert!(notifications.groups.is_empty(), "nothing is kept of a group that is quiet");
    }

    #[test]
    fn who_became_a_member_behind_a_message_is_not_notified_of_it() {
        let (mut notifications, start) = notifications(MANY);
        notifications.message(group(1), &message(7), start);
        notifications.next(start + SECOND);
        let mut page = page(&["ann", "bob", "cat"], None).unwrap();
        (page.members.members[1].1.from, page.members.members[2].1.from) = (7, 8);
        let told = notifications.read(vec![Ok(page)], start + SECOND);
        assert_eq!(short(told), [(7, vec!["ann".to_owned(), "bob".to_owned()])]);
    }

    #[test]
    fn what_is_deleted_before_its_notification_is_not_shown() {
        let (mut notifications, start) = notifications(MANY);
        notifications.message(group(1), &message(7), start);
        notifications.deleted(group(1), 6);
        assert_eq!(notifications.groups[&group(1)].about, About::new(&message(7)));
        notifications.deleted(group(1), 7);
        let mut deleted = About::new(&message(7));
        deleted.delete();
        assert_eq!(notifications.groups[&group(1)].about, deleted);
    }

    #[test]
    fn a_message_while_members_are_notified_reaches_the_rest_at_once_and_all_again_later() {
        let (mut notifications, start) = notifications(MANY);
        notifications.message(group(1), &message(7), start);
        notifications.next(start + SECOND);
        let first = notifications.read(vec![page(&["ann"], Some("ann"))], start + SECOND);
        assert_eq!(short(first), [(7, vec!["ann".to_owned()])]);
        notifications.message(group(1), &message(8), start + SECOND);
        assert_eq!(notifications.next(start + SECOND), [(group(1), Some(user("ann")))]);
        let rest = notifications.read(vec![page(&["bob"], None)], start + SECOND);
        assert_eq!(short(rest), [(8, vec!["bob".to_owned()])]);
        assert_eq!(notifications.next(start + SECOND), []);
        assert_eq!(notifications.next(start + 2 * SECOND), [(group(1), None)]);
    }

    #[test]
    fn members_that_were_read_before_one_went_are_read_again() {
        let (mut notifications, start) = notifications(MANY);
        notifications.message(group(1), &message(7), start);
        notifications.membership(group(1));
        notifications.next(start + SECOND);
        notifications.membership(group(1));
        assert_eq!(notifications.read(vec![page(&["ann", "gone"], None)], start + SECOND), []);
        assert_eq!(notifications.next(start + SECOND), [(group(1), None)]);
        let told = notifications.read(vec![page(&["ann"], None)], start + SECOND);
        assert_eq!(short(told), [(7, vec!["ann".to_owned()])]);
    }

    #[test]
    fn groups_that_a_read_did_not_come_to_are_read_next() {
        let (mut notifications, start) = notifications(MANY);
        (1..=40).for_each(|id| notifications.message(group(id), &message(1), start));
        assert_eq!(notifications.next(start + SECOND).len(), GROUPS_A_READ);
        assert_eq!(notifications.read(vec![page(&["ann"], None), page(&["bob"], None)], start + SECOND).len(), 2);
        let next = notifications.next(start + SECOND);
        assert_eq!((next.len(), next[0].0), (GROUPS_A_READ, group(3)));
        assert_eq!(next.last().unwrap().0, group(34));
    }

    #[test]
    fn members_looked_at_in_a_tick_are_bounded() {
        let (mut notifications, start) = notifications(NotificationsConfig { members_per_tick: 2, ..MANY });
        (1..=2).for_each(|id| notifications.message(group(id), &message(1), start));
        notifications.next(start + SECOND);
        notifications.read(vec![page(&["ann", "bob"], Some("bob"))], start + SECOND);
        assert_eq!(notifications.next(start + SECOND), []);
        notifications.tick();
        assert_eq!(notifications.next(start + SECOND), [(group(2), None), (group(1), Some(user("bob")))]);
        notifications.put_off();
        assert_eq!(notifications.next(start + SECOND), [], "the readers are busy in this tick");
        notifications.tick();
        assert_eq!(notifications.next(start + SECOND).len(), 2);
    }

    #[test]
    fn queued_groups_are_bounded() {
        let (mut notifications, start) = notifications(NotificationsConfig { groups: 2, ..MANY });
        (1..=3).for_each(|id| notifications.message(group(id), &message(1), start));
        notifications.message(group(1), &message(2), start);
        let places: Vec<_> = notifications.next(start + SECOND).into_iter().map(|(id, _)| id).collect();
        assert_eq!(places, [group(1), group(2)]);
        assert_eq!(notifications.groups[&group(1)].about.seq, 2);
    }
}
