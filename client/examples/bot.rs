//! A bot that counts what people say in a room and answers `!count`. It may be killed at any moment.
//!
//! Start a relay with `cargo run --release`, and then, in the same folder, `cargo run -p quip-client --example bot`.
//!
//! The library delivers an event again when it does not know that the app is done with it. What the bot learns from events
//! and the place up to which it has seen them are therefore written together, in one file: after a kill, both are as of the
//! same event, and nothing is counted twice or left out. A database does this in one transaction.
//!
//! What the bot does in the world cannot be in that file, so it is written down before it is done, and crossed out when it
//! has been seen. An answer is owed until it comes back as an event. After a start, the bot first reads everything, which
//! shows the answers that were sent before, and then sends those that are owed. So a question is answered at least once. It
//! is answered twice only if the relay is still storing the answer when the bot has been killed, started and is up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    io::{self, Write},
    path::Path,
};

use quip_client::{Client, Config, ConversationEvent, Cursor, OpenOptions, OwnedEvent, Start, Target, UserId};
use serde::{Deserialize, Serialize};

/// Everything that the bot must not lose.
#[derive(Default, Serialize, Deserialize)]
struct Book {
    /// The generation, seq and digest of a [`Cursor`]: what follows is as of that event.
    cursor: Option<(u64, u64, [u8; 4])>,
    /// Messages of others.
    counted: u64,
    /// Answers that have not come back, by the seq of the question.
    owed: BTreeMap<u64, String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::connect(Config::dev("quip-data", "bot")?).await?;
    while serve(&client, Path::new("bot.json")).await? {}
    Err(format!("the room is over: {:?}", *client.state().borrow()).into())
}

/// Serves the room until it ends. Returns whether to begin again with an empty book.
async fn serve(client: &Client, path: &Path) -> Result<bool, Box<dyn Error>> {
    let mut book = Book::read(path)?;
    let room = client.open(Target::room("lobby:main")?, OpenOptions::join().start(book.start())).await?;
    let (sender, mut events) = room.split();
    let (mut is_up_to_date, mut sent) = (false, BTreeSet::new());
    while let Some(event) = events.next().await {
        match event {
            ConversationEvent::Event(event) => book.enter(&event, client.user()),
            ConversationEvent::CaughtUp => is_up_to_date = true,
            ConversationEvent::Reset { .. } => {
                // The relay was restored from a backup, and what was counted may never have been said.
                Book::default().write(path)?;
                return Ok(true);
            }
            ConversationEvent::Ended(code) => eprintln!("the room has ended: {code}"),
            _ => {}
        }
        let Cursor { generation, seq, digest } = events.cursor();
        book.cursor = Some((generation, seq, digest));
        book.write(path)?;
        for (question, answer) in &book.owed {
            if is_up_to_date && sent.insert(*question) {
                // If it is refused, it stays owed until the next start.
                let _receipt = sender.send(answer).await?;
            }
        }
    }
    Ok(false)
}

impl Book {
    /// Takes an event in. For one book and one event there is one outcome, so that it does not matter how often it is tried.
    fn enter(&mut self, event: &OwnedEvent, me: &UserId) {
        let Some(text) = event.text() else { return };
        if event.user == *me {
            if let Some(question) = answered(text) {
                self.owed.remove(&question);
            }
            return;
        }
        self.counted += 1;
        if text == "!count" {
            self.owed.insert(event.seq, format!("to {}: {} messages", event.seq, self.counted));
        }
    }

    /// Where to go on.
    fn start(&self) -> Start {
        match self.cursor {
            Some((generation, seq, digest)) => Start::Resume(Cursor { generation, seq, digest }),
            None => Start::Beginning,
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file, whole or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}

/// The question that one of the bot's own messages answers.
fn answered(text: &str) -> Option<u64> {
    let (question, _) = text.strip_prefix("to ")?.split_once(':')?;
    question.parse().ok()
}
