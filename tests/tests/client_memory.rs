//! What a client of the library costs its process.

use allocation_counter::measure;
use anyhow::{Context, Result};
use quip_client::{Client, Config, Conversation, ConversationEvent, OpenOptions, Start, Target, Trust};
use quip_tests::relay::Relay;

/// Clients that are measured.
const CLIENTS: usize = 20;
/// The most bytes that one may hold, with a conversation in which it said and read something.
const MOST: usize = 160 * 1024;

async fn clients(relay: &Relay, count: usize) -> Result<Vec<(Client, Conversation)>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let trust = Trust::Fingerprint(relay.fingerprint()?);
        let token = relay.token(&format!("user {}", rand::random::<u64>()))?;
        let client = Client::connect(Config::new([relay.address.to_string()], trust, token)).await?;
        let options = OpenOptions::join().start(Start::Now);
        let mut conversation = client.open(Target::room("lobby:main")?, options).await?;
        let said = conversation.send("hello").await?.accepted().await?.seq;
        while !matches!(conversation.next().await.context("over")?, ConversationEvent::Event(event) if event.seq == said)
        {
        }
        clients.push((client, conversation));
    }
    Ok(clients)
}

/// Counts what is allocated, so that it does not depend on the allocator and on what the kernel makes of it.
#[test]
fn a_client_takes_little_memory() -> Result<()> {
    let relay = Relay::start()?;
    // All on this thread, which is the one that is counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The first one brings what all share.
    let first = runtime.block_on(clients(&relay, 1))?;
    let mut more = Ok(Vec::new());
    let measured = measure(|| more = runtime.block_on(clients(&relay, CLIENTS)));
    assert_eq!((first.len(), more?.len()), (1, CLIENTS));
    let each = usize::try_from(measured.bytes_current)? / CLIENTS;
    println!("a client takes {each} bytes");
    assert!(each <= MOST, "a client takes {each} bytes");
    Ok(())
}
