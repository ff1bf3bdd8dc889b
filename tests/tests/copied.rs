//! A data folder that is copied back without a word: clients notice.

use anyhow::{Context, Result, bail};
use quip_client::{Client, ClientEvent, Config, Conversation, ConversationEvent, OpenOptions, Target, Trust};
use quip_protocol::{
    Blob, ConversationId, Event,
    conversation::{Add, Open, Post, Skip, Start, Target as RawTarget, skip},
    event::kind,
};
use quip_tests::{
    raw::Raw,
    relay::{PATIENCE, Relay, copy_folder},
    talk::{FROM_THE_START, room},
};
use tokio::time::timeout;

/// The texts that an app is given until it has seen one that ends with `last`, with what else it is given in between.
async fn read_to(conversation: &mut Conversation, last: &str) -> Result<Vec<String>> {
    let mut given = Vec::new();
    loop {
        let event = timeout(PATIENCE, conversation.next()).await.context("nothing comes")?.context("it ended")?;
        match event {
            ConversationEvent::Event(event) if event.kind == kind::TEXT => {
                given.push(event.text().context("a text")?.to_owned());
                if given.last().is_some_and(|text| text.ends_with(last)) {
                    return Ok(given);
                }
            }
            ConversationEvent::Reset { .. } => given.push("reset".to_owned()),
            ConversationEvent::Skipped { .. } => given.push("skipped".to_owned()),
            ConversationEvent::Ended(code) => bail!("it ended with {code}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_app_is_told_that_the_relay_is_behind_and_gets_everything_of_the_log_that_went_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(&folder.path().join("relay"), "");
    relay.run()?;
    let trust = Trust::Fingerprint(relay.fingerprint()?);
    let bob = Client::connect(Config::new([relay.address.to_string()], trust, relay.token("bob")?)).await?;
    let mut told = bob.events();
    let mut at_bob = bob.open(Target::room("lobby:main")?, OpenOptions::join()).await?;

    let post = async |relay: &Relay, texts: &[&str]| {
        let alice = Raw::login(relay, "alice").await?;
        let (mut stream, opening) = alice.enter(&room("lobby:main")).await?;
        for (text, n) in texts.iter().zip(opening.last_n + 1..) {
            stream.done(&self::text(n, text)).await?;
        }
        anyhow::Ok(())
    };
    post(&relay, &["one", "two"]).await?;
    assert_eq!(read_to(&mut at_bob, "two").await?, ["one", "two"]);
    assert!(relay.terminate()?.success());
    let (data, copy) = (relay.data(), folder.path().join("copy"));
    copy_folder(&data, &copy)?;

    relay.run()?;
    post(&relay, &["three", "four"]).await?;
    assert_eq!(read_to(&mut at_bob, "four").await?, ["three", "four"]);
    assert!(relay.terminate()?.success());
    std::fs::remove_dir_all(&data)?;
    copy_folder(&copy, &data)?;

    relay.run()?;
    let behind = async {
        loop {
            match told.next().await {
                Some(ClientEvent::Behind { head, .. }) => return head,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    };
    let head = timeout(PATIENCE, behind).await.context("nobody says that the relay is behind")?;
    assert!(relay.log().contains("quip-relay restore"), "the log says once what to do");
    let texts: Vec<String> = (0..head).map(|number| format!("new {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(["last"]).collect();
    post(&relay, &texts).await?;
    let all: Vec<&str> = ["reset", "one", "two"].into_iter().chain(texts).collect();
    assert_eq!(read_to(&mut at_bob, "last").await?, all);
    bob.close().await;
    Ok(())
}

#[tokio::test]
async fn one_who_was_added_later_in_the_log_that_went_on_learns_that_it_is_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut relay = Relay::prepare(&folder.path().join("relay"), "");
    relay.run()?;
    let id = ConversationId::group(rand::random());
    let target = RawTarget::Id(id);
    let alice = Raw::login(&relay, "alice").await?;
    alice.enter(&RawTarget::NewGroup(id)).await?;
    drop(alice);
    assert!(relay.terminate()?.success());
    let (data, copy) = (relay.data(), folder.path().join("copy"));
    copy_folder(&data, &copy)?;

    // Adds bob behind some texts of alice's.
    let add_bob = async |relay: &Relay, texts: u64| {
        let alice = Raw::login(relay, "alice").await?;
        let (mut stream, opening) = alice.reopen(&target, Start::Now).await?;
        for n in 2..2 + texts {
            stream.done(&text(n, "before bob")).await?;
        }
        stream.done(&Add { n: 2 + texts, user: "bob" }).await?;
        anyhow::Ok(opening.generation)
    };
    relay.run()?;
    add_bob(&relay, 1).await?;
    let bob = Raw::login(&relay, "bob").await?;
    let (mut at_bob, _) = bob.reopen(&target, FROM_THE_START).await?;
    let (seq, digest) = loop {
        if let Some(event) = at_bob.frame().await?.to::<Event<'_>>() {
            break (event.seq, event.digest());
        }
    };
    assert_eq!(seq, 3);
    assert!(relay.terminate()?.success());
    std::fs::remove_dir_all(&data)?;
    copy_folder(&copy, &data)?;

    relay.run()?;
    let generation = add_bob(&relay, 7).await?;
    let bob = Raw::login(&relay, "bob").await?;
    let mut open = Open::new(&target, 0, Start::After { generation, seq });
    open.digest = digest;
    let mut at_bob = bob.stream().await?;
    at_bob.send(&open).await?;
    assert_eq!(at_bob.frame().await?.opened()?.start, 3, "at or below the cursor");
    assert_eq!(at_bob.frame().await?.to::<Skip>(), Some(Skip { to: 8, why: skip::NOT_VISIBLE }));
    assert_eq!(at_bob.seen().await?.seq, 9);
    Ok(())
}

fn text(n: u64, text: &str) -> Post<'_> {
    Post { n, kind: kind::TEXT, body: Blob(text.as_bytes()) }
}
