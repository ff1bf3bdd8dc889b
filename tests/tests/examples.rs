//! The examples of the library work as they stand, beside a relay with its data in `quip-data`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "this is a test, helpers included")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use quip_client::{Client, Config, ConversationEvent, OpenOptions, Start, Target};
use quip_tests::relay::{PATIENCE, Relay};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A relay with its data where one has them that was started without a config.
fn relay(folder: &Path) -> Relay {
    let mut relay = Relay::prepare(folder, "");
    relay.set_data(folder.join("quip-data"));
    relay.run().unwrap();
    relay
}

/// An example that runs. Dropping it kills it.
struct Example {
    child: Child,
    lines: Receiver<String>,
}

impl Example {
    fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary(name))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until it prints this line.
    fn prints(&self, expected: &str) {
        while self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not print {expected}")) != expected {
        }
    }

    /// Ends its input, and waits for its end.
    fn end(mut self) {
        drop(self.child.stdin.take());
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p quip-client --examples` first", path.display());
    path
}

#[test]
fn the_first_example_of_the_readme_works_as_it_stands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path| fs::read_to_string(root.join(path)).unwrap();
    let (readme, example) = (read("README.md"), read("client/examples/first.rs"));
    let (_, program) = example.split_once("\n\n").unwrap();
    assert!(readme.contains(&format!("```rust\n{program}```\n")), "README.md does not have {program}");

    let folder = tempfile::tempdir().unwrap();
    let _relay = relay(folder.path());
    let first = Example::start(folder.path(), "first", &[]);
    first.prints("that was event 2");
    first.prints("alice: hello");
}

#[test]
fn people_chat_in_a_room() {
    let folder = tempfile::tempdir().unwrap();
    let _relay = relay(folder.path());
    let [mut alice, mut bob] = ["alice", "bob"].map(|user| Example::start(folder.path(), "chat", &[user]));
    alice.say("hello bob");
    bob.prints("alice: hello bob");
    bob.say("hi alice");
    bob.say("");
    bob.say("what is new?");
    alice.prints("bob: hi alice");
    alice.prints("bob: what is new?");
    // Lines come faster than the relay answers, and the last of them is its input's end.
    (0..300).for_each(|n| alice.say(&format!("line {n}")));
    alice.end();
    (0..300).for_each(|n| bob.prints(&format!("alice: line {n}")));
    bob.end();
}

#[test]
fn a_game_looks_once_in_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = relay(folder.path());
    let game = Example::start(folder.path(), "frames", &["quip-data", "alice", "3"]);
    game.prints("alice: alice is ready");
    game.prints("-- ready, as event 2");
    game.end();
    // Without a relay it starts as well, and goes on at its pace.
    relay.kill();
    Example::start(folder.path(), "frames", &["quip-data", "bob", "1"]).end();
}

#[tokio::test]
async fn a_bot_that_is_killed_counts_each_message_once_and_answers_each_question() {
    const KILLS: usize = 12;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let _relay = relay(folder.path());
    let client = Client::connect(Config::dev(folder.path().join("quip-data"), "alice").unwrap()).await.unwrap();
    let room = Target::room("lobby:main").unwrap();
    let room = client.open(room, OpenOptions::join().start(Start::Beginning)).await.unwrap();
    let (sender, mut events) = room.split();
    let mut questions = BTreeMap::new();
    let mut counted = 0;
    let mut answers: Vec<(u64, String)> = Vec::new();
    for _ in 0..=KILLS {
        let bot = Example::start(folder.path(), "bot", &[]);
        for _ in 0..random.random_range(1..20) {
            let text = if random.random_bool(0.5) { "!count" } else { "so it is" };
            let accepted = sender.send(text).await.unwrap().accepted().await.unwrap();
            counted += 1;
            if text == "!count" {
                questions.insert(accepted.seq, counted);
            }
        }
        // It is killed after some of the answers, while others are on their way.
        let open = questions.len() - answers.iter().map(|(question, _)| question).collect::<BTreeSet<_>>().len();
        read_answers(&mut events, &mut answers, random.random_range(0..=open)).await;
        drop(bot);
    }
    let _bot = Example::start(folder.path(), "bot", &[]);
    let missing = |answers: &[(u64, String)]| {
        questions.keys().filter(|question| answers.iter().all(|(answered, _)| answered != *question)).count()
    };
    while missing(&answers) > 0 {
        read_answers(&mut events, &mut answers, 1).await;
    }
    for (question, answer) in &answers {
        assert_eq!(*answer, format!("{} messages", questions[question]), "to {question}");
        let times = answers.iter().filter(|(other, _)| other == question).count();
        assert!(times <= 2, "{question} is answered {times} times");
    }
    println!("{} questions, {} answers, {counted} messages", questions.len(), answers.len());
}

/// Takes `count` answers, and the events before them.
async fn read_answers(events: &mut quip_client::Events, answers: &mut Vec<(u64, String)>, count: usize) {
    for _ in 0..count {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an answer").expect("open");
            let ConversationEvent::Event(event) = event else { continue };
            let Some((question, answer)) = event.text().and_then(|text| text.strip_prefix("to ")?.split_once(": "))
            else {
                continue;
            };
            assert_eq!(event.user.as_str(), "bot");
            answers.push((question.parse().unwrap(), answer.to_owned()));
            break;
        }
    }
}
