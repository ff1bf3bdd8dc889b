//! Open conversations: their latest events, the streams that follow them, and those of them that are behind.

mod audience;
mod commands;
mod conversation;
mod delivery;
mod follower;
mod marks;
mod opening;
mod pages;
mod ring;
mod ring_memory;
mod sends;
mod warmth;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use quip_core::NewEvent;
use quip_protocol::{Code, ConversationId, DeviceId, Kind, UserId};
use slotmap::{SecondaryMap, SlotMap};

pub(super) use commands::Decided;
pub(super) use delivery::Filled;
pub(super) use follower::Seat;
pub(super) use opening::{OpenRequest, Opening};
pub(super) use sends::Admission;

use super::{
    authority::{Membership, Rights, may_read},
    keys::{ConnectionKey, StreamKey},
};
use crate::config::Config;
use conversation::{Conversation, ConversationKey};
use follower::Follower;
use pages::Pages;
use ring_memory::RingMemory;

/// Open conversations and their followers.
pub(super) struct Rooms {
    conversations: SlotMap<ConversationKey, Conversation>,
    by_id: HashMap<ConversationId, ConversationKey>,
    followers: SecondaryMap<StreamKey, Box<Follower>>,
    /// Which stream carries a device's commands in a conversation.
    senders: HashMap<(ConversationId, UserId, DeviceId), StreamKey>,
    /// Conversations with followers that may be behind.
    behind: VecDeque<ConversationKey>,
    /// Followers with a page to write.
    paged: VecDeque<StreamKey>,
    pages: Pages,
    memory: RingMemory,
    /// Of the sequencer's cache, as far as is known here.
    cache_epoch: u64,
    /// Identity of the log.
    generation: u64,
    /// It was said that the data folder may be a copy that was put back.
    suspected: bool,
    config: Arc<Config>,
}

/// What a stream leaves behind that follows no longer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) connection: ConnectionKey,
    /// Whose presence it watched.
    pub(super) watched: Vec<UserId>,
}

/// A stream that watches the presence of a group's members watches others from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// This one too.
    Also(ConnectionKey, UserId),
    /// These no longer.
    NoLonger(ConnectionKey, Vec<UserId>),
}

impl Rooms {
    /// No conversations.
    pub(super) fn new(config: Arc<Config>, generation: u64) -> Self {
        let limits = &config.limits;
        Self {
            conversations: SlotMap::with_key(),
            by_id: HashMap::new(),
            followers: SecondaryMap::new(),
            senders: HashMap::new(),
            behind: VecDeque::new(),
            paged: VecDeque::new(),
            pages: Pages::default(),
            memory: RingMemory::new(limits.ring_bytes_per_conversation, limits.ring_bytes),
            cache_epoch: 0,
            generation,
            suspected: false,
            config,
        }
    }

    /// Whose stream it is.
    pub(super) fn seat(&self, stream: StreamKey) -> Option<&Seat> {
        Some(&self.followers.get(stream)?.seat)
    }

    /// The sequencer's cache is in this epoch.
    pub(super) fn in_epoch(&mut self, epoch: u64) {
        self.cache_epoch = epoch;
    }

    /// A conversation has a new event.
    pub(super) fn event(&mut self, id: ConversationId, event: &NewEvent) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        conversation.set_head(event.seq);
        self.memory.push(key, event.seq, event.record.frame.clone(), conversation.audience.needs_memory());
        self.fall_behind(key);
    }

    /// An event has another frame from now on.
    pub(super) fn rewritten(&mut self, id: ConversationId, seq: u64, frame: &Bytes) {
        self.pages.rewritten(id, seq);
        if let Some(key) = self.by_id.get(&id) {
            self.memory.replace(*key, seq, frame.clone());
        }
    }

    /// A user's membership ended with event `to`: their streams end with it. One that has not come to it yet ends there
    /// even if they are back meanwhile. What they may see then is for another opening to find out.
    pub(super) fn membership_ended(&mut self, id: ConversationId, theirs: &[StreamKey], to: u64) {
        for stream in theirs {
            if let Some(follower) = self.followers.get_mut(*stream) {
                follower.ended(to);
            }
        }
        if let Some(key) = self.by_id.get(&id).filter(|_| !theirs.is_empty()) {
            self.fall_behind(*key);
        }
    }

    /// Who is a member of a group changed. Streams that see its members' presence live also see who comes, and no longer
    /// who went. Those of one who went see nobody, even while they deliver what there was until then. Once the group is too
    /// large for live presence all see nobody, until they open it again.
    pub(super) fn members_changed(&mut self, id: ConversationId, user: &UserId, member: bool) -> Vec<Watching> {
        let mut changes = Vec::new();
        let conversation = self.by_id.get(&id).and_then(|key| self.conversations.get(*key));
        let Some(conversation) = conversation.filter(|_| id.kind() == Some(Kind::Group)) else { return changes };
        let most = self.config.limits.presence_group_members;
        for stream in &conversation.followers {
            let Some(follower) = self.followers.get_mut(*stream) else { continue };
            let at = follower.seat.connection;
            let theirs = follower.seat.user == *user;
            let Some(watching) = follower.watching.as_mut() else { continue };
            let place = watching.iter().position(|other| other == user);
            match (place, member) {
                // One who is no member any more watches nobody.
                _ if theirs && !member => {
                    changes.extend(follower.watching.take().map(|all| Watching::NoLonger(at, all)));
                }
                (None, true) if !theirs && watching.len() + 1 < most => {
                    watching.push(user.clone());
                    changes.push(Watching::Also(at, user.clone()));
                }
                // In a group that is too large now nobody watches.
                (None, true) if !theirs => {
                    changes.extend(follower.watching.take().map(|all| Watching::NoLonger(at, all)));
                }
                (Some(place), false) => {
                    changes.push(Watching::NoLonger(at, vec![watching.swap_remove(place)]));
                }
                _ => {}
            }
        }
        changes
    }

    /// A new token allows other things on a stream.
    ///
    /// # Errors
    /// The code with which the stream ends, because its user may no longer read the conversation.
    pub(super) fn refreshed(&mut self, stream: StreamKey, rights: &Rights) -> Result<(), Code> {
        let Some(follower) = self.followers.get_mut(stream) else { return Ok(()) };
        let room = self.conversations.get(follower.conversation).and_then(|conversation| conversation.room.as_deref());
        let Some(authority) = rights.authority(follower.id, room) else { return Ok(()) };
        follower.authority = authority;
        // A stream that is still opening is decided when its rows are there.
        if follower.is_following() { may_read(&authority, Membership::Present) } else { Ok(()) }
    }

    /// The streams that get a signal which arrived on `stream`: those of members on other connections. Signals are for
    /// members, not for streams that are still opening, nor for those who read what there was until they left. Who may not post
    /// may not signal either.
    pub(super) fn listeners(&self, stream: StreamKey) -> Option<(&UserId, impl Iterator<Item = StreamKey>)> {
        let from = self.followers.get(stream).filter(|follower| follower.is_members() && follower.authority.post)?;
        let conversation = self.conversations.get(from.conversation)?;
        let listens = move |stream: &StreamKey| {
            let follower = self.followers.get(*stream).filter(|follower| follower.is_members());
            follower.is_some_and(|follower| follower.seat.connection != from.seat.connection)
        };
        Some((&from.seat.user, conversation.followers.iter().copied().filter(listens)))
    }

    /// A stream no longer follows.
    pub(super) fn leave(&mut self, stream: StreamKey) -> Option<Left> {
        let mut follower = self.followers.remove(stream)?;
        let Seat { connection, user, device } = follower.seat;
        let sender = (follower.id, user, device);
        if self.senders.get(&sender) == Some(&stream) {
            self.senders.remove(&sender);
        }
        if let Some(conversation) = self.conversations.get_mut(follower.conversation) {
            conversation.followers.retain(|other| *other != stream);
            // Those behind the one that left have moved up.
            conversation.look_at_all();
            conversation.audience.leave(&mut follower.delivery.place);
            self.memory.set_needed(follower.conversation, conversation.audience.needs_memory());
            if conversation.followers.is_empty() {
                self.memory.forget(follower.conversation);
                self.conversations.remove(follower.conversation);
                self.by_id.remove(&follower.id);
            }
        }
        Some(Left { connection, watched: follower.watching.unwrap_or_default() })
    }

    /// A sweep begins: followers that were blocked for all of the last one are live no longer, and rings that no live
    /// follower needs are forgotten.
    pub(super) fn sweep(&mut self) {
        for (key, conversation) in &mut self.conversations {
            if !conversation.audience.needs_memory() {
                continue;
            }
            for stream in &conversation.followers {
                if let Some(follower) = self.followers.get_mut(*stream) {
                    conversation.audience.sweep(&mut follower.delivery.place);
                }
            }
            self.memory.set_needed(key, conversation.audience.needs_memory());
        }
        self.memory.forget_unneeded();
    }

    /// No conversation is open, and no memory is held for any.
    #[cfg(test)]
    pub(super) fn assert_empty(&self) {
        assert!(self.conversations.is_empty() && self.by_id.is_empty());
        assert!(self.followers.is_empty() && self.senders.is_empty());
        assert_eq!(self.memory.held(), 0);
    }

    /// No page is being read.
    #[cfg(test)]
    pub(super) fn assert_no_reads(&self) {
        assert!(self.pages.is_empty());
    }

    /// What is counted of live followers and of memory is what is there.
    #[cfg(test)]
    pub(super) fn assert_counted(&self) {
        self.memory.assert_consistent();
        for (key, conversation) in &self.conversations {
            let followers = conversation.followers.iter().filter_map(|stream| self.followers.get(*stream));
            conversation.audience.assert_is(followers.map(|follower| &follower.delivery.place));
            let needed = self.memory.needed(key);
            assert!(needed.is_none_or(|needed| needed == conversation.audience.needs_memory()));
        }
    }

    /// A conversation has followers that may have something to write.
    fn fall_behind(&mut self, key: ConversationKey) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        conversation.look_at_all();
        if !std::mem::replace(&mut conversation.queued, true) {
            self.behind.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use quip_core::{Action, EventRecord, MemberRecord, MemberState, Naming, Parting};
    use quip_protocol::{
        conversation::{Start, Target},
        event::kind,
    };
    use quip_store::EventPage;
    use slotmap::SlotMap;

    use super::*;
    use crate::{
        auth::{Grants, Identity},
        hub::{
            authority::Rules,
            out::Out,
            port::Priority,
            reads::{OpenRows, PageOf, Query},
        },
    };

    struct Fixture {
        rooms: Rooms,
        rights: Rights,
        streams: SlotMap<StreamKey, ()>,
    }

    impl Fixture {
        fn new(change: impl FnOnce(&mut Config)) -> Self {
            let mut config = Config::development(None, None);
            change(&mut config);
            let identity = Identity { user: user("ann"), expires_at: None, grants: Grants::default() };
            let rights = Rights::new(identity, &Arc::new(Rules::new(&config)));
            Self { rooms: Rooms::new(Arc::new(config), 1), rights, streams: SlotMap::with_key() }
        }

        fn open(&mut self, name: &str, head: u64, start: Start) -> StreamKey {
            let stream = self.streams.insert(());
            let request = OpenRequest { target: Target::Id(group()), start, join: 0, digest: [0; 4] };
            let seat = Seat { connection: ConnectionKey::default(), user: user(name), device: DeviceId([1; 16]) };
            let opening = self.rooms.open(stream, &request, seat, &self.rights);
            assert!(matches!(opening, Opening::Read(Query::Rows { .. })), "{opening:?}");
            let opening = self.rooms.rows(stream, Ok(Some(Box::new(rows(head)))), &self.rights);
            assert!(matches!(opening, Opening::Open { .. }), "{opening:?}");
            let mut out = Out::default();
            assert!(matches!(self.rooms.fill(stream, &mut out), Filled::Follows(_)) && out.is_empty());
            stream
        }

        fn commit(&mut self, seqs: std::ops::RangeInclusive<u64>) {
            for seq in seqs {
                let row =
                    EventRecord { user: user("bob"), device: DeviceId([2; 16]), n: seq, frame: vec![7; 100].into() };
                self.rooms.event(group(), &NewEvent { seq, number: seq, at: 0, kind: kind::TEXT, record: row });
            }
        }
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn group() -> ConversationId {
        ConversationId::group([7; 15])
    }

    fn rows(head: u64) -> OpenRows {
        let member = MemberRecord {
            state: MemberState::Member,
            role: 1,
            from: 1,
            to: u64::MAX,
            number: 0,
            at: 0,
            parting: Parting::default(),
            earlier: Vec::new(),
        };
        let conversation = quip_core::ConversationRecord {
            created_at: 0,
            head,
            number: head,
            first_kept: 1,
            last_at: 0,
            members: 2,
            owners: 1,
            reverted: 0,
            policy: Default::default(),
            naming: Naming::Group(String::new()),
            deleted: Vec::new(),
        };
        OpenRows {
            conversation,
            member: Some(member),
            sends: Default::default(),
            mark: Default::default(),
            companions: None,
            is_other_log: false,
        }
    }

    #[test]
    fn a_follower_takes_from_the_ring_what_one_write_holds_and_is_live_at_the_head() {
        let mut all = Fixture::new(|_| {});
        let stream = all.open("ann", 0, Start::Now);
        all.commit(1..=40);
        assert_eq!(all.rooms.next_turns(), [stream]);
        let mut out = Out::default();
        assert!(matches!(all.rooms.fill(stream, &mut out), Filled::Follows(Priority::CatchingUp)));
        assert!(!out.has_room());
        let mut out = Out::default();
        assert!(matches!(all.rooms.fill(stream, &mut out), Filled::Follows(Priority::Live)));
        assert!(!out.is_empty());
        let mut out = Out::default();
        assert!(matches!(all.rooms.fill(stream, &mut out), Filled::Follows(Priority::Live)) && out.is_empty());
    }

    #[test]
    fn a_follower_that_the_ring_left_behind_wants_one_page() {
        let mut all = Fixture::new(|config| config.limits.ring_bytes_per_conversation = 500);
        let stream = all.open("ann", 0, Start::Now);
        all.commit(1..=20);
        let mut out = Out::default();
        let filled = all.rooms.fill(stream, &mut out);
        let Filled::Behind(PageOf { first: 1, last: 20, .. }) = filled else { panic!("{filled:?}") };
        assert!(matches!(all.rooms.fill(stream, &mut out), Filled::Same), "while it is read");
        let page = EventPage { first: 1, last: 18, count: 18, frames: vec![7; 1800].into() };
        assert_eq!(all.rooms.page(stream, Ok(&page), &mut out), Ok(()));
        assert!(all.rooms.next_turns().contains(&stream));
        let mut rest = Out::default();
        assert!(matches!(all.rooms.fill(stream, &mut rest), Filled::Follows(Priority::Live)) && !rest.is_empty());
        assert_eq!(all.rooms.page(stream, Ok(&EventPage::default()), &mut out), Err(Code::BUSY), "trimmed meanwhile");
    }

    #[test]
    fn memory_of_rings_is_given_back_when_nobody_needs_them() {
        let mut all = Fixture::new(|_| {});
        let streams = [all.open("ann", 0, Start::Now), all.open("bob", 0, Start::Now)];
        all.commit(1..=3);
        all.rooms.sweep();
        all.rooms.next_turns();
        for stream in streams {
            all.rooms.fill(stream, &mut Out::default());
        }
        let key = all.rooms.by_id[&group()];
        assert!(all.rooms.memory.get(key, 3).is_some());
        all.rooms.sweep();
        assert_eq!(all.rooms.memory.held(), 0);
        all.commit(4..=5);
        for stream in streams {
            assert_eq!(all.rooms.leave(stream).map(|left| left.watched), Some(Vec::new()));
        }
        all.rooms.assert_empty();
        assert_eq!(all.rooms.next_turns(), [], "it was behind");
    }

    #[test]
    fn a_newer_stream_of_a_device_carries_its_commands_and_an_older_one_does_not_take_that_away() {
        let mut all = Fixture::new(|_| {});
        let (older, newer) = (all.open("ann", 0, Start::Now), all.open("ann", 0, Start::Now));
        let sender = (group(), user("ann"), DeviceId([1; 16]));
        assert_eq!(all.rooms.senders[&sender], newer);
        all.rooms.leave(older);
        assert_eq!(all.rooms.senders[&sender], newer);
    }

    #[test]
    fn commands_are_warmed_once_in_an_epoch() {
        let mut all = Fixture::new(|_| {});
        let stream = all.open("ann", 0, Start::Now);
        let post = || Action::Post { kind: 1, body: "x".into() };
        let cold = |rooms: &Rooms| rooms.command(stream, 1, post()).map(|(_, cold)| cold);
        assert_eq!(cold(&all.rooms), Some(true));
        assert!(all.rooms.submitted(stream, 1, true, tokio::time::Instant::now()));
        assert_eq!(cold(&all.rooms), Some(false));
        all.rooms.in_epoch(1);
        assert_eq!(cold(&all.rooms), Some(true));
    }
}
