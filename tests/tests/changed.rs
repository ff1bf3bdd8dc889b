//! What a device is told of conversations that it does not have open, so that its list shows what is unread.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quip_client::{Client, ClientEvent, Config, ConversationEvent, OpenOptions, Trust};
use quip_protocol::{
    Blob, Code, ConversationId, UserId,
    conversation::{Add, Edit, Remove, SetRole, SetTitle, Start, Target},
    event::{kind, role},
    session::Changed,
};
use quip_tests::{
    raw::{Raw, RawOptions, RawStream},
    relay::{PATIENCE, Relay},
    talk::{Answer, direct, room},
};

/// No limit on the rate, and a short interval.
const QUICK: &str = "[limits]\nmessages_per_second = 0\nchanged_interval = \"200ms\"\n";

/// A group by `owner` with these other members, and the owner's stream and next `n`.
async fn group(owner: &Raw, members: &[&str]) -> Result<(ConversationId, RawStream, u64)> {
    let id = ConversationId::group(rand::random());
    let (mut stream, _) = owner.enter(&Target::NewGroup(id)).await?;
    let mut n = 1;
    for user in members {
        n += 1;
        stream.done(&Add { n, user }).await?;
    }
    Ok((id, stream, n + 1))
}

/// What comes next, passing over membership changes.
async fn changed(client: &mut Raw) -> Result<(ConversationId, u64, u64, u8)> {
    loop {
        let frame = client.told::<Changed<'_>>().await?;
        let changed = frame.to::<Changed<'_>>().context("changed")?;
        if changed.number > 0 {
            return Ok((changed.conversation, changed.head, changed.number, changed.role));
        }
    }
}

/// What a notification shows: its event, the name of the conversation, the kind, the author and the preview.
type News = (u64, String, u64, String, String);

async fn news(client: &mut Raw) -> Result<News> {
    let frame = client.told::<Changed<'_>>().await?;
    let changed = frame.to::<Changed<'_>>().context("changed")?;
    let Changed { head, name, kind, user, preview, at, .. } = changed;
    ensure!((at > 0) == (head > 0), "{changed:?}");
    Ok((head, name.to_owned(), kind, user.to_owned(), preview.to_owned()))
}

fn shown(head: u64, name: &str, kind: u64, user: &str, preview: &str) -> News {
    (head, name.to_owned(), kind, user.to_owned(), preview.to_owned())
}

/// Posts so many texts, at most 50 of them unanswered, and waits until all are accepted.
async fn post(stream: &mut RawStream, first: u64, count: u64) -> Result<()> {
    let last = first + count - 1;
    for first in (first..=last).step_by(50) {
        let some = first..=last.min(first + 49);
        for n in some.clone() {
            stream.post(n, "news").await?;
        }
        for _ in some {
            ensure!(stream.answer().await?.code() == Code::DONE);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_is_not_open_is_notified_once_per_interval() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut bob, mut carol) = (Raw::login(&relay, "bob").await?, Raw::login(&relay, "carol").await?);
    let mut eve = Raw::login(&relay, "eve").await?;
    let (id, mut stream, n) = group(&alice, &["bob", "carol", "zoe"]).await?;
    stream.done(&SetRole { n, user: "bob", role: role::ADMIN }).await?;
    let (_at_carol, _) = carol.reopen(&Target::Id(id), Start::Now).await?;

    let begun = Instant::now();
    post(&mut stream, n + 1, 200).await?;
    // Created, three added, one promoted, and the messages.
    let last = (id, 205, 200, role::ADMIN);
    let mut told = Vec::new();
    while told.last() != Some(&last) {
        told.push(changed(&mut bob).await?);
    }
    let intervals = begun.elapsed().as_millis() / 200;
    assert!(told.len() as u128 <= intervals, "{} times in {intervals} intervals", told.len());
    assert!(told.is_sorted_by(|one, next| one.1 < next.1), "{told:?}");

    // Who has it open, and who is no member, is told nothing of it.
    let (mut at_eve, _) = eve.enter(&direct("alice")).await?;
    at_eve.post_accepted(2, "psst").await?;
    let (mut at_alice, _) = alice.enter(&direct("carol")).await?;
    at_alice.post_accepted(2, "psst").await?;
    let (mut at_carol, _) = carol.enter(&direct("eve")).await?;
    at_carol.post_accepted(2, "psst").await?;
    let with = |one: &str, other: &str| -> Result<ConversationId> {
        Ok(ConversationId::direct(&UserId::parse(one)?, &UserId::parse(other)?))
    };
    assert_eq!(changed(&mut carol).await?.0, with("alice", "carol")?);
    assert_eq!(changed(&mut eve).await?.0, with("carol", "eve")?);
    Ok(())
}

#[tokio::test]
async fn a_notification_of_a_group_has_what_an_app_shows() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (mut bob, mut carol) = (Raw::login(&relay, "bob").await?, Raw::login(&relay, "carol").await?);
    let (_, mut stream, n) = group(&alice, &["bob"]).await?;
    assert_eq!(news(&mut bob).await?, shown(2, "", kind::ADDED, "alice", ""), "the membership began");
    stream.done(&SetTitle { n, title: "Tea" }).await?;
    // 129 bytes, of which the last character does not fit.
    stream.post_accepted(n + 1, &("x".to_owned() + &"é".repeat(64))).await?;
    let preview = "x".to_owned() + &"é".repeat(63);
    assert_eq!(news(&mut bob).await?, shown(4, "Tea", kind::TEXT, "alice", &preview));
    stream.data(n + 2, b"not for people").await?;
    ensure!(stream.answer().await?.code() == Code::DONE);
    assert_eq!(news(&mut bob).await?, shown(5, "Tea", kind::DATA, "alice", ""));

    // One who comes behind a message is not notified of it, however soon they come.
    stream.post_accepted(n + 3, "before").await?;
    stream.done(&Add { n: n + 4, user: "carol" }).await?;
    assert_eq!(news(&mut bob).await?, shown(6, "Tea", kind::TEXT, "alice", "before"));
    stream.post_accepted(n + 5, "after").await?;
    assert_eq!(news(&mut carol).await?, shown(7, "Tea", kind::ADDED, "alice", ""));
    assert_eq!(news(&mut carol).await?, shown(8, "Tea", kind::TEXT, "alice", "after"));
    stream.done(&Remove { n: n + 6, user: "carol", ban: false }).await?;
    assert_eq!(news(&mut carol).await?, shown(9, "Tea", kind::REMOVED, "alice", ""), "the last event that they see");
    Ok(())
}

#[tokio::test]
async fn a_notification_of_a_direct_conversation_names_the_other_user() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let (alice, mut other) =
        (Raw::login(&relay, "alice").await?, Raw::login_as(&relay, "alice", 2, RawOptions::default()).await?);
    let mut bob = Raw::login(&relay, "bob").await?;
    let (mut stream, _) = alice.enter(&direct("bob")).await?;
    assert_eq!(news(&mut bob).await?, shown(0, "alice", 0, "", ""), "no event");
    assert_eq!(news(&mut other).await?, shown(0, "bob", 0, "", ""));
    stream.post_accepted(2, "hello").await?;
    assert_eq!(news(&mut bob).await?, shown(1, "alice", kind::TEXT, "alice", "hello"));
    assert_eq!(news(&mut other).await?, shown(1, "bob", kind::TEXT, "alice", "hello"), "their own, said elsewhere");
    Ok(())
}

#[tokio::test]
async fn only_messages_cause_notifications() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut bob = Raw::login(&relay, "bob").await?;
    let (quiet, mut at_quiet, n) = group(&alice, &["bob"]).await?;
    let (loud, mut at_loud, m) = group(&alice, &["bob"]).await?;
    post(&mut at_quiet, n, 1).await?;
    assert_eq!(changed(&mut bob).await?, (quiet, 3, 1, role::MEMBER));
    at_quiet.done(&SetTitle { n: n + 1, title: "quiet" }).await?;
    at_quiet.done(&Edit { n: n + 2, target: 3, body: Blob(b"other news") }).await?;
    // Later than the others, which would have been told before it.
    post(&mut at_loud, m, 1).await?;
    assert_eq!(changed(&mut bob).await?, (loud, 3, 1, role::MEMBER));
    Ok(())
}

#[tokio::test]
async fn large_groups_and_rooms_are_asked_for() -> Result<()> {
    let relay = Relay::with(&format!("{QUICK}changed_group_members = 3\n"))?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut bob = Raw::login(&relay, "bob").await?;
    let (_, mut at_large, n) = group(&alice, &["bob", "carol", "dave"]).await?;
    let (small, mut at_small, m) = group(&alice, &["bob", "carol"]).await?;
    let (mut at_room, _) = alice.enter(&room("lobby:main")).await?;
    drop(bob.enter(&room("lobby:main")).await?);
    at_room.seen().await?;
    at_room.post_accepted(2, "nobody is told").await?;
    post(&mut at_large, n, 1).await?;
    post(&mut at_small, m, 1).await?;
    assert_eq!(changed(&mut bob).await?, (small, 4, 1, role::MEMBER));
    Ok(())
}

#[tokio::test]
async fn every_connected_member_of_a_large_group_is_notified() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let names: Vec<String> = (0..700).map(|number| format!("member-{number:03}")).collect();
    let (id, mut stream, _) = group(&alice, &[]).await?;
    // As many on the way as may be.
    for (names, first) in names.chunks(60).zip((2_u64..).step_by(60)) {
        for (user, n) in names.iter().zip(first..) {
            stream.send(&Add { n, user }).await?;
        }
        for _ in names {
            let answer = stream.answer().await?;
            ensure!(!matches!(answer, Answer::Rejected(_)), "{answer:?}");
        }
    }
    let mut here = Vec::new();
    for name in [&names[0], &names[255], &names[256], &names[511], &names[512], &names[699]] {
        here.push(Raw::login(&relay, name).await?);
    }
    post(&mut stream, 702, 1).await?;
    for client in &mut here {
        assert_eq!(changed(client).await?, (id, 702, 1, role::MEMBER));
    }
    Ok(())
}

#[tokio::test]
async fn a_removed_member_is_notified_of_that_last() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let mut bob = Raw::login(&relay, "bob").await?;
    let (id, mut stream, n) = group(&alice, &["bob"]).await?;
    post(&mut stream, n, 1).await?;
    stream.done(&Remove { n: n + 1, user: "bob", ban: false }).await?;
    let (other, mut at_other, m) = group(&alice, &["bob"]).await?;
    post(&mut at_other, m, 1).await?;
    let mut roles = Vec::new();
    loop {
        let frame = bob.told::<Changed<'_>>().await?;
        let changed = frame.to::<Changed<'_>>().context("changed")?;
        match changed.conversation {
            conversation if conversation == id => roles.push(changed.role),
            conversation if conversation == other && changed.number == 1 => break,
            _ => {}
        }
    }
    assert_eq!(roles, [role::MEMBER, 0]);
    Ok(())
}

#[tokio::test]
async fn an_app_sees_what_is_unread_in_its_list() -> Result<()> {
    let relay = Relay::with(QUICK)?;
    let alice = Raw::login(&relay, "alice").await?;
    let (id, mut stream, n) = group(&alice, &["bob"]).await?;
    let config =
        Config::new([relay.address.to_string()], Trust::Fingerprint(relay.fingerprint()?), relay.token("bob")?);
    let bob = Client::connect(config).await?;
    let mut events = bob.events();
    post(&mut stream, n, 3).await?;
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.next().await {
                Some(ClientEvent::Changed { conversation, number: 3, name, kind, user, preview, at, .. }) => {
                    return (conversation, name, kind, user, preview, at > 0);
                }
                Some(_) => {}
                None => tokio::time::sleep(Duration::MAX).await,
            }
        }
    });
    let author = Some(UserId::parse("alice")?);
    assert_eq!(told.await?, (id, String::new(), kind::TEXT, author, "news".to_owned(), true));
    let page = bob.list(None, 10).await?;
    let entry = page.items.first().context("an entry")?;
    assert_eq!((entry.conversation, entry.unread()), (id, 3));

    // Once it is open, its events come there instead.
    let mut open = bob.open(quip_client::Target::id(id), OpenOptions::default()).await?;
    post(&mut stream, n + 3, 1).await?;
    while let Some(event) = open.next().await {
        match event {
            ConversationEvent::Event(event) if event.number == 4 => break,
            _ => {}
        }
    }
    bob.close().await;
    while let Some(event) = events.next().await {
        ensure!(!matches!(event, ClientEvent::Changed { number: 4, .. }), "{event:?}");
    }
    Ok(())
}
