//! The first example of the README.

use quip_client::{Client, Config, ConversationEvent, OpenOptions, Target};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(Config::dev("quip-data", "alice")?).await?; // the relay from above
    let mut room = client.open(Target::room("lobby:main")?, OpenOptions::join()).await?;
    let receipt = room.send("hello").await?; // saved in the outbox, being sent
    let accepted = receipt.accepted().await?; // durable, with its place in the conversation
    println!("that was event {}", accepted.seq);
    while let Some(event) = room.next().await {
        // Every member's device sees the same sequence.
        let ConversationEvent::Event(event) = event else { continue };
        println!("{}: {}", event.user, event.text().unwrap_or("..."));
    }
    Err(format!("the conversation is over: {:?}", *client.state().borrow()).into())
}
