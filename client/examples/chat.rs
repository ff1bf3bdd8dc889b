//! Lines from standard input to a room, and what is said there to standard output.
//!
//! Start a relay with `cargo run --release`, and then, in the same folder and in two terminals:
//!
//! ```sh
//! cargo run -p quip-client --example chat alice
//! cargo run -p quip-client --example chat bob
//! ```

use std::{error::Error, io, thread};

use quip_client::{Client, Config, ConversationEvent, OpenOptions, Start, Target};
use tokio::{sync::mpsc, task::JoinSet};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let user = std::env::args().nth(1).unwrap_or_else(|| "alice".to_owned());
    let client = Client::connect(Config::dev("quip-data", &user)?).await?;
    let room = client.open(Target::room("lobby:main")?, OpenOptions::join().start(Start::Last(20))).await?;
    let (sender, mut events) = room.split();
    let mut lines = lines();
    // Lines that the relay has not answered. Nobody waits for one before the next is sent.
    let mut unanswered = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) if line.is_empty() => {}
                Some(line) => {
                    let receipt = sender.send(&line).await?;
                    unanswered.spawn(async move { receipt.accepted().await.map_err(|error| (line, error)) });
                }
                None => break,
            },
            event = events.next() => match event {
                Some(event) => show(&event),
                None => break,
            },
            Some(Ok(Err((line, error)))) = unanswered.join_next() => eprintln!("not sent: {line}: {error}"),
        }
    }
    while let Some(answer) = unanswered.join_next().await {
        if let Err((line, error)) = answer? {
            eprintln!("not sent: {line}: {error}");
        }
    }
    // Others see at once that this user is gone.
    client.close().await;
    Ok(())
}

fn show(event: &ConversationEvent) {
    match event {
        ConversationEvent::Event(event) => match event.text() {
            Some(text) => println!("{}: {text}", event.user),
            None => println!("-- {} did something else (kind {})", event.user, event.kind),
        },
        ConversationEvent::Skipped { to, .. } => println!("-- nothing to read up to event {to}"),
        ConversationEvent::Reset { first, .. } => println!("-- the relay was restored: forget event {first} and later"),
        ConversationEvent::Ended(code) => println!("-- ended: {code}"),
        _ => {}
    }
}

/// The lines of standard input. A thread reads them, since a read cannot be cancelled.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}
