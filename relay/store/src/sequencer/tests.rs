//! What the sequencer reads from files, counted by the system for each thread.

use std::{fs, thread};

use quip_core::{Action, Authority, JoinAs};
use quip_order::{EmbeddedConfig, Limits, MemoryLog, Submit as _, embedded_in_memory};
use quip_protocol::{ConversationId, DeviceId, RoomName, UserId, event::role};
use tempfile::TempDir;

use super::*;
use crate::StoreConfig;

const NAME: &str = "test:room";

fn room() -> ConversationId {
    ConversationId::room(&RoomName::parse(NAME).unwrap())
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn command(conversation: ConversationId, name: &str, n: u64, action: Action) -> Command {
    let by = By::Device { user: user(name), device: DeviceId([1; 16]), n };
    let authority = Authority { join: true, post: true, create: true, group_members: 10, ..Authority::default() };
    Command { conversation, by, authority, action }
}

const GENERATION: u64 = 7;

fn open(folder: &TempDir) -> Store {
    Store::open(folder.path(), StoreConfig::default(), GENERATION).unwrap()
}

/// A store of which everything is in tables on the disk, and nothing in memory once it is opened again.
fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { conversation_commands: 1000, ..Limits::default() };
    let config = EmbeddedConfig { limits, ..EmbeddedConfig::default() };
    let (submit, order) = embedded_in_memory(MemoryLog::new(GENERATION), config);
    let join = |name: &str| command(room(), name, 1, Action::Join(JoinAs::Room(NAME.to_owned())));
    let post = |n| command(room(), "ann", n, Action::Post { kind: 1, body: vec![b'x'; 1000].into() });
    let edit = command(room(), "ann", 100, Action::Edit { target: 50, body: "x".into() });
    let mark = command(room(), "ann", 0, Action::Mark { seq: 5, number: 4 });
    let direct = ConversationId::direct(&user("ann"), &user("ben"));
    let join_direct = command(direct, "ann", 1, Action::Join(JoinAs::Direct(user("ben"))));
    // Enough of them between the two that each is in a block of its own.
    let between: Vec<String> = (0..200).map(|n| format!("b{n:0>50}")).collect();
    let joins = ["ann", "ben"].into_iter().chain(between.iter().map(String::as_str)).map(join);
    let all = joins.chain((2..100).map(post)).chain([edit, mark, join_direct]);
    all.for_each(|command| submit.submit(command).unwrap());
    submit.close();
    // Ending makes a checkpoint.
    Sequencer::start(open(&folder), order, Vec::new(), SequencerConfig::default()).unwrap().run().unwrap();
    folder
}

/// System calls by which this thread has read.
fn reads() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

/// How many of them `work` takes.
fn counted(work: impl FnOnce()) -> u64 {
    let begin = reads();
    let own = reads() - begin;
    let before = reads();
    work();
    reads() - before - own
}

/// What the sequencer reads for a command as the first one after the start.
fn sequencer_reads(folder: &TempDir, command: &Command, warm: bool) -> u64 {
    let (store, keys) = (open(folder), quip_core::keys(command));
    if warm {
        thread::scope(|scope| scope.spawn(|| store.view().warm(&keys)).join().unwrap());
    }
    let mut cache = Cache::new(10);
    counted(|| drop(cache.take(keys, &store.inner.engine).unwrap()))
}

#[test]
fn what_a_reader_has_warmed_is_not_read_from_the_disk() {
    let folder = store();
    let direct = ConversationId::direct(&user("ann"), &user("ben"));
    let cases = [
        command(room(), "ann", 100, Action::Post { kind: 1, body: "x".into() }),
        command(room(), "ann", 100, Action::Edit { target: 7, body: "x".into() }),
        command(room(), "ann", 100, Action::Delete { target: 50 }),
        command(room(), "ben", 2, Action::React { target: 93, add: true, reaction: "+1".to_owned() }),
        command(room(), "ben", 2, Action::Leave),
        command(room(), "ann", 100, Action::Add { user: user("ben") }),
        command(room(), "ann", 100, Action::Remove { user: user("ben"), ban: true }),
        command(room(), "ann", 100, Action::SetRole { user: user("ben"), role: role::ADMIN }),
        command(room(), "ann", 100, Action::SetTitle { title: "x".to_owned() }),
        command(room(), "ann", 0, Action::Mark { seq: 9, number: 9 }),
        command(room(), "ben", 2, Action::Join(JoinAs::Existing)),
        command(room(), "ben", 2, Action::Join(JoinAs::Room(NAME.to_owned()))),
        command(direct, "ben", 1, Action::Join(JoinAs::Direct(user("ann")))),
    ];
    for command in cases {
        assert!(sequencer_reads(&folder, &command, false) > 0, "nothing to read for {:?}", command.action);
        assert_eq!(sequencer_reads(&folder, &command, true), 0, "{:?}", command.action);
    }
}

#[test]
fn records_stay_until_the_second_epoch_after_their_last_use() {
    let folder = store();
    let mut cache = Cache::new(9);
    // Each time from a store that has nothing in memory: what turned over how often, and whether it was read.
    let mut join = |room: &str| {
        let store = open(&folder);
        let epoch = cache.make_room();
        let id = ConversationId::room(&RoomName::parse(room).unwrap());
        let command = command(id, "ann", 1, Action::Join(JoinAs::Room(room.to_owned())));
        let reads = counted(|| {
            let loaded = cache.take(quip_core::keys(&command), &store.inner.engine).unwrap();
            cache.put_back(loaded);
        });
        (epoch, reads > 0)
    };
    let mut others = (0..).map(|n| format!("test:{n}"));
    let mut pass = |count: usize| others.by_ref().take(count).collect::<Vec<_>>();
    assert_eq!(join(NAME), (0, true));
    assert_eq!(pass(3).iter().map(|room| join(room).0).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(join(NAME), (1, false), "one epoch after its use");
    assert_eq!(pass(5).iter().map(|room| join(room).0).collect::<Vec<_>>(), [1, 2, 2, 2, 3]);
    assert_eq!(join(NAME), (3, true), "two epochs after its use");
}
