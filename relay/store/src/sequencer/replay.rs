//! One log, however it is cut into batches, makes the same store.

use std::collections::{BTreeMap, VecDeque};

use quip_core::{Action, Authority, By, Command, JoinAs};
use quip_order::Durability;
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId, event::role};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::*;
use crate::{StoreConfig, space::Space};

const NAMES: [&str; 3] = ["ann", "ben", "cat"];
const ROOM: &str = "test:room";

/// A log that is there already, in batches of random sizes up to a limit.
struct Log {
    rest: VecDeque<Ordered>,
    random: StdRng,
    most: usize,
}

impl Order for Log {
    fn durability(&self) -> Durability {
        Durability::Order
    }

    fn start(&mut self, _: &[u64]) {}

    fn next_batch(&mut self, _: BatchLimit, into: &mut Vec<Ordered>) -> bool {
        let count = self.random.random_range(1..=self.most);
        into.extend(self.rest.drain(..count.min(self.rest.len())));
        !into.is_empty()
    }

    fn synced(&mut self, _: &[u64]) {}
}

fn places() -> [ConversationId; 2] {
    [ConversationId::room(&RoomName::parse(ROOM).unwrap()), ConversationId::group([7; 15])]
}

fn user(random: &mut StdRng) -> UserId {
    UserId::parse(NAMES[random.random_range(0..NAMES.len())]).unwrap()
}

fn action(random: &mut StdRng, place: ConversationId, at: u64) -> Action {
    let target = random.random_range(1..=at / 3 + 1);
    let body = format!("content {at}").into();
    match random.random_range(0..30) {
        0..10 => Action::Post { kind: random.random_range(1..=2), body },
        10..17 => Action::Edit { target, body },
        17..20 => Action::Delete { target },
        20 => Action::React { target, add: true, reaction: "+1".to_owned() },
        21 if random.random_bool(0.2) => Action::Leave,
        22 if random.random_bool(0.3) => Action::Remove { user: user(random), ban: random.random_bool(0.3) },
        23 => Action::Add { user: user(random) },
        24 => Action::SetRole { user: user(random), role: random.random_range(role::MEMBER..=role::OWNER) },
        25 => Action::SetTitle { title: format!("title {at}") },
        26 => Action::Mark { seq: target, number: target },
        27 if random.random_bool(0.2) => Action::Trim { first_kept: target / 2 },
        28 => Action::Seen { user: user(random), at: random.random_range(0..1 << 40) },
        _ if place == places()[0] => Action::Join(JoinAs::Room(ROOM.to_owned())),
        _ => Action::Join(JoinAs::NewGroup),
    }
}

/// Commands of three users with two devices each in two conversations; some come again.
fn log(seed: u64, length: u64) -> Vec<Ordered> {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut last = BTreeMap::new();
    let mut log: Vec<Ordered> = Vec::new();
    for position in 1..=length {
        let place = places()[random.random_range(0..2)];
        let (user, device) = (user(random), DeviceId([random.random_range(0..2); 16]));
        let action = action(random, place, position);
        let by = match action {
            Action::Trim { .. } | Action::Seen { .. } => By::Relay,
            Action::Mark { .. } => By::Device { user, device, n: 0 },
            _ => {
                let n = last.entry((place, user.clone(), device)).or_insert(0);
                *n += 1;
                By::Device { user, device, n: *n }
            }
        };
        let policy = quip_core::Policy { history_open: true, joins_shown: seed.is_multiple_of(2) };
        let authority = Authority { join: true, post: true, create: true, moderate: false, policy, group_members: 10 };
        let mut command = match action {
            Action::Seen { user, at } => Command::seen(user, at),
            action => Command { conversation: place, by, authority, action },
        };
        if position > 9 && random.random_ratio(1, 10) {
            let again = log[random.random_range(0..log.len())].command.clone();
            // In its stead, so that its own number stays the next one.
            if let By::Device { user, device, n: 1.. } = command.by {
                *last.get_mut(&(place, user, device)).unwrap() -= 1;
            }
            command = again;
        }
        log.push(Ordered { partition: 0, position, at: random.random_range(0..1 << 40), command });
    }
    log
}

/// Applies a log in batches of at most `most`, with a restart after each of the `parts`.
fn apply(log: &[Ordered], seed: u64, most: usize, parts: usize) -> Rows {
    let folder = tempfile::tempdir().unwrap();
    for part in log.chunks(log.len().div_ceil(parts)) {
        let order = Log { rest: part.iter().cloned().collect(), random: StdRng::seed_from_u64(seed), most };
        let config = SequencerConfig { cached_rows: 4, ..SequencerConfig::default() };
        Sequencer::new(open(&folder), Box::new(order), Vec::new(), config).run().unwrap();
    }
    rows(&open(&folder))
}

fn open(folder: &TempDir) -> Store {
    Store::open(folder.path(), StoreConfig { cache_bytes: 1 << 20, ..StoreConfig::default() }).unwrap()
}

type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Every row that follows from the log, but for events that are given up: those go at each store's own pace.
fn rows(store: &Store) -> Rows {
    let (spaces, at) = (&store.inner.spaces, store.inner.database.snapshot());
    let all = |space: &Space| {
        let name = space.name;
        let read = space.range(&at, &[], ..).map(move |row| {
            let (key, value) = row.unwrap();
            ((name, key.to_vec()), value.to_vec())
        });
        read.collect::<Vec<_>>()
    };
    let mut rows: Rows =
        [&spaces.conversations, &spaces.members, &spaces.members_by_user, &spaces.sends, &spaces.marks]
            .into_iter()
            .chain([&spaces.events, &spaces.edits, &spaces.users])
            .flat_map(all)
            .collect();
    for id in places() {
        let first_kept = store.view().conversation(id).unwrap().map_or(1, |row| row.first_kept);
        let (from, to) = (crate::keys::event::encode(id, 0), crate::keys::event::encode(id, first_kept));
        rows.retain(|(space, key), _| {
            !["events", "edits"].contains(space) || !(&from[..]..&to[..]).contains(&&key[..])
        });
    }
    rows
}

#[test]
fn one_log_makes_one_store_however_it_is_cut() {
    let (mut events, mut edits, mut users) = (0, 0, 0);
    for seed in 0..6 {
        println!("seed {seed}");
        let log = log(seed, 1200);
        let whole = apply(&log, seed, log.len(), 1);
        let count = |space| whole.keys().filter(|(name, _)| *name == space).count();
        (events, edits) = (events + count("events"), edits + count("edits"));
        users += count("users");
        for (most, parts) in [(1, 1), (7, 5), (300, 2)] {
            let cut = apply(&log, seed, most, parts);
            let differs = whole.iter().find(|(key, row)| cut.get(key) != Some(row));
            assert!(differs.is_none() && cut.len() == whole.len(), "at most {most} in {parts} parts: {differs:?}");
        }
    }
    assert!(users == 6 * NAMES.len(), "{users} users were seen");
    assert!(events > 500 && edits > 20, "the logs come to little: {events} events, {edits} edited");
}
