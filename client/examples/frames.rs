//! A game's loop at 60 frames a second, without async: the client runs on a thread of its own, and the loop looks once in a
//! frame. `cargo run -p quip-client --example frames -- [FOLDER] [USER] [SECONDS]` against a relay with this data folder.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use quip_client::{Client, Config, Content, ConversationEvent, OpenOptions, Start, Target};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

#[allow(clippy::disallowed_methods, reason = "a game has a clock of its own")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "quip-data".to_owned());
    let user = arguments.next().unwrap_or_else(|| "alice".to_owned());
    let seconds: u64 = arguments.next().map_or(Ok(10), |seconds| seconds.parse())?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = {
        let _inside = runtime.enter();
        Client::start(Config::dev(&folder, &user)?)?
    };
    // Neither waits, also without a network.
    let mut lobby = client.open_now(Target::room("lobby:main")?, OpenOptions::join().start(Start::Now))?;
    let mut receipt = Some(lobby.sender().try_send(&format!("{user} is ready"))?);

    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for frame in 1.. {
        let looked = Instant::now();
        while let Some(event) = lobby.try_next() {
            match event {
                ConversationEvent::Event(event) => match event.content() {
                    Content::Text(text) => println!("{}: {text}", event.user),
                    other => println!("{}: {other:?}", event.user),
                },
                ConversationEvent::Ended(code) => return Err(format!("the lobby ended: {code}").into()),
                _ => {}
            }
        }
        if lobby.is_over() {
            return Err(format!("the client is closed: {:?}", *client.state().borrow()).into());
        }
        if let Some(accepted) = receipt.as_mut().and_then(|receipt| receipt.try_accepted()) {
            println!("-- ready, as event {}", accepted?.seq);
            receipt = None;
        }
        longest = longest.max(looked.elapsed());
        if begun.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        // Here the game draws.
        thread::sleep((FRAME * frame).saturating_sub(begun.elapsed()));
    }
    println!("-- the longest look took {longest:?}; the connection: {:?}", *client.state().borrow());
    runtime.block_on(client.close());
    Ok(())
}
