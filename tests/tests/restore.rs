//! A data folder is copied, the relay goes on, and the copy comes back.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use quip_client::{Client, Config, Conversation, ConversationEvent, OpenOptions, Target, Trust};
use quip_protocol::conversation::Start;
use quip_tests::{
    raw::Raw,
    relay::{PATIENCE, Relay, relay_binary},
    talk::room,
};

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().map(fs::DirEntry::path).unwrap_or_default(), to.join(entry?.file_name()));
        if from.is_dir() { copy(&from, &to)? } else { fs::copy(from, to).map(drop)? }
    }
    Ok(())
}

/// Bob posts these, one after the other. He has a new client each time, which counts on from what the relay knows.
async fn posts(relay: &Relay, texts: &[&str]) -> Result<()> {
    let bob = Raw::login(relay, "bob").await?;
    let (mut lobby, opening) = bob.reopen(&room("lobby:main"), Start::Now).await?;
    for (n, text) in (opening.last_n + 1..).zip(texts) {
        lobby.post_accepted(n, text).await?;
    }
    Ok(())
}

/// What a reader gets up to a text: `None` for a reset, which is to be at the first event, and otherwise each seq and text.
async fn read_to(conversation: &mut Conversation, last: &str) -> Result<Vec<Option<(u64, String)>>> {
    let mut read = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, conversation.next()).await.context("nothing comes")?;
        match next.context("the conversation ended")? {
            ConversationEvent::Event(event) => {
                let text = String::from_utf8_lossy(&event.body).into_owned();
                let is_last = text == last;
                read.push(Some((event.seq, text)));
                if is_last {
                    return Ok(read);
                }
            }
            ConversationEvent::Reset { first, .. } => {
                ensure!(first == 1, "a reset to {first}");
                read.push(None);
            }
            ConversationEvent::Reconnected | ConversationEvent::CaughtUp => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_was_ahead_of_the_backup_misses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(&folder.path().join("relay"), "");
    relay.run()?;
    let (address, trust) = (relay.address.to_string(), Trust::Fingerprint(relay.fingerprint()?));
    let alice = Client::connect(Config::new([address], trust, relay.token("alice")?)).await?;
    let mut lobby = alice.open(Target::room("lobby:main")?, OpenOptions::join()).await?;
    {
        let bob = Raw::login(&relay, "bob").await?;
        bob.enter(&room("lobby:main")).await?;
    }
    posts(&relay, &["3", "4", "5"]).await?;
    read_to(&mut lobby, "5").await?;

    relay.terminate()?;
    let backup = folder.path().join("backup");
    copy(&relay.data(), &backup)?;
    relay.run()?;
    posts(&relay, &["6", "7", "8", "9"]).await?;
    read_to(&mut lobby, "9").await?;

    relay.terminate()?;
    fs::remove_dir_all(relay.data())?;
    copy(&backup, &relay.data())?;
    let restored = Command::new(relay_binary()).arg("restore").arg("--data").arg(relay.data()).output()?;
    ensure!(restored.status.success(), "{restored:?}");
    println!("{}", String::from_utf8_lossy(&restored.stdout));
    relay.run()?;
    posts(&relay, &["f", "g", "h", "i", "j", "k", "l"]).await?;

    let read = read_to(&mut lobby, "l").await?;
    println!("{read:?}");
    let texts = ["", "", "3", "4", "5", "f", "g", "h", "i", "j", "k", "l"].map(str::to_owned);
    let all = [None].into_iter().chain((1..).zip(texts).map(Some)).collect::<Vec<_>>();
    ensure!(read == all, "{read:?}");
    let receipt = lobby.send("what did I miss?").await?;
    let accepted = tokio::time::timeout(PATIENCE, receipt.accepted()).await.context("no answer")??;
    ensure!(accepted.seq == 13, "{accepted:?}");
    Ok(())
}
