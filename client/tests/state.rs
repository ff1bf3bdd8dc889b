//! A process that is killed while it saves. It has a program of its own: a child that another test starts holds the locks of
//! all files that are open at that moment, until it runs its own program.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use quip_client::{Change, ConversationId, FileStore, StateStore};
use rand::{Rng, SeedableRng, rngs::StdRng};

const ID: ConversationId = ConversationId([3; 16]);
/// Names the state file to the process that is killed.
const STATE: &str = "QUIP_STATE_OF_A_TEST";

#[test]
#[allow(clippy::disallowed_methods, reason = "a seed for this test")]
fn a_process_that_is_killed_has_everything_that_it_saved() {
    const KILLS: usize = 40;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let (mut last, mut caught) = (0, 0);
    for _ in 0..KILLS {
        let mut child = Command::new(env::current_exe().expect("a program"))
            .args(["--exact", "saves_until_it_is_killed", "--ignored", "--nocapture"])
            .env(STATE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let saved = lines.filter_map(|line| line.ok()?.strip_prefix("saved ")?.parse::<u64>().ok());
        last = saved.take(random.random_range(1..200)).last().unwrap_or(last);
        child.kill().expect("running");
        child.wait().expect("ended");
        caught += usize::from(folder.path().join("state.new").exists());
        let found = &FileStore::open(&path).expect("opens").load().expect("loads").conversations[&ID];
        assert!(found.last_n >= last, "{} of {last} are there", found.last_n);
        let outbox: Vec<u64> = found.outbox.iter().map(|(n, _)| *n).collect();
        assert_eq!(outbox, (found.last_n.saturating_sub(2).max(1)..=found.last_n).collect::<Vec<_>>());
    }
    println!("{caught} of {KILLS} kills came during a compaction, {last} were saved");
    assert!(caught > 0, "no kill came during a compaction");
}

#[test]
#[ignore = "run by the other test, which kills it"]
fn saves_until_it_is_killed() {
    let Some(path) = env::var_os(STATE) else { return };
    let mut store = FileStore::open(Path::new(&path)).expect("opens");
    let first = store.load().expect("loads").conversations.get(&ID).map_or(0, |saved| saved.last_n) + 1;
    // So large that the file is compacted every few dozen saves.
    let frame = Bytes::from(vec![1; 16 * 1024]);
    for n in first.. {
        let changes = [Change::Queued(ID, n, frame.clone()), Change::Settled(ID, n.saturating_sub(3))];
        store.save(&changes).expect("saved");
        println!("saved {n}");
    }
}
