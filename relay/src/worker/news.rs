//! New messages of groups, for members who are here and do not have them open: whom is still to be told of what. Pure.
//!
//! A group's messages of one interval are told together, with the latest values. Its members are read page by page, a few
//! groups at a time: never are all members of a group in memory, and whoever is not busy costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use quip_protocol::{ConversationId, UserId};
use quip_store::{Members, ReadError};

/// How far the news of groups go.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewsConfig {
    /// From a group's first message to when it is told, together with what came in between.
    pub(super) interval: Duration,
    /// Members that are looked at in one tick. Beyond it, news come later.
    pub(super) members_a_tick: usize,
    /// Groups that wait. Beyond it, news of others are not told.
    pub(super) groups: usize,
}

/// What is to be told.
#[derive(Debug)]
pub(super) struct News {
    config: NewsConfig,
    groups: HashMap<ConversationId, Group>,
    /// Those that are not begun, in the order in which they are due.
    waiting: VecDeque<(Instant, ConversationId)>,
    /// Those with members left to tell.
    begun: VecDeque<ConversationId>,
    /// The first so many of them are with a reader.
    asked: usize,
    /// Members to look at in this tick.
    left: usize,
}

#[derive(Debug)]
struct Group {
    head: u64,
    number: u64,
    /// The last member that was told.
    after: Option<UserId>,
    begun: bool,
    /// There was a message since it was begun.
    again: bool,
    /// Who is a member changed since they were asked for.
    outdated: bool,
}

/// Where to go on with a group.
pub(super) type Place = (ConversationId, Option<UserId>);

/// Some members of a group, and what they are to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: ConversationId,
    pub(super) head: u64,
    pub(super) number: u64,
    /// Users with their roles.
    pub(super) members: Vec<(UserId, u8)>,
}

/// Groups that one read looks at.
const GROUPS_A_READ: usize = 32;

impl News {
    /// Nothing yet.
    pub(super) fn new(config: NewsConfig) -> Self {
        Self { config, groups: HashMap::new(), waiting: VecDeque::new(), begun: VecDeque::new(), asked: 0, left: 0 }
    }

    /// A group has a new event, `message` when it counts as unread.
    pub(super) fn event(&mut self, id: ConversationId, head: u64, number: u64, message: bool, now: Instant) {
        if let Some(group) = self.groups.get_mut(&id) {
            (group.head, group.number) = (head, number);
            group.again |= message && group.begun;
        } else if message && self.groups.len() < self.config.groups {
            let group = Group { head, number, after: None, begun: false, again: false, outdated: false };
            self.groups.insert(id, group);
            self.waiting.push_back((now + self.config.interval, id));
        }
    }

    /// Somebody came to a group or went: members that are being read may be those from before.
    pub(super) fn membership(&mut self, id: ConversationId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.outdated = true;
        }
    }

    /// A new tick: so many members may be looked at again.
    pub(super) fn tick(&mut self) {
        self.left = self.config.members_a_tick;
    }

    /// The groups whose members are to be read now, for [`Self::told`] or [`Self::put_off`].
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

    /// They cannot be read now.
    pub(super) fn put_off(&mut self) {
        (self.asked, self.left) = (0, 0);
    }

    /// Members were read, of the first groups that were asked for: who is to be told what.
    pub(super) fn told(&mut self, pages: Vec<Result<Members, ReadError>>, now: Instant) -> Vec<Told> {
        debug_assert!(pages.len() <= self.asked, "what was not asked for");
        self.asked = 0;
        let mut told = Vec::new();
        for page in pages {
            let Some(id) = self.begun.pop_front() else { break };
            match page {
                Ok(page) => told.extend(self.page(id, page, now)),
                Err(error) => {
                    tracing::error!(%error, "members of a group are not told of its messages");
                    self.done(id, now);
                }
            }
        }
        told
    }

    fn page(&mut self, id: ConversationId, page: Members, now: Instant) -> Option<Told> {
        self.left = self.left.saturating_sub(page.members.len().max(1));
        let group = self.groups.get_mut(&id)?;
        if group.outdated {
            self.begun.push_back(id);
            return None;
        }
        let (head, number) = (group.head, group.number);
        let members = page.members.into_iter().map(|(user, row)| (user, row.role)).collect();
        if page.next.is_some() {
            group.after = page.next;
            self.begun.push_back(id);
        } else {
            self.done(id, now);
        }
        Some(Told { id, head, number, members })
    }

    /// Everyone was told, what was known at their turn.
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
    use quip_core::{MemberRecord, MemberState};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MANY: NewsConfig = NewsConfig { interval: SECOND, members_a_tick: 1000, groups: 1000 };

    fn group(number: u8) -> ConversationId {
        ConversationId::group([number; 15])
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn page(names: &[&str], next: Option<&str>) -> Result<Members, ReadError> {
        let row = MemberRecord { state: MemberState::Member, role: 2, from: 1, to: u64::MAX, number: 0, at: 0 };
        let members = names.iter().map(|name| (user(name), row)).collect();
        Ok(Members { members, next: next.map(user) })
    }

    fn news(config: NewsConfig) -> (News, Instant) {
        let mut news = News::new(config);
        news.tick();
        (news, Instant::now())
    }

    /// What [`Told`] says, for short.
    fn short(told: Vec<Told>) -> Vec<(u64, u64, Vec<String>)> {
        let names = |told: &Told| told.members.iter().map(|(user, _)| user.to_string()).collect();
        told.iter().map(|told| (told.head, told.number, names(told))).collect()
    }

    #[test]
    fn messages_of_one_interval_are_told_together_after_it() {
        let (mut news, start) = news(MANY);
        news.event(group(1), 7, 3, true, start);
        news.event(group(1), 8, 4, true, start + SECOND / 2);
        assert_eq!(news.next(start + SECOND / 2), []);
        news.event(group(1), 9, 4, false, start + SECOND / 2);
        assert_eq!(news.next(start + SECOND), [(group(1), None)]);
        assert_eq!(news.next(start + SECOND), [], "one read at a time");
        let told = news.told(vec![page(&["ann", "bob"], None)], start + SECOND);
        assert_eq!(told[0].members, [(user("ann"), 2), (user("bob"), 2)]);
        assert_eq!((told[0].id, told[0].head, told[0].number), (group(1), 9, 4));
        assert_eq!(news.next(start + 9 * SECOND), []);
        assert!(news.groups.is_empty(), "nothing is kept of a group that is quiet");
    }

    #[test]
    fn what_is_no_message_is_no_news() {
        let (mut news, start) = news(MANY);
        news.event(group(1), 7, 3, false, start);
        assert_eq!(news.next(start + SECOND), []);
    }

    #[test]
    fn a_message_while_members_are_told_reaches_the_rest_at_once_and_all_again_later() {
        let (mut news, start) = news(MANY);
        news.event(group(1), 7, 3, true, start);
        news.next(start + SECOND);
        let first = news.told(vec![page(&["ann"], Some("ann"))], start + SECOND);
        assert_eq!(short(first), [(7, 3, vec!["ann".to_owned()])]);
        news.event(group(1), 8, 4, true, start + SECOND);
        assert_eq!(news.next(start + SECOND), [(group(1), Some(user("ann")))]);
        let rest = news.told(vec![page(&["bob"], None)], start + SECOND);
        assert_eq!(short(rest), [(8, 4, vec!["bob".to_owned()])]);
        assert_eq!(news.next(start + SECOND), []);
        assert_eq!(news.next(start + 2 * SECOND), [(group(1), None)]);
    }

    #[test]
    fn members_that_were_read_before_one_went_are_read_again() {
        let (mut news, start) = news(MANY);
        news.event(group(1), 7, 3, true, start);
        news.membership(group(1));
        news.next(start + SECOND);
        news.membership(group(1));
        news.event(group(1), 8, 3, false, start);
        assert_eq!(news.told(vec![page(&["ann", "gone"], None)], start + SECOND), []);
        assert_eq!(news.next(start + SECOND), [(group(1), None)]);
        let told = news.told(vec![page(&["ann"], None)], start + SECOND);
        assert_eq!(short(told), [(8, 3, vec!["ann".to_owned()])]);
    }

    #[test]
    fn groups_that_a_read_did_not_come_to_are_read_next() {
        let (mut news, start) = news(MANY);
        (1..=40).for_each(|id| news.event(group(id), 1, 1, true, start));
        assert_eq!(news.next(start + SECOND).len(), GROUPS_A_READ);
        assert_eq!(news.told(vec![page(&["ann"], None), page(&["bob"], None)], start + SECOND).len(), 2);
        let next = news.next(start + SECOND);
        assert_eq!((next.len(), next[0].0), (GROUPS_A_READ, group(3)));
        assert_eq!(next.last().unwrap().0, group(34));
    }

    #[test]
    fn a_tick_looks_at_so_many_members_and_no_more() {
        let (mut news, start) = news(NewsConfig { members_a_tick: 2, ..MANY });
        (1..=2).for_each(|id| news.event(group(id), 1, 1, true, start));
        news.next(start + SECOND);
        news.told(vec![page(&["ann", "bob"], Some("bob"))], start + SECOND);
        assert_eq!(news.next(start + SECOND), []);
        news.tick();
        assert_eq!(news.next(start + SECOND), [(group(2), None), (group(1), Some(user("bob")))]);
        news.put_off();
        assert_eq!(news.next(start + SECOND), [], "the readers are busy in this tick");
        news.tick();
        assert_eq!(news.next(start + SECOND).len(), 2);
    }

    #[test]
    fn so_many_groups_wait_and_no_more() {
        let (mut news, start) = news(NewsConfig { groups: 2, ..MANY });
        (1..=3).for_each(|id| news.event(group(id), 1, 1, true, start));
        news.event(group(1), 2, 2, true, start);
        let places: Vec<_> = news.next(start + SECOND).into_iter().map(|(id, _)| id).collect();
        assert_eq!(places, [group(1), group(2)]);
        assert_eq!(news.groups[&group(1)].head, 2);
    }
}
