//! One log, however it is cut into batches, makes the same store, on either engine.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use quip_core::{
    Action, Authority, By, Command, EditsRecord, EventRecord, JoinAs, Kind as _, ReactionsRecord, UserRecord,
    record::{EditsKey, EventKey, ReactionsKey},
};
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId, event::role};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::*;
use crate::{MemoryDisk, StoreConfig};

const NAMES: [&str; 3] = ["ann", "ben", "cat"];
const ROOM: &str = "test:room";

/// A log that is there already, in batches of random sizes up to a limit.
struct Log {
    rest: VecDeque<Ordered>,
    random: StdRng,
    most: usize,
}

impl Order for Log {
    fn generation(&self) -> u64 {
        GENERATION
    }

    fn start(&mut self, after: &Positions) -> Result<Positions, OrderError> {
        Ok(after.clone())
    }

    fn next_batch(&mut self, _: BatchLimit, into: &mut quip_order::Batch) -> Result<Next, OrderError> {
        let count = self.random.random_range(1..=self.most);
        into.commands.clear();
        into.commands.extend(self.rest.drain(..count.min(self.rest.len())));
        Ok(if into.commands.is_empty() { Next::Ended } else { Next::Batch })
    }

    fn checkpoint(&mut self, _: &Positions) -> Result<(), OrderError> {
        Ok(())
    }
}

const GENERATION: u64 = 7;

fn places() -> [ConversationId; 2] {
    [ConversationId::room(&RoomName::parse(ROOM).unwrap()), ConversationId::group([7; 15])]
}

fn user(random: &mut StdRng) -> UserId {
    UserId::parse(NAMES[random.random_range(0..NAMES.len())]).unwrap()
}

fn action(random: &mut StdRng, place: ConversationId, at: u64) -> Action {
    let target = random.random_range(1..=at / 3 + 1);
    let body = format!("content {at}").into();
    match random.random_range(0..32) {
        0..10 => Action::Post { kind: random.random_range(1..=2), body },
        10..17 => Action::Edit { target, body },
        17..20 => Action::Delete { target },
        20 | 30.. => Action::React { target, add: random.random_bool(0.7), reaction: "+1".to_owned() },
        21 if random.random_bool(0.2) => Action::Leave,
        22 if random.random_bool(0.3) => Action::Remove { user: user(random), ban: random.random_bool(0.3) },
        23 => Action::Add { user: user(random) },
        24 => Action::SetRole { user: user(random), role: random.random_range(role::MEMBER..=role::OWNER) },
        25 => Action::SetTitle { title: format!("title {at}") },
        26 => Action::Mark { seq: target, number: target },
        27 if random.random_bool(0.2) => Action::Trim { first_kept: target / 2 },
        28 if random.random_bool(0.2) => {
            let device = DeviceId([random.random_range(0..2); 16]);
            Action::Forget { user: user(random), device, before: u64::MAX }
        }
        28 => Action::Seen { user: user(random), at: random.random_range(0..1 << 40) },
        _ => join(place),
    }
}

fn join(place: ConversationId) -> Action {
    Action::Join(if place == places()[0] { JoinAs::Room(ROOM.to_owned()) } else { JoinAs::NewGroup })
}

/// Commands of three users with two devices each in two conversations; some come again.
fn log(seed: u64, length: u64) -> Vec<Ordered> {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut last = BTreeMap::new();
    let mut log: Vec<Ordered> = Vec::new();
    for position in 1..=length {
        let place = places()[random.random_range(0..2)];
        let (user, device) = (user(random), DeviceId([random.random_range(0..2); 16]));
        // A device begins with a join: a refusal where there is no conversation would use no number up.
        let is_first = last.get(&(place, user.clone(), device)).is_none_or(|last| *last == 0);
        let action = if is_first { join(place) } else { action(random, place, position) };
        let by = match &action {
            Action::Forget { user, device, .. } => {
                last.insert((place, user.clone(), *device), 0);
                By::Relay
            }
            Action::Trim { .. } | Action::Seen { .. } => By::Relay,
            Action::Mark { .. } => By::Device { user, device, n: 0 },
            _ => {
                let n = last.entry((place, user.clone(), device)).or_insert(0);
                *n += 1;
                By::Device { user, device, n: *n }
            }
        };
        let policy = quip_core::Policy { history_open: true, joins_shown: seed.is_multiple_of(2) };
        let authority =
            Authority { join: true, post: true, create: true, moderate: false, add: true, policy, group_members: 10 };
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
        log.push(Ordered { position, at: random.random_range(0..1 << 40), command });
    }
    log
}

/// Applies a log in batches of at most `most`, with a restart after each of the `parts`.
fn apply(log: &[Ordered], seed: u64, most: usize, parts: usize, open: &dyn Fn() -> Store) -> Rows {
    for part in log.chunks(log.len().div_ceil(parts)) {
        let order = Log { rest: part.iter().cloned().collect(), random: StdRng::seed_from_u64(seed), most };
        let config = SequencerConfig { cached_records: 4, ..SequencerConfig::default() };
        Sequencer::start(open(), Box::new(order), Vec::new(), config).unwrap().run().unwrap();
    }
    rows(&open())
}

fn open(folder: &TempDir) -> Store {
    let config = StoreConfig { cache_bytes: 1 << 20, ..StoreConfig::default() };
    Store::open(folder.path(), config, GENERATION).unwrap()
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Every row that follows from the log, but for events that are given up: those go at each store's own pace.
fn rows(store: &Store) -> Rows {
    let rows = store.inner.engine.snapshot();
    let all = rows.range(Bound::Excluded(&[0xff][..]), Bound::Unbounded).count();
    assert_eq!(all, 0, "no key begins with 255");
    let rows = rows.range(Bound::Included(&[1][..]), Bound::Excluded(&[128][..]));
    let mut rows: Rows = rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect();
    for id in places() {
        let first_kept = store.view().conversation(id).unwrap().map_or(1, |conversation| conversation.first_kept);
        let (from, to) = (EventRecord::key(&EventKey(id, 0)), EventRecord::key(&EventKey(id, first_kept)));
        let events = &from[..]..&to[..];
        let (from, to) = (EditsRecord::key(&EditsKey(id, 0)), EditsRecord::key(&EditsKey(id, first_kept)));
        let edits = &from[..]..&to[..];
        let (from, to) =
            (ReactionsRecord::key(&ReactionsKey(id, 0)), ReactionsRecord::key(&ReactionsKey(id, first_kept)));
        let reactions = &from[..]..&to[..];
        rows.retain(|key, _| ![&events, &edits, &reactions].iter().any(|trimmed| trimmed.contains(&&key[..])));
    }
    rows
}

#[test]
fn one_log_makes_one_store_however_it_is_cut() {
    let (mut events, mut edits, mut reactions, mut users) = (0, 0, 0, 0);
    for seed in 0..6 {
        println!("seed {seed}");
        let log = log(seed, 1200);
        let folder = tempfile::tempdir().unwrap();
        let whole = apply(&log, seed, log.len(), 1, &|| self::open(&folder));
        let count = |kind| whole.keys().filter(|key| key[0] == kind).count();
        (events, edits) = (events + count(EventRecord::NUMBER), edits + count(EditsRecord::NUMBER));
        reactions += count(ReactionsRecord::NUMBER);
        users += count(UserRecord::NUMBER);
        for (most, parts) in [(1, 1), (7, 5), (300, 2)] {
            let disk = MemoryDisk::default();
            let cut = apply(&log, seed, most, parts, &|| Store::open_in_memory(&disk, GENERATION).unwrap());
            let differs = whole.iter().find(|(key, row)| cut.get(*key) != Some(*row));
            assert!(differs.is_none() && cut.len() == whole.len(), "at most {most} in {parts} parts: {differs:?}");
        }
    }
    assert!(users == 6 * NAMES.len(), "{users} users were seen");
    let come_to = format!("{events} events, {edits} edited, {reactions} reacted to");
    assert!(events > 500 && edits > 20 && reactions > 20, "the logs come to little: {come_to}");
}
